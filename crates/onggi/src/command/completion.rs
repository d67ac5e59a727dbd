//! `onggi completion`: what the shell needs to complete our command line.

use clap::{CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::output::Output;
use onggi_engine::exit::Exit;

/// Prints completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi completion bash > /etc/bash_completion.d/onggi\n  \
    onggi completion zsh > ~/.zfunc/_onggi\n  onggi completion fish > ~/.config/fish/completions/onggi.fish")]
pub struct Args {
    /// Which shell.
    #[arg(value_name = "SHELL")]
    pub shell: Target,
}

/// A shell that can complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
    /// PowerShell.
    Powershell,
}

/// Prints them.
pub fn run(args: &Args, output: &Output) -> Exit {
    output.raw(&script(args.shell));
    Exit::Done
}

fn script(target: Target) -> Vec<u8> {
    let shell = match target {
        Target::Bash => Shell::Bash,
        Target::Zsh => Shell::Zsh,
        Target::Fish => Shell::Fish,
        Target::Powershell => Shell::PowerShell,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "onggi", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_every_verb() {
        for target in Target::value_variants() {
            let script = String::from_utf8(script(*target)).unwrap();
            for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
                assert!(script.contains(verb.get_name()), "{} in {target:?}", verb.get_name());
            }
            assert!(script.contains("password-file"), "{target:?}");
        }
    }
}
