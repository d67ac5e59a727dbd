//! `onggi man`: manual pages, made from the same definitions as the help.

use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::StyledStr;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::Output;
use onggi_engine::exit::Exit;

/// Prints the manual page of a command, or writes all pages.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi man backup | man -l -\n  onggi man repository prune | man -l -\n  \
    onggi man --all /usr/local/share/man/man1")]
pub struct Args {
    /// Which command: `backup`, `repository prune` [default: onggi itself].
    #[arg(value_name = "COMMAND", conflicts_with = "all")]
    pub command: Vec<String>,
    /// Write the pages of all commands into this folder.
    #[arg(long, value_name = "DIR")]
    pub all: Option<PathBuf>,
}

/// Prints or writes them.
pub fn run(args: &Args, output: &Output) -> Result<Exit, Failure> {
    let root = root();
    if let Some(folder) = &args.all {
        let count = write_all(&root, folder)?;
        output.talk(format_args!("{count} pages written"));
        return Ok(Exit::Done);
    }
    let mut chosen = &root;
    for word in &args.command {
        chosen = chosen.find_subcommand(word).filter(|command| !command.is_hide_set()).ok_or_else(|| {
            Failure::usage(format!("show the manual page of `{}`", args.command.join(" ")))
                .because("there is no such command")
                .hint("onggi --help lists them")
        })?;
    }
    output.raw(&page(chosen));
    Ok(Exit::Done)
}

/// The definitions with every name complete: `onggi-repository-prune`.
fn root() -> Command {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    root
}

fn page(command: &Command) -> Vec<u8> {
    let mut page = Vec::new();
    let man =
        Man::new(with_examples(command.clone())).manual("onggi").source(concat!("onggi ", env!("CARGO_PKG_VERSION")));
    man.render(&mut page).expect("memory takes everything");
    page
}

/// Help texts indent examples by two spaces, which a manual page keeps only as a paragraph each.
fn with_examples(command: Command) -> Command {
    let Some(text) = command.get_after_help().map(StyledStr::to_string) else { return command };
    command.after_help(text.replace("\n  ", "\n\n  "))
}

/// Writes a page for each command that help shows, and says how many.
fn write_all(root: &Command, folder: &Path) -> Result<usize, Failure> {
    let write = |path: &Path, page: &[u8]| {
        fs::write(path, page).map_err(|error| Failure::local(format!("write {}", path.display()), &error))
    };
    fs::create_dir_all(folder).map_err(|error| Failure::local(format!("create {}", folder.display()), &error))?;
    let mut waiting = vec![root];
    let mut count = 0;
    while let Some(command) = waiting.pop() {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        write(&folder.join(format!("{name}.1")), &page(command))?;
        count += 1;
        waiting.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_name_and_an_example() {
        let root = root();
        let mut waiting = vec![&root];
        while let Some(command) = waiting.pop() {
            let page = String::from_utf8(page(command)).unwrap();
            assert!(page.contains(".SH NAME"), "{}", command.get_name());
            assert!(page.contains("Example"), "{}", command.get_name());
            waiting.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()));
        }
    }
}
