//! Links, unlinks, moves and forgets values in an arena.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stanchion_fuzz::arena(data));
