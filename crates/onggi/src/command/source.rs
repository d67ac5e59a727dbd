//! `onggi source`: what the configuration says is backed up, whether it can be, and which runs are missing.

mod missed;
pub mod repository;

use clap::Subcommand;
use onggi_engine::config::Config;
use onggi_engine::exit::Exit;
use onggi_source::{Purpose, SourceError};
use serde_json::{Value, json};

use crate::counted::Counted;
use crate::escape::escape_text;
use crate::failure::Failure;
use crate::figure::Table;
use crate::member;
use crate::session::Session;

/// Lists and tests the configured sources.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi source list\n  onggi source preflight hub")]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with sources.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Lists the sources of the configuration.
    #[command(after_help = "Example:\n  onggi source list")]
    List,
    /// Proves access, versions and space, and of sources that are held still the repository. Ends with 3 if something is to
    /// be mended.
    #[command(after_help = "Examples:\n  onggi source preflight\n  onggi source preflight hub")]
    Preflight(Names),
    /// Names the units that are there now.
    #[command(after_help = "Example:\n  onggi source discover hub")]
    Discover(Names),
    /// Lists units without a good snapshot for an interval or more; ends with 3 if there are any.
    #[command(after_help = "Example:\n  onggi source missed --every 1d")]
    Missed(missed::Args),
}

/// Which sources.
#[derive(Debug, clap::Args)]
pub struct Names {
    /// Only these.
    #[arg(value_name = "SOURCE")]
    pub names: Vec<String>,
}

/// Does it.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let config = session.config().await?.ok_or_else(|| {
        Failure::usage("read the sources").because("there is no configuration").hint("onggi config check --config FILE")
    })?;
    match args.verb {
        Verb::List => Ok(list(&config, session)),
        Verb::Preflight(names) => ask(&config, &names, session, Asked::Preflight).await,
        Verb::Discover(names) => ask(&config, &names, session, Asked::Discover).await,
        Verb::Missed(args) => missed::run(&config, &args, session).await,
    }
}

fn list(config: &Config, session: &Session) -> Exit {
    let own = config.sources.iter().map(|(name, source)| (name, source.source.kind(), ""));
    let others = config.without_adapter.iter().map(|(name, kind)| (name, kind.as_str(), "no adapter in this build"));
    let rows: Vec<_> = own.chain(others).collect();
    let output = &session.output;
    if output.is_json() {
        let documents =
            rows.iter().map(|(name, kind, note)| json!({"name": name, "kind": kind, "runs": note.is_empty()}));
        output.json(Value::Array(documents.collect()));
        return Exit::Done;
    }
    let mut table = Table::new(&["Name", "Kind", ""]);
    for (name, kind, note) in rows {
        table.row(vec![name.clone(), kind.to_owned(), note.to_owned()]);
    }
    table.lines().iter().for_each(|line| output.data(line));
    Exit::Done
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Preflight,
    Discover,
}

async fn ask(config: &Config, wanted: &Names, session: &Session, asked: Asked) -> Result<Exit, Failure> {
    let names: Vec<&String> =
        if wanted.names.is_empty() { config.sources.keys().collect() } else { wanted.names.iter().collect() };
    let run = session.run(Purpose::Backup);
    let (mut exit, mut documents, mut holds) = (Exit::Done, Vec::new(), false);
    let mut table = Table::new(&["Source", "Unit", "Name"]);
    for name in names {
        let surroundings = member::surroundings(session, name).await?;
        let configured = match config.source(name, surroundings) {
            Ok(configured) => configured,
            Err(error) => {
                failed(session, &mut exit, &Failure::usage(format!("use source {}", escape_text(name))).because(error));
                continue;
            }
        };
        holds |= configured.source.capabilities().freezes;
        let (counted, cx) = Counted::over(&run.context);
        let mut answer: Result<Vec<_>, SourceError> = configured.source.preflight(&cx).await.map(|()| Vec::new());
        if answer.is_ok() && asked == Asked::Discover {
            answer = configured.source.discover(&cx).await;
        }
        match answer {
            Err(error) => {
                let act = format!("ask source {}", escape_text(name));
                failed(session, &mut exit, &Failure::new(Exit::from(&error), act).chain(&error));
            }
            Ok(_) if asked == Asked::Preflight => {
                let problems = counted.problems();
                let word = if problems == 0 { "ok" } else { "warn" };
                session.output.talk(format_args!("{word} {}", escape_text(name)));
                documents.push(json!({"source": name, "ok": problems == 0, "problems": problems}));
                exit = exit.and(counted.exit());
            }
            Ok(units) => {
                for unit in units {
                    documents.push(json!({"source": name, "unit": unit.id.as_str(), "name": unit.name}));
                    table.row(vec![
                        name.clone(),
                        escape_text(unit.id.as_str()).into_owned(),
                        escape_text(&unit.name).into_owned(),
                    ]);
                }
            }
        }
    }
    if holds
        && asked == Asked::Preflight
        && let Err(failure) = repository::prove(session).await
    {
        failed(session, &mut exit, &failure);
    }
    if session.output.is_json() {
        session.output.json(Value::Array(documents));
    } else if asked == Asked::Discover {
        table.lines().iter().for_each(|line| session.output.data(line));
    }
    Ok(exit)
}

fn failed(session: &Session, exit: &mut Exit, failure: &Failure) {
    failure.report(&session.output);
    *exit = exit.and(failure.exit());
}
