//! The keys of kind `command`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::ConfigFault;
use crate::hook::{self, Hook};
use crate::path::TreePath;

/// A command whose standard output is one file, stored only after exit status 0.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CommandConfig {
    /// Program and arguments; no shell reads them. Either this or `pipeline`.
    #[serde(default)]
    pub command: Vec<String>,
    /// Several commands, the output of each being the input of the next; all must exit with status 0.
    #[serde(default)]
    pub pipeline: Vec<Vec<String>>,
    /// Name of the file that the output is stored as.
    pub file: String,
    /// Whether no output at all is a good one. Without it an empty output is an error.
    #[serde(default)]
    pub allow_empty: bool,
    /// Variables beside the inherited ones.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Where the commands run; by default where onggi runs.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// A command that takes the stored output on its standard input, to restore it in place.
    #[serde(default)]
    pub restore_command: Vec<String>,
    /// Commands before the capture.
    #[serde(default)]
    pub before: Vec<Hook>,
    /// Commands after the capture; they run in every case in which those before it were started.
    #[serde(default)]
    pub after: Vec<Hook>,
}

impl CommandConfig {
    /// The processes, first to last.
    pub(super) fn stages(&self) -> impl Iterator<Item = &Vec<String>> {
        let single = (!self.command.is_empty()).then_some(&self.command);
        single.into_iter().chain(&self.pipeline)
    }

    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        match (self.command.is_empty(), self.pipeline.is_empty()) {
            (true, true) => {
                let remedy = "add `command: [program, argument]`";
                faults.push(ConfigFault::new("command", "there is no command", remedy));
            }
            (false, false) => {
                let text = "both `command` and `pipeline` are given";
                faults.push(ConfigFault::new("pipeline", text, "keep one of them"));
            }
            _ => {}
        }
        let empty = |stage: &Vec<String>| stage.first().is_none_or(String::is_empty);
        if self.stages().any(empty) || self.restore_command.first().is_some_and(String::is_empty) {
            let text = "a command without a program";
            faults.push(ConfigFault::new("command", text, "write a list: [program, argument]"));
        }
        if TreePath::root().join(&self.file).is_err() {
            let text = format!("{:?} cannot be the name of a file", self.file);
            faults.push(ConfigFault::new("file", text, "use one name without `/`, such as `dump.sql`"));
        }
        faults.extend(hook::faults("before", &self.before).chain(hook::faults("after", &self.after)));
        faults
    }
}
