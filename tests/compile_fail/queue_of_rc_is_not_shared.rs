//! An item, or a priority, that must stay on its thread keeps its queue and the futures there.

use std::rc::Rc;

use stanchion::PriorityQueue;

fn send<T: Send>(_: T) {}
fn share<T: Sync>(_: &T) {}

fn main() {
    let of_items = PriorityQueue::<u8, Rc<u8>>::unbounded();
    share(&of_items); //~ E0277
    send(of_items.pop()); //~ E0277
    send(of_items.push(1, Rc::new(1))); //~ E0277
    let of_priorities = PriorityQueue::<Rc<u8>, u8>::unbounded();
    share(&of_priorities); //~ E0277
    send(of_priorities.pop()); //~ E0277
    send(of_priorities.push(Rc::new(1), 1)); //~ E0277
}
