//! Inserts, parks, admits, removes and relocates items in the orders of a queue.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stanchion_fuzz::order(data));
