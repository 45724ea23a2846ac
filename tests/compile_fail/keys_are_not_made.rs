//! A key comes from a push.

use stanchion::Key;

fn main() {
    let _ = Key(1); //~ E0423
}
