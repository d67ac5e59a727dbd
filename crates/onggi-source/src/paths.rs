//! Kind `paths`: files and directories of this machine, with restic's rules for roots and patterns.

mod ahead;
mod capture;
mod config;
mod directory;
mod inspect;
mod listing;
mod read;
mod tags;
mod targets;
mod walk;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use async_trait::async_trait;
use onggi_node::pattern::clean;
pub use onggi_node::pattern::{Asked, BadPattern, Case, Pattern, Patterns};

use self::inspect::{Atime, class_of, identity};
use self::listing::Rules;
use self::tags::Tag;
use self::targets::{Node, Root, Target};
use crate::config::{ConfigFault, Surroundings};
use crate::context::{Context, Problem, Progress, UnitId};
use crate::hook::Hooks;
use crate::path::TreePath;
use crate::sabotage;
use crate::source::{Base, Capabilities, Capture, Image, Remnant, Result, Source, SourceError, Unit};

pub use self::config::{PathsConfig, RootPath};

/// Configured paths of this machine. The one unit is the machine.
///
/// A restore is the engine's directory restore: this kind knows nothing about its files that the tree does not.
pub struct Paths {
    config: PathsConfig,
    patterns: Patterns,
    surroundings: Surroundings,
    hooks: Hooks,
}

impl Paths {
    /// A source over a configuration without faults; touches nothing.
    pub fn new(config: PathsConfig, surroundings: Surroundings) -> Result<Self, Vec<ConfigFault>> {
        let faults = config.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut patterns = Patterns::default();
        let exact = config.exclude.iter().map(|text| Pattern::parse(text.as_bytes(), Case::Exact));
        let folded = config.iexclude.iter().map(|text| Pattern::parse(text.as_bytes(), Case::Folded));
        exact.chain(folded).flatten().for_each(|pattern| patterns.push(pattern));
        let hooks = Hooks::new(config.before.clone(), config.after.clone(), &surroundings);
        Ok(Self { config, patterns, surroundings, hooks })
    }

    fn unit(&self) -> Unit {
        let host = self.surroundings.host.as_str();
        Unit { id: UnitId::from(host), name: host.to_owned() }
    }

    fn targets(&self) -> Vec<Target> {
        self.config.paths.iter().map(|root| Target::new(&root.path, root.optional)).collect()
    }

    /// The roots as they lie in the file system, for the snapshot's `paths`.
    fn roots(&self) -> Vec<TreePath> {
        let path = |target: &Target| target.path(&self.surroundings.working_directory);
        let tree = |target: &Target| TreePath::new(clean(bytes_of(&path(target))).join(&b'/')).ok();
        let mut roots: Vec<_> = self.targets().iter().filter_map(tree).collect();
        roots.sort();
        roots.dedup();
        roots
    }

    /// The roots as a tree, with `.` and `/` replaced by what lies there now.
    fn tree(&self, cx: &Context) -> Node {
        let start = &self.surroundings.working_directory;
        let expanded = targets::expand(self.targets(), start, |target, path, error| {
            report_absent(cx, bytes_of(path), &error, target.root);
        });
        targets::tree(&expanded, start)
    }

    /// All that the walk obeys. An exclude file that cannot be used is a problem: more is stored then, not less.
    fn rules(&self, cx: &Context) -> Rules {
        let mut patterns = self.patterns.clone();
        let exact = self.config.exclude_files.iter().map(|file| (file, Case::Exact));
        let folded = self.config.iexclude_files.iter().map(|file| (file, Case::Folded));
        for (file, case) in exact.chain(folded) {
            let file = self.surroundings.working_directory.join(file);
            if let Err(text) = self.read_patterns(&file, case, &mut patterns)
                && !sabotage::EXCLUDE_FILE_IGNORED.is_on()
            {
                let text = format!("{}: {text}", file.display());
                cx.problem(Problem { class: "exclude-file", path: None, text });
            }
        }
        let mut tags: Vec<_> = self.config.exclude_if_present.iter().map(|text| Tag::parse(text)).collect();
        tags.extend(self.config.exclude_caches.then(Tag::cache));
        let never = self.surroundings.never.iter().filter_map(|path| rustix::fs::stat(path).ok());
        Rules {
            patterns,
            tags,
            larger_than: self.config.exclude_larger_than.map(|limit| limit.0),
            one_file_system: self.config.one_file_system,
            ignore_xattrs: !self.config.xattrs,
            never: never.map(|stat| identity(&stat)).collect(),
        }
    }

