//! `onggi copy status`: where the newest state of each unit lies, judged by the rule of copies.

use std::collections::{BTreeMap, BTreeSet};

use onggi_engine::copies::{Holder, Part, Store, Unit, units};
use onggi_engine::exit::Exit;
use serde_json::{Value, json};

use crate::escape::escape_text;
use crate::failure::Failure;
use crate::figure::Table;
use crate::opening;
use crate::query::Found;
use crate::record;
use crate::session::Session;
use crate::watcher::show_problem;

/// Judges every unit of every configured repository.
pub async fn run(session: &Session) -> Result<Exit, Failure> {
    let config = session.config().await?.filter(|config| !config.repositories.is_empty());
    let config = config.ok_or_else(|| {
        Failure::usage("judge the copies")
            .because("no configuration names repositories")
            .hint("write /etc/onggi/onggi.yaml with storages and their site")
    })?;
    let (mut stores, mut exits) = (Vec::new(), Vec::new());
    let verified = faults(&record::read(session, record::VERIFICATIONS)?);
    for (name, repository) in &config.repositories {
        let storage = config.storages.get(&repository.storage);
        let holder = |id: &str| Holder {
            site: storage.and_then(|storage| storage.site.clone()),
            media: storage.map_or_else(String::new, |storage| storage.media().to_owned()),
            is_out_of_reach: storage.is_some_and(|storage| storage.is_out_of_reach),
            faults: verified.get(id).copied(),
        };
        match read(name, session).await {
            Ok((id, snapshots, exit)) => {
                stores.push(Store::new(name.clone(), holder(&id), snapshots));
                exits.push(exit);
            }
            // What cannot be reached counts as not there, and the others are judged.
            Err(failure) => {
                failure.report(&session.output);
                exits.push(failure.exit());
            }
        }
    }
    let units = units(&stores);
    show(&units, session);
    exits.extend(units.iter().filter(|unit| unit.judgment.broken().next().is_some()).map(|_| Exit::Partial));
    Ok(exits.into_iter().fold(Exit::Done, Exit::and))
}

/// The repository's id, its snapshots, and whether all of them could be read.
async fn read(name: &str, session: &Session) -> Result<(String, Vec<Found>, Exit), Failure> {
    let place = session.place_at(Some(name)).await?;
    let source = opening::password_source(&session.globals, &session.machine, &place);
    let repo = session.open_place(&place, &source).await?;
    let read = repo.snapshots().await.map_err(|error| Failure::repository("read the snapshots", &error))?;
    for problem in &read.problems {
        show_problem(&session.output, &problem.clone().into(), "read");
    }
    let exit = if read.problems.is_empty() { Exit::Done } else { Exit::Damaged };
    Ok((repo.id().to_string(), read.found, exit))
}

/// Faults that the last verification of each repository found, by its id.
fn faults(records: &[Value]) -> BTreeMap<String, u64> {
    let known = |record: &Value| Some((record["repository"].as_str()?.to_owned(), record["faults"].as_u64()?));
    records.iter().filter_map(known).collect()
}

fn show(units: &[Unit<'_>], session: &Session) {
    let output = &session.output;
    if output.is_json() {
        return output.json(Value::Array(units.iter().map(document).collect()));
    }
    let mut table = Table::new(&["Unit", "Newest", "Repositories", "Rule"]);
    for unit in units {
        let names: Vec<_> = unit.stores.iter().map(|store| escape_text(&store.name).into_owned()).collect();
        let rule = unit.judgment.to_string();
        table.row(vec![escape_text(&unit.key.to_string()).into_owned(), day(unit), names.join(", "), rule]);
    }
    table.lines().iter().for_each(|line| output.data(line));
    for unit in units {
        for part in unit.judgment.broken() {
            output.say(format_args!("{}: {}", escape_text(&unit.key.to_string()), remedy(part, unit)));
        }
    }
}

fn day(unit: &Unit<'_>) -> String {
    unit.newest
        .time
        .to_string()
        .chars()
        .take("2026-11-20T11:26".len())
        .map(|one| if one == 'T' { ' ' } else { one })
        .collect()
}

fn document(unit: &Unit<'_>) -> Value {
    let broken = unit.judgment.broken().map(word);
    json!({
        "unit": unit.key.to_string(),
        "newest": unit.newest.time.to_string(),
        "repositories": unit.stores.iter().map(|store| &store.name).collect::<Vec<_>>(),
        "rule": unit.judgment.to_string(),
        "broken": broken.collect::<Vec<_>>(),
    })
}

/// The name of a part for programs.
fn word(part: Part) -> &'static str {
    match part {
        Part::Copies => "copies",
        Part::Media => "media",
        Part::Sites => "sites",
        Part::OutOfReach => "out-of-reach",
        Part::Faults => "faults",
    }
}

/// What is wrong, and what to do about it.
fn remedy(part: Part, unit: &Unit<'_>) -> String {
    match part {
        Part::Copies => {
            "fewer than three copies with the living one; `onggi copy run --from … --to …` makes one".to_owned()
        }
        Part::Media => "all copies are on one kind of media; copy to an object store or a tape".to_owned(),
        Part::Sites => {
            let sites: BTreeSet<_> =
                unit.stores.iter().map(|store| store.holder.site.as_deref().unwrap_or("?")).collect();
            let sites: Vec<_> = sites.into_iter().map(escape_text).collect();
            format!("no copy at another site (all are at: {}); copy to a storage with another `site`", sites.join(", "))
        }
        Part::OutOfReach => {
            "whoever can delete one copy can delete all; copy to a storage that is `immutable` or `offline`".to_owned()
        }
        Part::Faults => {
            let names = unit.stores.iter().filter(|store| store.holder.faults != Some(0));
            let names: Vec<_> = names.map(|store| escape_text(&store.name).into_owned()).collect();
            let first = names.first().map_or("…", String::as_str);
            format!("not known to be whole: {}; `onggi --repo {first} repository verify` tells", names.join(", "))
        }
    }
}
