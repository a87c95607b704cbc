//! See `quorate_fuzz::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _accepted = quorate_fuzz::frame(bytes);
});
