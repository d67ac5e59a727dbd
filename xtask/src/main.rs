//! onggi.
fn main() {}
