//! A reference into an object must not outlive it: the next user has the object to itself.

use stanchion::{Object, Pool};

fn main() {
    let pool = Pool::from_objects([String::from("text")]);
    let mut object = pool.try_get().unwrap();
    let text: &mut String = &mut object;
    drop(object); //~ E0505
    text.clear();
    let object = pool.try_get().unwrap();
    let text: &String = &object;
    Object::detach(object).clear(); //~ E0505
    drop(text.clone());
}
