//! The models.
fn main() {}
