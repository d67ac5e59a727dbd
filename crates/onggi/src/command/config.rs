//! `onggi config`: whether the configuration is right, and what it means.

use std::path::PathBuf;

use clap::Subcommand;
use onggi_engine::config::{self, Loaded, Origin, Reach};
use onggi_engine::edge::SystemFiles;
use onggi_engine::exit::Exit;
use serde_json::{Value, json};

use crate::escape::escape_prose;
use crate::failure::Failure;
use crate::output::Color;
use crate::session::Session;

/// Checks and shows the configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi config check\n  onggi config show")]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Names every fault at once, each with its place and remedy.
    #[command(after_help = "Examples:\n  onggi config check\n  onggi config check --config ./onggi.yaml")]
    Check,
    /// Shows every value with its origin; secrets only as references.
    #[command(after_help = "Example:\n  onggi config show")]
    Show,
    /// Prints the JSON schema of the file, for editors.
    #[command(after_help = "Example:\n  onggi config schema > onggi.schema.json")]
    Schema,
}

/// Does it.
pub fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Check => check(session),
        Verb::Show => show(session),
        Verb::Schema => {
            let schema = serde_json::to_string_pretty(&config::schema()).expect("a schema is plain data");
            session.output.data(schema);
            Ok(Exit::Done)
        }
    }
}

fn load(session: &Session) -> Result<(PathBuf, Loaded), Failure> {
    let path = session.config_path().ok_or_else(|| {
        Failure::usage("read the configuration")
            .because("there is none in /etc/onggi/onggi.yaml or ~/.config/onggi/onggi.yaml")
            .hint("say --config FILE; paths need none: onggi backup ~/Documents")
    })?;
    let loaded = config::load(&SystemFiles { variables: &session.machine.variables }, &path);
    Ok((path, loaded))
}

fn check(session: &Session) -> Result<Exit, Failure> {
    let (path, loaded) = load(session)?;
    let output = &session.output;
    let exit = if loaded.has_faults() { Exit::Usage } else { Exit::Done };
    if output.is_json() {
        let faults = loaded.faults.iter().map(|fault| {
            json!({
                "file": &*fault.place.file,
                "line": fault.place.line,
                "column": fault.place.column,
                "key": fault.key,
                "message": fault.text,
                "hint": fault.remedy,
                "reach": word(fault.reach),
            })
        });
        output.json(json!({"message_type": "summary", "faults": faults.collect::<Vec<Value>>(), "exit": exit}));
        return Ok(exit);
    }
    for fault in &loaded.faults {
        let color = if fault.reach == Reach::Notice { Color::Bold } else { Color::Red };
        output.data(format_args!(
            "{} {}",
            output.paint(color, &format!("{}:", word(fault.reach))),
            escape_prose(&fault.to_string())
        ));
    }
    if exit == Exit::Done {
        output.talk(format_args!("{} is right", path.display()));
    }
    Ok(exit)
}

fn word(reach: Reach) -> &'static str {
    match reach {
        Reach::File => "error",
        Reach::Source => "source",
        Reach::Notice => "note",
    }
}

fn show(session: &Session) -> Result<Exit, Failure> {
    let (path, loaded) = load(session)?;
    if loaded.config.is_none() {
        return Err(Failure::configuration(&path, &loaded.faults));
    }
    let output = &session.output;
    if output.is_json() {
        let values = loaded
            .shown
            .iter()
            .map(|shown| json!({"key": shown.key, "value": shown.value, "origin": shown.origin.to_string()}));
        output.json(json!({"message_type": "summary", "values": values.collect::<Vec<_>>()}));
        return Ok(Exit::Done);
    }
    for shown in &loaded.shown {
        let origin = match &shown.origin {
            Origin::File(place) => format!("{}:{}", place.file, place.line),
            other => other.to_string(),
        };
        output.data(format_args!("{} = {}    # {origin}", escape_prose(&shown.key), escape_prose(&shown.value)));
    }
    Ok(Exit::Done)
}
