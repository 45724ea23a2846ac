//! An object returns, is discarded or leaves once.

use stanchion::{Object, Pool};

fn main() {
    let pool = Pool::from_objects([1, 2]);
    let object = pool.try_get().unwrap();
    Object::discard(object);
    drop(object); //~ E0382
    let object = pool.try_get().unwrap();
    let _: u8 = Object::detach(object);
    drop(object); //~ E0382
}
