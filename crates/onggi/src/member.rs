//! What a backup takes: sources out of the command line, and what the engine must know of their units.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onggi_engine::backup::{Parents, UnitPlan};
use onggi_engine::exit::Exit;
use onggi_repo::format::Compression;
use onggi_source::carrier::SystemLauncher;
use onggi_source::command::{CommandConfig, Stdin};
use onggi_source::paths::{PathsConfig, RootPath};
use onggi_source::quantity::ByteCount;
use onggi_source::{Context, Source, SourceConfig, SourceError, Surroundings, TreePath, Unit, UnitId};
use sha2::{Digest as _, Sha256};

use crate::cli;
use crate::command::backup::{Args, Selection};
use crate::escape::escape;
use crate::failure::Failure;
use crate::session::{Opened, Session};

/// Names of sources that are made of paths are not longer.
const NAME_MAX: usize = 200;

/// A source to be backed up.
pub struct Planned {
    source: Box<dyn Source>,
    name: String,
    kind: &'static str,
    /// The snapshot's paths, as far as they are known before.
    paths: Vec<String>,
    excludes: Vec<String>,
}

/// One unit of it, ready for the engine.
pub struct Member<'a> {
    /// Its source.
    pub source: &'a dyn Source,
    /// The unit.
    pub unit: Unit,
    /// What the engine must know beside.
    pub plan: UnitPlan,
}

/// Reads the command line; nothing is opened or started.
pub fn plan(args: &Args, session: &Session) -> Result<Vec<Planned>, Failure> {
    if args.stdin.stdin || args.stdin.stdin_from_command {
        return Ok(vec![stream(args, session)?]);
    }
    let mut paths: Vec<PathBuf> = args.what.iter().map(PathBuf::from).collect();
    for file in &args.selection.files_from {
        paths.extend(listed(file, b'\n', session)?);
    }
    for file in &args.selection.files_from_raw {
        paths.extend(listed(file, b'\0', session)?);
    }
    if paths.is_empty() {
        return Err(Failure::usage("back up").because("no path is named").hint("onggi backup ~/Documents"));
    }
    Ok(vec![of_paths(paths, &args.selection, session)?])
}

/// Paths from a file, or from stdin if it is `-`.
fn listed(file: &Path, separator: u8, session: &Session) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: &std::io::Error| Failure::usage(format!("read the paths in {}", file.display())).because(error);
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    } else {
        bytes = std::fs::read(session.machine.absolute(file)).map_err(|error| failed(&error))?;
    }
    let lines = bytes.split(|byte| *byte == separator).map(|line| if separator == b'\n' { line.trim_ascii() } else { line });
    let named = lines.filter(|line| !line.is_empty() && (separator == 0 || !line.starts_with(b"#")));
    Ok(named.map(|line| PathBuf::from(OsString::from_vec(line.to_vec()))).collect())
}

fn of_paths(paths: Vec<PathBuf>, selection: &Selection, session: &Session) -> Result<Planned, Failure> {
    let shown: Vec<String> = paths.iter().map(|path| clean(&session.machine.absolute(path))).collect();
    tell_of_repository_inside(&paths, session);
    let config = PathsConfig {
        paths: paths.into_iter().map(RootPath::from).collect(),
        exclude: selection.exclude.clone(),
        iexclude: selection.iexclude.clone(),
        exclude_files: selection.exclude_file.clone(),
        iexclude_files: selection.iexclude_file.clone(),
        exclude_if_present: selection.exclude_if_present.clone(),
        exclude_caches: selection.exclude_caches,
        exclude_larger_than: selection.exclude_larger_than.map(|size| ByteCount(size.0)),
        one_file_system: selection.one_file_system,
        atime: selection.with_atime,
        ..PathsConfig::new([])
    };
    let excludes = selection.exclude.iter().chain(&selection.iexclude).cloned().collect();
    let mut paths = shown;
    paths.sort();
    paths.dedup();
    let name = name_of(&paths);
    let source = build(&SourceConfig::Paths(config), &name, session)?;
    Ok(Planned { source, name, kind: "paths", paths, excludes })
}

