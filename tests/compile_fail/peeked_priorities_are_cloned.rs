//! A priority that is shown stays in the queue, so it must be one that can be cloned.

use stanchion::PriorityQueue;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Urgency(u8);

fn main() {
    let queue = PriorityQueue::<Urgency, u8>::unbounded();
    let _ = queue.peek_priority(); //~ E0277
    let key = queue.try_push(Urgency(1), 1).unwrap();
    let _ = queue.priority(key); //~ E0277
}
