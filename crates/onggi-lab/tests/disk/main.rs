//! Files inside disk images: file systems are made and filled by the kernel, stored, and what onggi brings back of them is
//! compared with what was put in. Hostile images end in errors.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod content;
mod hostile;
mod refused;
mod rig;
