//! Objects return to their pool, and its futures leave it when they are dropped, so it must be there.

use stanchion::{Fixed, Get, Object, Pool, PoolClosed};

fn main() {
    let object: Object<'_, Fixed<u8>> = {
        let pool = Pool::from_objects([1]);
        pool.try_get().unwrap() //~ E0597
    };
    drop(object);
    let get: Get<'_, Fixed<u8>> = {
        let pool = Pool::from_objects([1]);
        pool.get() //~ E0597
    };
    drop(get);
    let closed: PoolClosed<'_, Fixed<u8>> = {
        let pool = Pool::from_objects([1]);
        pool.closed() //~ E0597
    };
    drop(closed);
    let replenish = {
        let pool = Pool::from_objects([1]);
        pool.replenish() //~ E0597
    };
    drop(replenish);
}
