//! The program: reads the command line, runs one command, tells how it ended.
//!
//! Each command has one file under `command/`. Nothing here decides what a server would have to decide too.

mod ask;
mod cli;
mod command;
mod escape;
mod failure;
mod figure;
#[cfg(feature = "mount")]
mod mount;
mod output;
mod progress;
mod show;
mod value;
mod watcher;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::{Output, Style, Verbosity};
use onggi_engine::exit::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => {
            let _ = refusal.print();
            return ExitCode::from(u8::try_from(refusal.exit_code()).unwrap_or(Exit::Usage.code()));
        }
    };
    let output = Output::standard(style_of(&cli));
    let result = command::run(cli, &output);
    let exit = result.unwrap_or_else(|failure| {
        failure.report(&output);
        failure.exit()
    });
    let exit = output.finish().map_or_else(
        |fault| {
            let failure = Failure::local("write to standard output", &fault);
            failure.report(&output);
            failure.exit()
        },
        |()| exit,
    );
    ExitCode::from(exit.code())
}

fn style_of(cli: &Cli) -> Style {
    let globals = &cli.globals;
    let verbosity = match (globals.quiet, globals.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, 0) => Verbosity::Normal,
        (false, 1) => Verbosity::Verbose,
        (false, _) => Verbosity::Debug,
    };
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let color = !globals.no_color && !is_set("NO_COLOR");
    Style::detect(globals.json, verbosity, color, is_utf8())
}

/// Whether the locale says that the terminal shows UTF-8.
fn is_utf8() -> bool {
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    locale.is_some_and(|name| name.to_lowercase().replace('-', "").contains("utf8"))
}
