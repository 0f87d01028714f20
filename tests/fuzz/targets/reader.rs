//! The manifest reader, under any bytes.
#![no_main]

#[path = "../invariants/reader.rs"]
mod reader;

libfuzzer_sys::fuzz_target!(|data: &[u8]| reader::check(data));
