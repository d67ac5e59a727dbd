//! The command line as a person or a program meets it: whole outputs and exit codes of the real binary, in a home of its
//! own, in UTC, without the caller's environment.

#![expect(clippy::unwrap_used, reason = "all of it is test code")]

mod environment;
mod terminal;

mod copies;
mod cronjob;
mod exits;
mod first_minutes;
mod forged;
mod help;
mod inputs;
mod interrupted;
mod names;
mod wrapper;
