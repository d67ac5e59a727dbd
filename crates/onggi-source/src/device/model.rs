//! What one make of device needs to be told and says: data, so that a new make needs no program.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::path::TreePath;
use crate::quantity::ByteCount;

/// The models that are built in, as the configuration would have them.
const BUILT_IN: &str = include_str!("models.yaml");

/// A make of devices.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Model {
    /// Whether commands are typed at a prompt, or each is a call of its own.
    #[serde(default)]
    pub how: How,
    /// What a prompt ends with.
    #[serde(default = "prompts")]
    pub prompts: Vec<String>,
    /// What stands at the end when a key must be pressed to go on.
    #[serde(default = "more")]
    pub more: Vec<String>,
    /// Commands before the others: they switch paging off.
    #[serde(default)]
    pub prepare: Vec<String>,
    /// The commands by the file that their answer becomes.
    pub capture: BTreeMap<String, String>,
    /// Lines that begin so differ each time and make no new version.
    #[serde(default)]
    pub volatile: Vec<String>,
    /// What the last line of the first answer begins with, if the device says that it is the last.
    #[serde(default)]
    pub end: BTreeMap<String, String>,
    /// A line that begins so is an error message instead of an answer.
    #[serde(default = "errors")]
    pub errors: Vec<String>,
    /// A shorter answer is none.
    #[serde(default = "bytes_min")]
    pub bytes_min: ByteCount,
    /// What ends the dialog.
    #[serde(default = "quit")]
    pub quit: String,
}

/// How commands are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Typed at a prompt on a terminal.
    #[default]
    Dialog,
    /// Each as a call of its own that ends with a status.
    Exec,
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn prompts() -> Vec<String> {
    texts(&["#", ">"])
}

fn more() -> Vec<String> {
    texts(&["--More--", "-- More --", "<--- More --->", "---(more)---", "Press any key to continue"])
}

fn errors() -> Vec<String> {
    texts(&["% Invalid", "% Unknown", "% Incomplete", "% Authorization", "%Error", "syntax error", "Invalid input"])
}

fn bytes_min() -> ByteCount {
    ByteCount(64)
}

fn quit() -> String {
    "exit".to_owned()
}

impl Model {
    /// What is wrong, by key.
    pub(super) fn faults(&self) -> impl Iterator<Item = (&'static str, String)> {
        let is_line = |text: &String| !text.is_empty() && !text.contains(char::is_control);
        let commands = self.prepare.iter().chain(self.capture.values());
        let bad_command =
            commands.filter(move |text| !is_line(text)).map(|text| ("capture", format!("{text:?} is no line")));
        let is_name = |name: &&String| TreePath::root().join(name).is_ok();
        let bad_name = self.capture.keys().filter(move |name| !is_name(name));
        let bad_name = bad_name.map(|name| ("capture", format!("{name:?} cannot be the name of a file")));
        let nothing = self.capture.is_empty().then(|| ("capture", "there is no command".to_owned()));
        let strangers = self.end.keys().filter(|name| !self.capture.contains_key(*name));
        let strangers = strangers.map(|name| ("end", format!("{name:?} is not among the files of `capture`")));
        let prompts = [("prompts", &self.prompts), ("volatile", &self.volatile), ("errors", &self.errors)];
        let empty = prompts.into_iter().filter(|(_, texts)| texts.iter().any(String::is_empty));
        let empty = empty.map(|(key, _)| (key, "an empty text fits everything".to_owned()));
        bad_command.chain(bad_name).chain(nothing).chain(strangers).chain(empty)
    }
}

fn all() -> BTreeMap<String, Model> {
    serde_saphyr::from_str(BUILT_IN).expect("a test reads it")
}

/// The model of this name.
pub(super) fn built_in(name: &str) -> Option<Model> {
    all().remove(name)
}

/// All names.
pub(super) fn names() -> Vec<String> {
    all().into_keys().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_model_is_sound() {
        let models = all();
        assert!(models.len() >= 10);
        for (name, model) in models {
            assert_eq!(model.faults().collect::<Vec<_>>(), [], "{name}");
            assert!(!model.prompts.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_model_that_would_fit_everything_is_refused() {
        let model: Model = serde_json::from_value(serde_json::json!({
            "capture": { "a/b": "show", "x": "show\nreload" }, "volatile": [""], "end": { "y": "end" },
        }))
        .unwrap();
        let keys: Vec<_> = model.faults().map(|(key, _)| key).collect();
        assert_eq!(keys, ["capture", "capture", "end", "volatile"]);
    }
}