    /// One pattern per line; empty lines and those that begin with `#` are none, and `$NAME` stands for a variable.
    fn read_patterns(&self, file: &Path, case: Case, patterns: &mut Patterns) -> Result<(), String> {
        let bytes = std::fs::read(file).map_err(|error| reason(&error))?;
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let mut bad = Vec::new();
        for (number, line) in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).enumerate() {
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let line = expand_variables(line, |name| self.surroundings.environment.get(name).cloned());
            match Pattern::parse(&line, case) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => bad.push(format!("line {}: {error}", number + 1)),
            }
        }
        if bad.is_empty() { Ok(()) } else { Err(bad.join(", ")) }
    }

    fn atime(&self) -> Atime {
        if self.config.atime { Atime::Store } else { Atime::Ignore }
    }
}

#[async_trait]
impl Source for Paths {
    fn capabilities(&self) -> Capabilities {
        Capabilities { freezes: self.hooks.freezes(), image: Image::Live, chains: false, destinations: &[] }
    }

    /// Looks for each root and at whether it can be read.
    async fn preflight(&self, cx: &Context) -> Result<()> {
        cx.check()?;
        let targets = self.targets();
        let mut absent = 0;
        for target in &targets {
            let path = target.path(&self.surroundings.working_directory);
            let opened = std::fs::symlink_metadata(&path)
                .and_then(|metadata| if metadata.is_dir() { std::fs::read_dir(&path).map(drop) } else { Ok(()) });
            if let Err(error) = opened {
                absent += 1;
                report_absent(cx, bytes_of(&path), &error, target.root);
            }
        }
        if absent == targets.len() { Err(nothing_left()) } else { Ok(()) }
    }

    async fn discover(&self, _cx: &Context) -> Result<Vec<Unit>> {
        Ok(vec![self.unit()])
    }

    async fn freeze(&self, cx: &Context, unit: &Unit) -> Result<()> {
        self.hooks.freeze(cx, unit).await
    }

    /// Nothing is fixed: the items show the files as they are when they are read.
    async fn capture<'a>(&'a self, cx: &Context, _unit: &Unit, _base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        cx.check()?;
        Ok(Box::new(capture::PathsCapture::new(self, cx.world.now())))
    }

    async fn thaw(&self, cx: &Context, unit: &Unit) -> Result<()> {
        self.hooks.thaw(cx, unit).await
    }

    async fn remnants(&self, _cx: &Context) -> Result<Vec<Remnant>> {
        self.hooks.remnants(&self.unit())
    }
}

/// A root that is not there is a problem unless that is in order.
fn report_absent(cx: &Context, path: &[u8], error: &io::Error, root: Root) {
    let absent = error.kind() == io::ErrorKind::NotFound;
    if absent && (root < Root::Required || sabotage::ABSENT_PATH_IGNORED.is_on()) {
        let reason = if root == Root::Listed { "vanished" } else { "absent" };
        cx.monitor.progress(Progress::Passed { reason, items: 1 });
        return;
    }
    let class = if absent { "missing-root" } else { class_of(error) };
    let shown = TreePath::new(path.strip_prefix(b"/").unwrap_or(path));
    let shown = shown.map_or_else(|_| String::from_utf8_lossy(path).into_owned(), |path| format!("/{path}"));
    cx.problem(Problem { class, path: None, text: format!("{shown}: {}", reason(error)) });
}

fn nothing_left() -> SourceError {
    SourceError::Incomplete("none of the paths can be read".to_owned())
}

fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// What went wrong, without the system's number for it.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_lowercase()
}

/// Replaces `$NAME` and `${NAME}`; `$$` is a dollar, and what names no variable is empty, as in restic.
fn expand_variables(line: &[u8], value: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let mut expanded = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(dollar) = rest.iter().position(|byte| *byte == b'$') {
        expanded.extend_from_slice(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix(b"$") {
            expanded.push(b'$');
            rest = after;
            continue;
        }
        let braced = rest.strip_prefix(b"{").and_then(|inner| {
            let end = inner.iter().position(|byte| *byte == b'}')?;
            Some((&inner[..end], &inner[end + 1..]))
        });
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let (name, after) = braced.unwrap_or_else(|| {
            let end = rest.iter().position(|byte| !is_name(byte)).unwrap_or(rest.len());
            rest.split_at(end)
        });
        if name.is_empty() {
            expanded.push(b'$');
        }
        let found = std::str::from_utf8(name).ok().and_then(&value);
        expanded.extend_from_slice(found.unwrap_or_default().as_bytes());
        rest = after;
    }
    expanded.extend_from_slice(rest);
    expanded
}