/// An absolute path as text, without `.` and doubled or final slashes.
fn clean(path: &Path) -> String {
    let mut out = String::new();
    for component in path.components() {
        if let std::path::Component::Normal(name) = component {
            out.push('/');
            out.push_str(&name.to_string_lossy());
        } else if component == std::path::Component::ParentDir {
            out.truncate(out.rfind('/').unwrap_or(0));
        }
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

/// What is backed up without a configuration is told apart by its paths: their list is the source's name.
fn name_of(paths: &[String]) -> String {
    let name = paths.join(",");
    if name.len() <= NAME_MAX {
        return name;
    }
    let digest = Sha256::digest(name.as_bytes());
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-paths-{hex}", paths.len())
}

fn tell_of_repository_inside(paths: &[PathBuf], session: &Session) {
    let Some(folder) = session.repository_folder().and_then(|folder| folder.canonicalize().ok()) else { return };
    let holds = |path: &PathBuf| session.machine.absolute(path).canonicalize().is_ok_and(|path| folder.starts_with(path));
    if paths.iter().any(holds) {
        session.output.talk(format_args!("note: {} is left out: it is the repository", escape(folder.as_os_str().as_bytes())));
    }
}

fn stream(args: &Args, session: &Session) -> Result<Planned, Failure> {
    let file = args.stdin.stdin_filename.trim_matches('/');
    let path = TreePath::new(file.as_bytes()).ok().filter(|path| !path.is_root()).ok_or_else(|| {
        Failure::usage(format!("name the file {}", escape(file.as_bytes()))).because("it is not a path below the root")
    })?;
    let host = args.host.clone().unwrap_or_else(|| session.machine.host.hostname.clone());
    if args.stdin.stdin {
        let unit = Unit { id: UnitId::new(host.as_str()), name: host };
        let stdin = Stdin::new(tokio::io::stdin(), path, unit);
        let source: Box<dyn Source> = Box::new(if args.stdin.allow_empty { stdin.allow_empty() } else { stdin });
        return Ok(Planned { source, name: format!("/{file}"), kind: "command", paths: vec![format!("/{file}")], excludes: Vec::new() });
    }
    let words = args.what.iter().map(|word| word.to_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    let command = words.filter(|words| !words.is_empty()).ok_or_else(|| {
        Failure::usage("read the command").because("it is empty, or not text").hint("onggi backup --stdin-from-command -- pg_dump shop")
    })?;
    let name = path.name().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
    let config = CommandConfig {
        command,
        file: name.clone(),
        allow_empty: args.stdin.allow_empty,
        ..CommandConfig::default()
    };
    let source = build(&SourceConfig::Command(config), &name, session)?;
    Ok(Planned { source, paths: vec![format!("/command/{name}")], name, kind: "command", excludes: Vec::new() })
}

fn build(config: &SourceConfig, name: &str, session: &Session) -> Result<Box<dyn Source>, Failure> {
    let machine = &session.machine;
    let never = session.repository_folder().into_iter().chain([machine.cache_folder()]).collect();
    let surroundings = Surroundings {
        source: name.to_owned(),
        host: machine.host.hostname.clone(),
        working_directory: machine.directory.clone(),
        state: machine.state_folder().join("marks"),
        never,
        environment: machine.variables.clone(),
        launcher: Arc::new(SystemLauncher),
    };
    config.build(surroundings).map_err(|faults| {
        let failure = Failure::usage("read the command line");
        faults.iter().fold(failure, |failure, fault| failure.because(fault).hint(&fault.remedy))
    })
}

/// Asks each source for its units.
pub async fn discover<'a>(
    planned: &'a [Planned],
    args: &Args,
    parents: &Parents,
    opened: &Opened,
    session: &Session,
    cx: &Context,
) -> Result<Vec<Member<'a>>, Failure> {
    let mut members = Vec::new();
    for one in planned {
        let failed = |error: SourceError| {
            Failure::new(Exit::from(&error), format!("prepare {}", one.name)).chain(&error)
        };
        one.source.preflight(cx).await.map_err(failed)?;
        for unit in one.source.discover(cx).await.map_err(failed)? {
            let plan = unit_plan(one, &unit, args, parents, opened, session)?;
            members.push(Member { source: &*one.source, unit, plan });
        }
    }
    Ok(members)
}

fn unit_plan(
    planned: &Planned,
    unit: &Unit,
    args: &Args,
    parents: &Parents,
    opened: &Opened,
    session: &Session,
) -> Result<UnitPlan, Failure> {
    let journal = session.private_folder(&format!("journal/{}", planned.kind))?;
    let who = format!("{}\0{}\0{}", opened.repo.id(), planned.name, unit.id);
    let digest: String = Sha256::digest(who.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Ok(UnitPlan {
        source: planned.name.clone(),
        kind: planned.kind.to_owned(),
        hostname: args.host.clone().unwrap_or_else(|| session.machine.host.hostname.clone()),
        paths: planned.paths.clone(),
        tags: args.tag.iter().filter(|tag| !tag.is_empty()).cloned().collect(),
        excludes: planned.excludes.clone(),
        manifest: None,
        chunker: None,
        compression: compression(session.globals.compression),
        rate: session.globals.limit_rate.map(|rate| rate.0),
        time_limit: None,
        parents: parents.clone(),
        time: args.time.as_ref().map(|moment| moment.0.timestamp()),
        journal: (!args.dry_run).then(|| journal.join(digest)),
    })
}

fn compression(wanted: cli::Compression) -> Compression {
    match wanted {
        cli::Compression::Auto => Compression::DEFAULT,
        cli::Compression::Off => Compression::Off,
        cli::Compression::Max => Compression::Level(19),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn paths_are_shown_as_snapshots_have_them() {
        for (path, expected) in [("/", "/"), ("/etc/", "/etc"), ("/a/./b//c", "/a/b/c"), ("/a/../b", "/b"), ("/..", "/")] {
            assert_eq!(clean(Path::new(path)), expected);
        }
        assert_eq!(clean(Path::new(OsStr::from_bytes(b"/a\xff"))), "/a\u{fffd}");
    }

    #[test]
    fn many_paths_have_a_short_name() {
        assert_eq!(name_of(&["/etc".into(), "/srv".into()]), "/etc,/srv");
        let many: Vec<String> = (0..100).map(|number| format!("/folder/{number}")).collect();
        let name = name_of(&many);
        assert!(name.starts_with("100-paths-") && name.len() == 26, "{name}");
    }
}
