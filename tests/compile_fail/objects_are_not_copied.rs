//! An object returns once.

use stanchion::Pool;

struct Connection;

fn main() {
    let pool = Pool::from_objects([Connection]);
    let object = pool.try_get().unwrap();
    let _copy = object.clone(); //~ E0599
}
