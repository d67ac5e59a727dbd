//! Programs written for `restic --json` parse what onggi prints: the fields they look for, of the types they expect.

use serde_json::Value;

use crate::environment::{Environment, json_lines};

/// A field and what its value must be.
type Field = (&'static str, fn(&Value) -> bool);

#[track_caller]
fn has(document: &Value, fields: &[Field]) {
    for (name, is_right) in fields {
        assert!(is_right(&document[*name]), "{name} in {document}");
    }
    assert_eq!(document["schema"], 1, "{document}");
}

fn number(value: &Value) -> bool {
    value.is_u64()
}

fn real(value: &Value) -> bool {
    value.is_number()
}

fn text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

fn id(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() >= 20 && text.as_bytes()[10] == b'T')
}

fn list(value: &Value) -> bool {
    value.is_array()
}

const SNAPSHOT: &[Field] = &[
    ("id", id),
    ("short_id", text),
    ("time", time),
    ("tree", id),
    ("paths", list),
    ("hostname", text),
    ("username", text),
    ("program_version", text),
    ("tags", list),
];

#[test]
fn backup_ends_with_a_summary() {
    let env = Environment::with_repository();
    let lines = env.run(["backup", "data", "--json", "--tag", "nightly"]).expect(0).json_lines();
    let summary = lines.last().unwrap();
    assert_eq!(summary["message_type"], "summary");
    has(
        summary,
        &[
            ("files_new", number),
            ("files_changed", number),
            ("files_unmodified", number),
            ("dirs_new", number),
            ("dirs_changed", number),
            ("dirs_unmodified", number),
            ("data_blobs", number),
            ("tree_blobs", number),
            ("data_added", number),
            ("data_added_packed", number),
            ("total_files_processed", number),
            ("total_bytes_processed", number),
            ("total_duration", real),
            ("backup_start", time),
            ("backup_end", time),
            ("snapshot_id", id),
        ],
    );
    assert_eq!((&summary["files_new"], &summary["exit"]["kind"]), (&2.into(), &"done".into()));
    assert!(lines.iter().all(|line| matches!(line["message_type"].as_str(), Some("status" | "summary"))));
}

#[test]
fn verbose_backup_names_each_item() {
    let env = Environment::with_repository();
    let lines = env.run(["backup", "data", "--json", "-vv"]).expect(0).json_lines();
    let items: Vec<_> = lines.iter().filter(|line| line["message_type"] == "verbose_status").collect();
    assert!(items.iter().any(|line| line["action"] == "new" && line["item"].as_str().unwrap().ends_with("report.odt")));
}

#[test]
fn a_problem_and_a_failure_are_documents_on_stderr() {
    let env = Environment::with_repository();
    let run = env.run(["backup", "data", "absent", "--json"]).expect(3);
    let talk = json_lines(&run.talk);
    let error = talk.iter().find(|line| line["message_type"] == "error").expect("a problem");
    assert!(error["error"]["message"].as_str().unwrap().contains("absent") && error["item"].is_string(), "{error}");
    assert_eq!(talk.iter().filter(|line| line["message_type"] == "error").count(), 1, "told once: {talk:?}");
    let run = env.run(["snapshots", "--json", "--repo", "nowhere"]).expect(10);
    let failure = json_lines(&run.talk).pop().unwrap();
    assert_eq!((&failure["message_type"], &failure["code"]), (&"exit_error".into(), &10.into()));
    has(&failure, &[("class", text), ("message", text), ("hint", text)]);
}

