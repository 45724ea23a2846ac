//! Gets, returns, recycles, cancels, resizes, closes, and more, with a manager in the hands of the fuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stanchion_fuzz::pool(data));
