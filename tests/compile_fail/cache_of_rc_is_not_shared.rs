//! A key or value that must stay on its thread keeps its cache and the loads there.

use std::rc::Rc;

use stanchion::LruCache;

fn send<T: Send>(_: T) {}
fn share<T: Sync>(_: &T) {}

fn main() {
    let of_values = LruCache::<u8, Rc<u8>>::new(1);
    share(&of_values); //~ E0277
    send(of_values.get_or_load(&1, || async { unreachable!() })); //~ E0277
    send(of_values); //~ E0277
    let of_keys = LruCache::<Rc<u8>, u8>::new(1);
    share(&of_keys); //~ E0277
    send(of_keys); //~ E0277
}
