//! Feeds `qcow2` of the lab's fuzz targets.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| onggi_lab::fuzz::qcow2(bytes));
