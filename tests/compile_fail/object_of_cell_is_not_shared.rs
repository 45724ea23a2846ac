//! An object that is shared gives `&T` to several threads; its pool gives it to one at a time.

use std::cell::Cell;
use std::sync::Arc;

use stanchion::Pool;

fn send<T: Send>(_: T) {}
fn share<T: Sync>(_: &T) {}

fn main() {
    let pool = Arc::new(Pool::from_objects([Cell::new(1)]));
    share(&*pool);
    share(&pool.try_get().unwrap()); //~ E0277
    share(&pool.clone().try_get_owned().unwrap()); //~ E0277
    send(pool.try_get().unwrap());
}
