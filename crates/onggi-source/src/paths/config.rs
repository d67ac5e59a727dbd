//! The keys of kind `paths`.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use onggi_node::pattern::{Case, Pattern};

use crate::config::{ConfigFault, Outline};
use crate::hook::{self, Hook};
use crate::quantity::ByteCount;

/// Files and directories of this machine.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "keys of a configuration that are true or false")]
pub struct PathsConfig {
    /// What is backed up, absolute or relative to the working directory.
    pub paths: Vec<RootPath>,
    /// Patterns of what is left out, as restic has them: `*.tmp`, `/srv/*/cache`, `**/build`, `!keep.tmp`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// The same, ignoring upper and lower case.
    #[serde(default)]
    pub iexclude: Vec<String>,
    /// Files with one pattern of `exclude` per line.
    #[serde(default)]
    pub exclude_files: Vec<PathBuf>,
    /// Files with one pattern of `iexclude` per line.
    #[serde(default)]
    pub iexclude_files: Vec<PathBuf>,
    /// Leaves out the contents of directories in which such a file lies: `name`, or `name:header` if its content must
    /// begin with that.
    #[serde(default)]
    pub exclude_if_present: Vec<String>,
    /// Leaves out the contents of directories marked by a `CACHEDIR.TAG` with the usual signature.
    #[serde(default)]
    pub exclude_caches: bool,
    /// Leaves out files longer than this.
    #[serde(default)]
    pub exclude_larger_than: Option<ByteCount>,
    /// Does not enter file systems that are mounted below the paths.
    #[serde(default)]
    pub one_file_system: bool,
    /// Whether extended attributes and access control lists are stored.
    #[serde(default = "yes")]
    pub xattrs: bool,
    /// Whether the time of the last access is stored.
    #[serde(default)]
    pub atime: bool,
    /// Commands before the capture.
    #[serde(default)]
    pub before: Vec<Hook>,
    /// Commands after the capture; they run in every case in which those before it were started.
    #[serde(default)]
    pub after: Vec<Hook>,
}

/// One path that is backed up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "WrittenRoot")]
#[schemars(with = "WrittenRoot")]
pub struct RootPath {
    /// The path.
    pub path: PathBuf,
    /// Whether its absence is in order.
    pub optional: bool,
}

/// As it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a path is a text, or a map with `path` and `optional`")]
enum WrittenRoot {
    /// A path that must exist.
    Plain(PathBuf),
    /// A path with conditions.
    Conditional {
        /// The path.
        path: PathBuf,
        /// Whether its absence is in order.
        #[serde(default)]
        optional: bool,
    },
}

impl From<WrittenRoot> for RootPath {
    fn from(written: WrittenRoot) -> Self {
        match written {
            WrittenRoot::Plain(path) => Self { path, optional: false },
            WrittenRoot::Conditional { path, optional } => Self { path, optional },
        }
    }
}

impl From<PathBuf> for RootPath {
    fn from(path: PathBuf) -> Self {
        Self { path, optional: false }
    }
}

fn yes() -> bool {
    true
}

impl PathsConfig {
    /// These paths, everything in them, with extended attributes.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { paths: paths.into_iter().map(RootPath::from).collect(), xattrs: true, ..Self::default() }
    }

    pub(crate) fn outline(&self, directory: &Path) -> Outline {
        let shown = |root: &RootPath| directory.join(&root.path).to_string_lossy().into_owned();
        let excludes = self.exclude.iter().chain(&self.iexclude).cloned().collect();
        Outline { paths: self.paths.iter().map(shown).collect(), excludes, ..Outline::default() }
    }

    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        if self.paths.is_empty() {
            faults.push(ConfigFault::new("paths", "there is no path", "name at least one"));
        }
        for (number, _) in self.paths.iter().enumerate().filter(|(_, root)| root.path.as_os_str().is_empty()) {
            let key = format!("paths[{number}]");
            faults.push(ConfigFault::new(key, "the path is empty", "write `.` for the working directory"));
        }
        let exact = self.exclude.iter().enumerate().map(|(number, text)| ("exclude", number, text, Case::Exact));
        let folded = self.iexclude.iter().enumerate().map(|(number, text)| ("iexclude", number, text, Case::Folded));
        for (key, number, text, case) in exact.chain(folded) {
            if let Err(error) = Pattern::parse(text.as_bytes(), case) {
                let remedy = "write `\\` before a `[`, `*`, `?` or `\\` that is meant as such";
                faults.push(ConfigFault::new(format!("{key}[{number}]"), error.to_string(), remedy));
            }
        }
        for (number, text) in self.exclude_if_present.iter().enumerate() {
            if text.split(':').next().is_none_or(|name| name.is_empty() || name.contains('/')) {
                let fault = format!("{text:?} does not name a file");
                let key = format!("exclude-if-present[{number}]");
                faults.push(ConfigFault::new(key, fault, "write `name` or `name:header`, without `/`"));
            }
        }
        faults.extend(hook::faults("before", &self.before).chain(hook::faults("after", &self.after)));
        faults
    }
}
