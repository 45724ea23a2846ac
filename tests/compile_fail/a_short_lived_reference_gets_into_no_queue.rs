//! What comes out of a queue lives as long as the queue says, so nothing that lives shorter may get in.

use stanchion::PriorityQueue;

fn put<'s>(queue: &PriorityQueue<&'s str, &'s str>, text: &'s str) {
    let _ = queue.try_push(text, text);
}

fn shorten_items<'a, 's>(queue: &'a PriorityQueue<u8, &'static str>) -> &'a PriorityQueue<u8, &'s str> {
    queue //~ lifetime
}

fn shorten_priorities<'a, 's>(queue: &'a PriorityQueue<&'static str, u8>) -> &'a PriorityQueue<&'s str, u8> {
    queue //~ lifetime
}

fn main() {
    static QUEUE: PriorityQueue<&'static str, &'static str> = PriorityQueue::unbounded();
    put(&QUEUE, "static");
}
