//! Gets, inserts, loads, removes, resizes, cancels, and more, with loaders in the hands of the fuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stanchion_fuzz::lru_cache(data));
