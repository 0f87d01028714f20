//! The answer decoder, under any bytes.
#![no_main]

#[path = "../invariants/answer.rs"]
mod answer;

libfuzzer_sys::fuzz_target!(|data: &[u8]| answer::check(data));
