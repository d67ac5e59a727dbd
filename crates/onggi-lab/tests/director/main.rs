//! The client of Directors against a Director: entering, tasks, users on instances, and the ways there.

mod cost;
mod deadman;
mod entry;
mod native;
mod place;
mod resume;
mod route;
mod sequence;
mod tree;
mod trust;
mod visit;
