//! Stores, finds, weighs, evicts, expires and forgets entries in a shard of the cache.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stanchion_fuzz::shard(data));