#[test]
fn snapshots_are_one_list() {
    let env = Environment::with_repository();
    env.run(["backup", "data", "--tag", "nightly,weekly"]).expect(0);
    let list = env.run(["snapshots", "--json"]).expect(0).json();
    has(&list[0], SNAPSHOT);
    let tags: Vec<_> = list[0]["tags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(tags.contains(&"nightly") && tags.contains(&"weekly"), "{tags:?}");
    assert_eq!(list[0]["paths"][0], env.path("data").display().to_string());
    has(
        &list[0]["summary"]
            .clone()
            .as_object_mut()
            .map(|map| {
                map.insert("schema".into(), 1.into());
                Value::Object(map.clone())
            })
            .unwrap(),
        &[("files_new", number), ("total_bytes_processed", number), ("backup_start", time)],
    );
    let grouped = env.run(["snapshots", "--json", "--group-by", "host"]).expect(0).json();
    assert!(text(&grouped[0]["group_key"]["hostname"]) && grouped[0]["snapshots"].as_array().unwrap().len() == 1);
}

#[test]
fn ls_is_a_snapshot_and_its_nodes() {
    let env = Environment::with_repository();
    env.run(["backup", "data"]).expect(0);
    let lines = env.run(["ls", "latest", "--json"]).expect(0).json_lines();
    has(&lines[0], SNAPSHOT);
    assert_eq!((&lines[0]["struct_type"], &lines[0]["message_type"]), (&"snapshot".into(), &"snapshot".into()));
    let file = lines.iter().find(|line| line["name"] == "report.odt").expect("the file is listed");
    assert_eq!((&file["struct_type"], &file["type"], &file["size"]), (&"node".into(), &"file".into(), &21.into()));
    has(
        file,
        &[("path", text), ("uid", number), ("gid", number), ("mode", number), ("permissions", text), ("mtime", time)],
    );
    assert_eq!(file["path"], "/data/report.odt");
}

#[test]
fn forget_is_a_list_of_groups() {
    let env = Environment::with_repository();
    env.run(["backup", "data"]).expect(0);
    env.run(["backup", "data"]).expect(0);
    let run = env.run(["forget", "--keep-last", "1", "--group-by", "host,paths", "--json", "--yes"]).expect(0);
    let groups = run.json();
    let group = &groups[0];
    assert!(text(&group["host"]) && list(&group["paths"]), "{group}");
    assert_eq!((group["keep"].as_array().unwrap().len(), group["remove"].as_array().unwrap().len()), (1, 1));
    assert!(id(&group["remove"][0]["id"]));
    assert!(list(&group["reasons"][0]["matches"]) && id(&group["reasons"][0]["snapshot"]["id"]));
}

#[test]
fn check_ends_with_a_summary() {
    let env = Environment::with_repository();
    env.run(["backup", "data"]).expect(0);
    let summary = env.run(["check", "--json", "--read-data"]).expect(0).json_lines().pop().unwrap();
    assert_eq!((&summary["message_type"], &summary["num_errors"]), (&"summary".into(), &0.into()));
    has(
        &summary,
        &[("broken_packs", list), ("suggest_repair_index", Value::is_boolean), ("suggest_prune", Value::is_boolean)],
    );
}

#[test]
fn diff_find_stats_and_restore_have_restics_fields() {
    let env = Environment::with_repository();
    env.run(["backup", "data"]).expect(0);
    env.write("data/new.txt", "new\n");
    env.run(["backup", "data"]).expect(0);
    let lines = env.run(["diff", "latest~1", "latest", "--json"]).expect(0).json_lines();
    let change = lines.iter().find(|line| line["path"] == "/data/new.txt").expect("the new file");
    assert_eq!((&change["message_type"], &change["modifier"]), (&"change".into(), &"+".into()));
    let statistics = lines.last().unwrap();
    assert_eq!((&statistics["message_type"], &statistics["added"]["files"]), (&"statistics".into(), &1.into()));
    let found = env.run(["find", "new.*", "--json"]).expect(0).json();
    assert_eq!((&found[0]["hits"], &found[0]["matches"][0]["path"]), (&1.into(), &"/data/new.txt".into()));
    has(
        &env.run(["stats", "--json"]).expect(0).json(),
        &[("total_size", number), ("total_file_count", number), ("snapshots_count", number)],
    );
    let summary = env.run(["restore", "latest", "--target", "out", "--json"]).expect(0).json_lines().pop().unwrap();
    assert_eq!(summary["message_type"], "summary");
    has(
        &summary,
        &[("total_files", number), ("files_restored", number), ("total_bytes", number), ("bytes_restored", number)],
    );
    assert_eq!(summary["files_restored"], 3);
}

#[test]
fn init_and_keys_have_restics_fields() {
    let env = Environment::with_repository();
    let run = env.run(["init", "second", "--json"]).expect(0);
    let document = run.json();
    assert_eq!(document["message_type"], "initialized");
    has(&document, &[("id", id), ("repository", text)]);
    let keys = env.run(["key", "list", "--json"]).expect(0).json();
    has(
        &keys[0],
        &[("id", text), ("userName", text), ("hostName", text), ("created", time), ("current", Value::is_boolean)],
    );
}
