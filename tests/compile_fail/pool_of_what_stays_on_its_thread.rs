//! A pool is shared by threads: what it keeps, and what makes that, may go to any of them.

use std::convert::Infallible;
use std::future::ready;
use std::rc::Rc;

use stanchion::{Manager, Pool};

struct HoldsRc;

impl Manager for HoldsRc {
    type Object = u8;
    type Error = Infallible;

    async fn create(&self) -> Result<u8, Infallible> { //~ future
        let held = Rc::new(1);
        ready(()).await;
        Ok(*held)
    }

    async fn recycle(&self, _: &mut u8, _: &stanchion::Metrics) -> Result<(), Infallible> { //~ future
        let held = Rc::new(1);
        ready(()).await;
        drop(held);
        Ok(())
    }
}

struct MakesRc;

impl Manager for MakesRc {
    type Object = Rc<u8>; //~ E0277
    type Error = Infallible;

    async fn create(&self) -> Result<Rc<u8>, Infallible> {
        unreachable!()
    }
}

fn main() {
    Pool::from_objects([Rc::new(1)]); //~ E0277
}
