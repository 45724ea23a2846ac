//! Acquires, releases, cancels, closes, and more, with wakers that may re-enter.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stanchion_fuzz::semaphore(data));
