//! The futures of a queue leave it when they are dropped, so it must be there.

use stanchion::{Pop, PriorityQueue, Push};

fn main() {
    let push: Push<'_, u8, u8> = {
        let queue = PriorityQueue::<u8, u8>::unbounded();
        queue.push(1, 1) //~ E0597
    };
    drop(push);
    let pop: Pop<'_, u8, u8> = {
        let queue = PriorityQueue::<u8, u8>::unbounded();
        queue.pop() //~ E0597
    };
    drop(pop);
}
