//! The configuration of sources: what is accepted, and that all faults are named at once.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;
use std::time::Duration;

use onggi_source::SourceConfig;
use serde_json::{Value, json};

/// The keys of all faults, or the error of reading.
#[track_caller]
fn check(config: Value, expected: &[&str]) {
    let faults = match serde_json::from_value::<SourceConfig>(config) {
        Ok(config) => config.faults().into_iter().map(|fault| fault.key).collect(),
        Err(error) => vec![error.to_string()],
    };
    assert_eq!(faults.len(), expected.len(), "{faults:?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.contains(expected), "{fault}");
    }
}

#[test]
fn the_examples_of_the_guide_are_accepted() {
    check(
        json!({ "kind": "paths", "paths": ["/etc/onggi", { "path": "/srv/www", "optional": true }],
                "exclude": ["*.tmp"], "one-file-system": true, "exclude-larger-than": "2GiB",
                "before": [["systemctl", "stop", "x"]],
                "after": [{ "command": ["systemctl", "start", "x"], "time-limit": "1m30s" }] }),
        &[],
    );
    check(json!({ "kind": "command", "command": ["mongodump", "--archive"], "file": "metrics.archive" }), &[]);
}

#[test]
fn values_arrive_as_they_are_meant() {
    let config = json!({ "kind": "paths", "paths": ["a", { "path": "b", "optional": true }], "before": [["x"]],
                         "after": [{ "command": ["y"], "time-limit": "2s" }] });
    let SourceConfig::Paths(config) = serde_json::from_value(config).unwrap() else { panic!("another kind") };
    let roots: Vec<_> = config.paths.iter().map(|root| (root.path.clone(), root.optional)).collect();
    assert_eq!(roots, [(PathBuf::from("a"), false), (PathBuf::from("b"), true)]);
    assert!(config.xattrs && !config.one_file_system);
    assert_eq!(config.before[0].time_limit, Duration::from_mins(10));
    assert_eq!(config.after[0].time_limit, Duration::from_secs(2));
}

#[test]
fn unknown_keys_and_kinds_are_refused() {
    check(json!({ "kind": "paths", "paths": ["a"], "exlude": [] }), &["exlude"]);
    check(json!({ "kind": "floppy" }), &["floppy"]);
    check(json!({ "kind": "command", "command": ["x"] }), &["file"]);
    check(json!({ "kind": "paths", "paths": [{ "optional": true }] }), &["a path is a text"]);
    check(json!({ "kind": "paths", "paths": ["a"], "before": ["x"] }), &["a hook is a list"]);
}

#[test]
fn a_limit_that_cannot_be_read_is_refused() {
    let hook = json!({ "command": ["x"], "time-limit": "5 parsecs" });
    check(json!({ "kind": "paths", "paths": ["a"], "before": [hook] }), &["a hook is a list"]);
    check(json!({ "kind": "paths", "paths": ["a"], "exclude-larger-than": "big" }), &["not a size"]);
}

#[test]
fn all_faults_are_named_at_once() {
    check(
        json!({ "kind": "paths", "paths": ["", "a"], "exclude": ["ok", "[bad"], "iexclude": ["\\"],
                "exclude-if-present": ["a/b"], "before": [[]] }),
        &["paths[0]", "exclude[1]", "iexclude[0]", "exclude-if-present[0]", "before[0]"],
    );
    check(json!({ "kind": "paths", "paths": [] }), &["paths"]);
    check(json!({ "kind": "command", "file": "a/b" }), &["command", "file"]);
    check(
        json!({ "kind": "command", "command": ["x"], "pipeline": [["y"], []], "file": "f" }),
        &["pipeline", "command"],
    );
}

#[test]
fn the_schema_names_every_kind_and_key() {
    let schema = serde_json::to_string(&schemars::schema_for!(SourceConfig)).unwrap();
    for word in ["paths", "command", "exclude-if-present", "restore-command", "time-limit", "optional"] {
        assert!(schema.contains(&format!("\"{word}\"")), "{word}");
    }
}
