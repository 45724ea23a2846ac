//! Pushes, pops, removes, cancels, closes, and more, with an order that may panic and user code that may re-enter.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stanchion_fuzz::priority_queue(data));
