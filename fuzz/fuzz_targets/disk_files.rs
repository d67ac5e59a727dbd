//! Feeds `disk_files` of the lab's fuzz targets.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| onggi_lab::fuzz::disk_files(bytes));
