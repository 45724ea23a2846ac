//! A priority that is shown stays in the queue, so it must be one that can be copied.

use stanchion::PriorityQueue;

fn main() {
    let queue = PriorityQueue::<String, u8>::unbounded();
    let _ = queue.peek_priority(); //~ E0277
}
