//! The program: reads the command line, runs one command, tells how it ended.
//!
//! Each command has one file under `command/`. Nothing here decides what a server would have to decide too.

mod ask;
mod cli;
mod command;
mod counted;
mod escape;
mod failure;
mod figure;
mod interrupt;
mod log;
mod machine;
mod member;
#[cfg(feature = "mount")]
mod mount;
mod opening;
mod output;
mod progress;
mod query;
mod record;
mod recovery;
mod session;
mod show;
mod value;
mod watcher;
mod world;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use onggi_engine::exit::Exit;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::cli::{Cli, Globals};
use crate::command::Command;
use crate::failure::Failure;
use crate::output::{Output, Style, Verbosity};

fn main() -> ExitCode {
    protect_secrets();
    if let Some(words) = bbr_words(std::env::args_os().collect()) {
        return command::bbr::run(words);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => {
            let _ = refusal.print();
            return ExitCode::from(u8::try_from(refusal.exit_code()).unwrap_or(Exit::Usage.code()));
        }
    };
    if let Command::Bbr(args) = cli.command {
        return command::bbr::run(args.words);
    }
    ExitCode::from(perform(cli).code())
}

/// Runs a command and tells how it ended.
fn perform(cli: Cli) -> Exit {
    let style = style_of(&cli.globals);
    conclude(style, async |output| Box::pin(command::run(cli, output)).await)
}

/// Does work and tells how it ended.
fn conclude(style: Style, work: impl AsyncFnOnce(&Arc<Output>) -> Result<Exit, Failure>) -> Exit {
    let output = Arc::new(Output::standard(style));
    log::start(&output);
    let exit = run(work, &output).unwrap_or_else(|failure| {
        failure.report(&output);
        failure.exit()
    });
    output.finish().map_or_else(
        |fault| {
            let failure = Failure::local("write to standard output", &fault);
            failure.report(&output);
            failure.exit()
        },
        |()| exit,
    )
}

/// What `bbr` is given, by that name or by the verb: words of its own, of which none is a flag of onggi.
fn bbr_words(mut words: Vec<OsString>) -> Option<Vec<OsString>> {
    let name = words.first().map(Path::new).and_then(Path::file_name);
    let skipped = match (name, words.get(1)) {
        (Some(name), _) if name == "bbr" => 1,
        (_, Some(verb)) if verb == "bbr" => 2,
        _ => return None,
    };
    Some(words.split_off(skipped))
}

fn run(work: impl AsyncFnOnce(&Arc<Output>) -> Result<Exit, Failure>, output: &Arc<Output>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::local("start threads", &error))?;
    let exit = runtime.block_on(work(output));
    // What still runs in the background has nothing more to say.
    runtime.shutdown_background();
    exit
}

/// No core file and no debugger of the same user shows passwords. Best effort: work goes on without.
fn protect_secrets() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

fn style_of(globals: &Globals) -> Style {
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
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
    locale.is_some_and(|name| name.to_lowercase().replace('-', "").contains("utf8"))
}
