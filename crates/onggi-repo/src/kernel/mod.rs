//! The small functions that touch every byte. They know nothing of repositories and can be replaced one by one.

pub mod checksum;
pub mod cipher;
pub mod hash;
pub mod scan;
