//! The `Vec` is borrowed as long as items may be appended to it.

use stanchion::PriorityQueue;

fn main() {
    let queue = PriorityQueue::<u8, u8>::unbounded();
    let mut into = Vec::new();
    let many = queue.pop_many(&mut into, 3);
    into.clear(); //~ E0499
    drop(many);
}
