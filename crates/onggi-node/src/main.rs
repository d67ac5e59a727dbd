//! The program on a node: walks, reads and reports over stdin and stdout, and never writes a file; or, started by an
//! operator for just that, writes what a restore brings below one directory.
//!
//! One thread takes requests, a few walk and read, one sends. Those that touch files give up every right to write first,
//! where the kernel can enforce it. The end of stdin is the end of the program, whatever still runs.

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::run(std::env::args_os().skip(1))
}
