//! What a backup takes: sources out of the command line and the configuration, and what the engine must know of their
//! units.

mod found;

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use futures::future::join_all;
use onggi_engine::backup::{Parents, UnitPlan};
use onggi_engine::config::Config;
use onggi_engine::edge::Keeper;
use onggi_engine::sources::SourceFault;
use onggi_repo::format::Compression;
use onggi_source::carrier::SystemLauncher;
use onggi_source::command::{CommandConfig, Stdin};
use onggi_source::hex::hexadecimal;
use onggi_source::paths::{PathsConfig, RootPath};
use onggi_source::quantity::ByteCount;
use onggi_source::{Context, Source, SourceConfig, Surroundings, TreePath, Unit, UnitId};
use sha2::{Digest as _, Sha256};

pub use self::found::{Member, complete, discover};
use crate::command::backup::Args;
use crate::escape::{escape, escape_text};
use crate::failure::Failure;
use crate::session::Session;

/// Names of sources that are made of paths are not longer.
const NAME_MAX: usize = 200;

/// A source to be backed up.
pub struct Planned {
    /// Its adapter.
    pub source: Box<dyn Source>,
    /// What the engine must know of its units.
    pub plan: UnitPlan,
    /// Only these units, by id or name.
    only: Option<Vec<String>>,
    /// It is one of the configuration.
    is_configured: bool,
    /// Its units are machines that are backed up apart from each other: how many at once.
    apart: Option<usize>,
}

impl Planned {
    /// Takes one more unit of the same source, or all.
    fn also(&mut self, unit: Option<String>) {
        match (&mut self.only, unit) {
            (Some(only), Some(unit)) => only.push(unit),
            (only, None) => *only = None,
            (None, Some(_)) => {}
        }
    }
}

/// All that is to be backed up.
pub struct Selected {
    /// The sources that can run.
    pub planned: Vec<Planned>,
    /// Why others cannot.
    pub faults: Vec<SourceFault>,
}

impl Selected {
    /// Whether all of it is of the configuration, so that it can be read again.
    pub fn is_configured(&self) -> bool {
        self.planned.iter().all(|planned| planned.is_configured)
    }

    /// Lets the sources begin what takes time, beside everything else. Never ends.
    pub async fn approach(&self, cx: &Context) -> Infallible {
        join_all(self.planned.iter().map(|planned| planned.source.approach(cx, planned.only.as_deref()))).await;
        std::future::pending().await
    }
}

/// Reads the command line; nothing is opened or started.
pub async fn select(args: &Args, session: &Session) -> Result<Selected, Failure> {
    let builder = Builder { args, session, repository: session.repository_folder().await? };
    if args.stdin.stdin || args.stdin.stdin_from_command {
        return Ok(Selected { planned: vec![builder.stream()?], faults: Vec::new() });
    }
    let mut paths = Vec::new();
    for (files, separator) in [(&args.selection.files_from, b'\n'), (&args.selection.files_from_raw, b'\0')] {
        for file in files {
            paths.extend(listed(file, separator, session)?);
        }
    }
    let config = if may_name_source(&args.what) { session.config().await? } else { None };
    let mut selected = Selected { planned: Vec::new(), faults: Vec::new() };
    let all: Vec<OsString> = match &config {
        Some(config) if args.what.is_empty() && paths.is_empty() => names(config).map(OsString::from).collect(),
        _ => args.what.clone(),
    };
    for word in &all {
        let Some((name, unit)) = config.as_deref().and_then(|config| source_named(config, word)) else {
            paths.push(PathBuf::from(word));
            continue;
        };
        // One adapter for all units of a source: what it claims for itself it claims once.
        match selected.planned.iter_mut().find(|planned| planned.plan.source == name) {
            Some(planned) => planned.also(unit),
            None => match builder.configured(config.as_deref(), name, unit) {
                Ok(planned) => selected.planned.push(planned),
                Err(fault) => selected.faults.push(fault),
            },
        }
    }
    if !paths.is_empty() {
        selected.planned.push(builder.of_paths(paths)?);
    }
    if selected.planned.is_empty() && selected.faults.is_empty() {
        return Err(Failure::usage("back up").because("no path is named").hint("onggi backup ~/Documents"));
    }
    Ok(selected)
}

/// Whether a word may be the name of a source: then a configuration must be right before anything begins.
fn may_name_source(words: &[OsString]) -> bool {
    let is_path = |word: &OsString| [&b"/"[..], b"./", b"../"].iter().any(|start| word.as_bytes().starts_with(start));
    words.is_empty() || !words.iter().all(is_path)
}

fn names(config: &Config) -> impl Iterator<Item = &String> {
    config.sources.keys().chain(config.without_adapter.keys())
}

