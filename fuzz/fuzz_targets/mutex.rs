//! Locks, maps, writes, unlocks and cancels.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stanchion_fuzz::mutex(data));
