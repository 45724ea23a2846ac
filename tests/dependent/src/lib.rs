//! A crate that depends on stanchion as others do: four small structures, each in a form with a bug that people really
//! write and in a right one. The ordinary tests pass for both; loom, in `tests/loom`, tells them apart.

pub mod accounts;
pub mod gate;
pub mod jobs;
pub mod slot;
mod sync;