/// SOURCE or SOURCE/UNIT, if the configuration has that source.
fn source_named<'a>(config: &'a Config, word: &OsStr) -> Option<(&'a str, Option<String>)> {
    let text = word.to_str()?;
    let (name, unit) = text.split_once('/').map_or((text, None), |(name, unit)| (name, Some(unit.to_owned())));
    Some((names(config).find(|own| *own == name)?, unit))
}

/// Paths from a file, or from stdin if it is `-`.
fn listed(file: &Path, separator: u8, session: &Session) -> Result<Vec<PathBuf>, Failure> {
    let failed =
        |error: &std::io::Error| Failure::usage(format!("read the paths in {}", file.display())).because(error);
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    } else {
        bytes = std::fs::read(session.machine.absolute(file)).map_err(|error| failed(&error))?;
    }
    let is_text = separator == b'\n';
    let lines = bytes.split(|byte| *byte == separator).map(|line| if is_text { line.trim_ascii() } else { line });
    let named = lines.filter(|line| !(line.is_empty() || is_text && line.starts_with(b"#")));
    Ok(named.map(|line| PathBuf::from(OsString::from_vec(line.to_vec()))).collect())
}

/// Makes sources.
struct Builder<'a> {
    args: &'a Args,
    session: &'a Session,
    repository: Option<PathBuf>,
}

impl Builder<'_> {
    fn configured(&self, config: Option<&Config>, name: &str, unit: Option<String>) -> Result<Planned, SourceFault> {
        let unknown = || SourceFault::Unknown(name.to_owned(), String::new());
        let configured = config
            .ok_or_else(unknown)?
            .source(name, surroundings_at(self.session, name, self.repository.as_deref()))?;
        let mut plan = configured.plan();
        plan.tags.extend(self.tags());
        let apart = configured.apart();
        let only = unit.map(|unit| vec![unit]);
        Ok(Planned { source: configured.source, plan, only, is_configured: true, apart })
    }

    fn of_paths(&self, paths: Vec<PathBuf>) -> Result<Planned, Failure> {
        let selection = &self.args.selection;
        let mut shown: Vec<String> = paths.iter().map(|path| clean(&self.session.machine.absolute(path))).collect();
        shown.sort();
        shown.dedup();
        self.tell_of_repository_inside(&paths);
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
        let name = name_of(&shown);
        let source = self.build(&SourceConfig::Paths(config), &name)?;
        Ok(Planned {
            source,
            plan: UnitPlan { excludes, ..self.plan(name, "paths", shown) },
            only: None,
            is_configured: false,
            apart: None,
        })
    }

    fn tell_of_repository_inside(&self, paths: &[PathBuf]) {
        let Some(folder) = self.repository.as_ref().and_then(|folder| folder.canonicalize().ok()) else { return };
        let machine = &self.session.machine;
        let holds = |path: &PathBuf| machine.absolute(path).canonicalize().is_ok_and(|path| folder.starts_with(path));
        if paths.iter().any(holds) {
            let shown = escape(folder.as_os_str().as_bytes());
            self.session.output.talk(format_args!("note: {shown} is left out: it is the repository"));
        }
    }

    fn stream(&self) -> Result<Planned, Failure> {
        let stdin = &self.args.stdin;
        let file = stdin.stdin_filename.trim_matches('/');
        let path = TreePath::new(file.as_bytes()).ok().filter(|path| !path.is_root()).ok_or_else(|| {
            Failure::usage(format!("name the file {}", escape_text(file))).because("it is not a path below the root")
        })?;
        if stdin.stdin {
            let host = self.host();
            let unit = Unit { id: UnitId::new(host.as_str()), name: host };
            let stream = Stdin::new(tokio::io::stdin(), path, unit);
            let stream = if stdin.allow_empty { stream.allow_empty() } else { stream };
            let name = format!("/{file}");
            return Ok(Planned {
                source: Box::new(stream),
                plan: self.plan(name.clone(), "command", vec![name]),
                only: None,
                is_configured: false,
                apart: None,
            });
        }
        let words = self.args.what.iter().map(|word| word.to_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
        let command = words.filter(|words| !words.is_empty()).ok_or_else(|| {
            Failure::usage("read the command")
                .because("it is empty, or not text")
                .hint("onggi backup --stdin-from-command -- pg_dump shop")
        })?;
        let name = path.name().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
        let config =
            CommandConfig { command, file: name.clone(), allow_empty: stdin.allow_empty, ..CommandConfig::default() };
        let source = self.build(&SourceConfig::Command(config), &name)?;
        let paths = vec![format!("/command/{name}")];
        Ok(Planned { source, plan: self.plan(name, "command", paths), only: None, is_configured: false, apart: None })
    }

    fn build(&self, config: &SourceConfig, name: &str) -> Result<Box<dyn Source>, Failure> {
        config.build(surroundings_at(self.session, name, self.repository.as_deref())).map_err(|faults| {
            let failure = Failure::usage("read the command line");
            faults.iter().fold(failure, |failure, fault| failure.because(fault).hint(&fault.remedy))
        })
    }

    /// What the command line says of units.
    fn plan(&self, name: String, kind: &str, paths: Vec<String>) -> UnitPlan {
        UnitPlan {
            source: name,
            kind: kind.to_owned(),
            hostname: self.host(),
            paths,
            tags: self.tags(),
            excludes: Vec::new(),
            manifest: None,
            chunker: None,
            compression: Compression::DEFAULT,
            hold: None,
            full_read_every: 0,
            rate: None,
            time_limit: None,
            parents: Parents::Newest,
            time: None,
            journal: None,
        }
    }

    fn host(&self) -> String {
        self.args.host.clone().unwrap_or_else(|| self.session.machine.host.hostname.clone())
    }

    fn tags(&self) -> Vec<String> {
        self.args.tag.iter().filter(|tag| !tag.is_empty()).cloned().collect()
    }
}

