//! A crate that depends on stanchion as others do: four small structures, each in a form with a common bug and in a right
//! one. The ordinary tests pass for both; the models in `tests/loom` tell them apart.

pub mod accounts;
pub mod gate;
pub mod jobs;
pub mod slot;
mod sync;