/// What a source is built with.
pub async fn surroundings(session: &Session, name: &str) -> Result<Surroundings, Failure> {
    Ok(surroundings_at(session, name, session.repository_folder().await?.as_deref()))
}

/// The same for what has nothing to do with a repository.
pub fn surroundings_without_repository(session: &Session, name: &str) -> Surroundings {
    surroundings_at(session, name, None)
}

/// The source that a command of one kind is about, named or the only one of that kind: its configuration, and what it is
/// built with. `of_kind` takes it if it is one.
pub async fn only_source<T>(
    session: &Session,
    wanted: Option<&str>,
    kind: &str,
    of_kind: impl Fn(&SourceConfig) -> Option<T>,
) -> Result<(T, Surroundings), Failure> {
    let config = session.config().await?.ok_or_else(|| {
        Failure::usage("read the sources").because("there is no configuration").hint("onggi config check --config FILE")
    })?;
    let sources: Vec<_> =
        config.sources.iter().filter_map(|(name, source)| Some((name, of_kind(&source.source)?))).collect();
    let names = sources.iter().map(|(name, _)| escape_text(name)).collect::<Vec<_>>().join(", ");
    let mut meant = sources.into_iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == name.as_str()));
    let because = match (meant.next(), meant.next(), wanted) {
        (Some((name, config)), None, _) => return Ok((config, surroundings_without_repository(session, name))),
        (None, _, Some(wanted)) => format!("{} is no source of kind {kind}", escape_text(wanted)),
        (None, _, None) => format!("there is no source of kind {kind}"),
        (Some(_), Some(_), _) => "there are several".to_owned(),
    };
    let hint = match names.as_str() {
        "" => format!("the configuration has no source of kind {kind}; add one below `sources`"),
        names => format!("the configuration has of kind {kind}: {names}"),
    };
    Err(Failure::usage("choose the source").because(because).hint(hint))
}

fn surroundings_at(session: &Session, name: &str, repository: Option<&Path>) -> Surroundings {
    let machine = &session.machine;
    Surroundings {
        source: name.to_owned(),
        host: machine.host.hostname.clone(),
        working_directory: machine.directory.clone(),
        state: machine.state_folder().join("marks"),
        never: repository.map(Path::to_owned).into_iter().chain([machine.cache_folder()]).collect(),
        environment: machine.variables.clone(),
        programs: machine.programs(),
        launcher: Arc::new(SystemLauncher),
        secrets: Arc::new(Keeper { variables: machine.variables.clone() }),
        attended: session.output.is_attended(),
    }
}

/// An absolute path as text, without `.`, `..` and doubled or final slashes.
fn clean(path: &Path) -> String {
    let mut out = String::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                out.push('/');
                out.push_str(&name.to_string_lossy());
            }
            Component::ParentDir => out.truncate(out.rfind('/').unwrap_or(0)),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

/// What is backed up without a configuration is told apart by its paths: their list is the source's name.
fn name_of(paths: &[String]) -> String {
    let name = paths.join(",");
    if name.len() <= NAME_MAX { name } else { format!("{}-paths-{}", paths.len(), digest(&name, 8)) }
}

/// The first bytes of a digest, in hexadecimal digits.
fn digest(text: &str, bytes: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    hexadecimal(&digest[..bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_as_snapshots_have_them() {
        for (path, expected) in
            [("/", "/"), ("/etc/", "/etc"), ("/a/./b//c", "/a/b/c"), ("/a/../b", "/b"), ("/..", "/")]
        {
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

    #[test]
    fn a_path_that_is_one_needs_no_configuration() {
        let words = |texts: &[&str]| texts.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(!may_name_source(&words(&["/etc", "./hub", "../x"])));
        assert!(may_name_source(&words(&["/etc", "hub"])) && may_name_source(&[]));
    }
}
