//! The configuration as an operator meets it: every shipped file loads, every fault is named with its place, its key
//! and what would be right.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "helpers of tests")]

use onggi_engine::config::{Fault, Files, Found, Loaded, Reach, load, value::SecretReference};
use std::{collections::BTreeMap, io, path::Path};

/// Files in memory; secrets are fine unless named here.
#[derive(Default)]
struct Disk {
    files: BTreeMap<String, String>,
    bad_secrets: BTreeMap<String, String>,
}

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Found> {
        let path = path.to_str().unwrap();
        if let Some(text) = self.files.get(path) {
            return Ok(Found::File(text.as_bytes().to_vec()));
        }
        let folder = format!("{path}/");
        let names: Vec<_> =
            self.files.keys().filter_map(|file| file.strip_prefix(&folder)).map(str::to_owned).collect();
        if names.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(Found::Directory(names)) }
    }

    fn secret_fault(&self, reference: &SecretReference) -> Option<String> {
        self.bad_secrets.get(&reference.to_string()).cloned()
    }
}

fn disk(files: &[(&str, &str)]) -> Disk {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    Disk { files, ..Disk::default() }
}

fn loaded(text: &str) -> Loaded {
    load(&disk(&[("/c/onggi.yaml", text)]), Path::new("/c/onggi.yaml"))
}

fn shipped(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../../config/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Checks the faults that reach further than a notice, in the order of the file.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    check_faults(&loaded(text).faults, expected);
}

#[track_caller]
fn check_faults(faults: &[Fault], expected: &[&str]) {
    let seen: Vec<_> = faults.iter().filter(|fault| fault.reach != Reach::Notice).map(ToString::to_string).collect();
    assert_eq!(seen.len(), expected.len(), "{seen:#?}");
    for (seen, expected) in seen.iter().zip(expected) {
        assert!(seen.contains(expected), "{seen}\nlacks {expected}");
    }
}

const MINIMAL: &str = "version: 1
storages:
  disk: { kind: local, path: /srv }
repositories:
  main: { storage: disk, password: env:P }
";

#[test]
fn the_shipped_examples_load_without_faults() {
    for name in ["minimal.yaml", "sources.yaml"] {
        let loaded = loaded(&shipped(name));
        assert!(loaded.faults.is_empty(), "{name}: {:#?}", loaded.faults);
        assert!(loaded.config.is_some());
    }
}

#[test]
fn the_five_seeds_load_but_for_what_this_build_lacks() {
    let loaded = loaded(&shipped("kaizen.yaml"));
    let kinds = ["openstack", "bosh", "etcd", "kubernetes", "hosts", "device"];
    let lacks = kinds.iter().filter(|kind| onggi_source::KINDS_WITHOUT_ADAPTER.contains(kind));
    let expected: Vec<_> = lacks.map(|kind| format!("this build has no adapter for kind {kind}")).collect();
    check_faults(&loaded.faults, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    let notices: Vec<_> =
        loaded.faults.iter().filter(|fault| fault.reach == Reach::Notice).map(|f| f.key.as_str()).collect();
    assert_eq!(notices, ["policies", "copies", "verify", "drills", "notify", "rules", "server"]);
    let config = loaded.accept().unwrap();
    assert_eq!((config.storages.len(), config.repositories.len()), (3, 3));
    assert_eq!((config.without_adapter.len(), config.sources.len()), (expected.len(), kinds.len() - expected.len()));
}

#[test]
fn all_faults_are_reported_at_once_with_place_key_and_remedy() {
    let text = "version: 1
storage:
  x: 1
storages:
  disk: { kind: lokal, path: /srv }
  odd: { kind: local, pth: /srv }
repositories:
  main: { storage: disk, password: 5 }
sources:
  hub:
    kind: paths
    paths: /etc
    one-file-system: yes
    exclud: [a]
";
    check(
        text,
        &[
            "/c/onggi.yaml:2:1: storage: unknown key; did you mean storages? (known here: version, name,",
            "/c/onggi.yaml:5:17: storages.disk.kind: unknown kind \"lokal\"; did you mean local? (known here: local, s3, sftp)",
            "storages.odd.path: the key is missing; add path: The directory; made by `init`",
            "/c/onggi.yaml:6:23: storages.odd.pth: unknown key; did you mean path? (known here: kind, path, site,",
            "/c/onggi.yaml:8:36: repositories.main.password: here stands a number, expected is text; put it in quotes",
            "/c/onggi.yaml:12:12: sources.hub.paths: here stands text, expected is a list",
            "/c/onggi.yaml:13:22: sources.hub.one-file-system: here stands text, expected is true or false; write true or false",
            "/c/onggi.yaml:14:5: sources.hub.exclud: unknown key; did you mean exclude?",
        ],
    );
}

#[test]
fn values_with_a_form_of_their_own_are_checked() {
    let text = "version: 2
time-zone: Asia/Soul
storages:
  disk: { kind: s3, endpoint: s3.example, bucket: b, access-key: env:A, limits: { rate: fast } }
repositories:
  main: { storage: dsk, password: hunter2 }
sources:
  a b: { kind: command, command: [], file: ../x, time-limit: 5 hours }
  c: { kind: command, command: [x], file: x, chunker: \"fixed:1KiB\", compression: 23 }
  d: { kind: paths, paths: [] }
";
    let expected = [
        "1:10: version: version 2 is not known",
        "2:12: time-zone: no time zone is named \"Asia/Soul\"",
        "storages.disk: access-key and secret-key belong together",
        "4:31: storages.disk.endpoint",
        "4:89: storages.disk.limits.rate: \"fast\" is no rate; write a size",
        "6:20: repositories.main.storage: no entry of storages is named \"dsk\"; did you mean disk?",
        "6:35: repositories.main.password: a secret must not stand in the file; put it in a file of mode 0600",
        "sources.a b: \"a b\" is no name",
        "8:34: sources.a b.command: there is no command",
        "8:44: sources.a b.file",
        "8:62: sources.a b.time-limit: \"5 hours\" is no duration; write a number with s, m, h, d or w",
        "9:55: sources.c.chunker",
        "9:82: sources.c.compression",
        "10:28: sources.d.paths: there is no path",
    ];
    check(text, &expected);
    assert!(!format!("{:?}", loaded(text).faults).contains("hunter2"));
    assert!(!format!("{:?}", loaded(text).shown).contains("hunter2"));
}

#[test]
fn names_in_sections_without_effect_are_checked_all_the_same() {
    let text = format!(
        "{MINIMAL}policies:\n  all: {{ sources: [hub], repository: man }}\ncopies:\n  - {{ from: main, to: far }}\n"
    );
    check(
        &text,
        &[
            "7:20: policies.all.sources: no entry of sources is named \"hub\"",
            "7:38: policies.all.repository: no entry of repositories is named \"man\"; did you mean main?",
            "9:23: copies[0].to: no entry of repositories is named \"far\"",
        ],
    );
}

#[test]
fn a_secret_that_cannot_be_used_is_a_fault_at_its_key() {
    let mut disk = disk(&[("/c/onggi.yaml", MINIMAL)]);
    disk.bad_secrets.insert("env:P".into(), "the variable P is not set".into());
    let loaded = load(&disk, Path::new("/c/onggi.yaml"));
    check_faults(&loaded.faults, &["5:36: repositories.main.password: the variable P is not set"]);
}

#[test]
fn included_directories_are_read_in_the_order_of_names() {
    let disk = disk(&[
        ("/c/onggi.yaml", &format!("{MINIMAL}include: conf.d\n")),
        ("/c/conf.d/20.yaml", "sources:\n  b: { kind: command, command: [x], file: x }\n"),
        ("/c/conf.d/10.yaml", "sources:\n  a: { kind: command, command: [x], file: x }\n"),
        ("/c/conf.d/30.yaml.off", "sources: 5"),
    ]);
    let config = load(&disk, Path::new("/c/onggi.yaml")).accept().unwrap();
    assert_eq!(config.sources.keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_key_set_in_two_files_is_named_with_both() {
    let disk = disk(&[
        ("/c/onggi.yaml", &format!("{MINIMAL}name: one\ninclude: [more.yaml, gone.yaml]\n")),
        ("/c/more.yaml", "name: two\nstorages:\n  disk: { kind: local, path: /b }\ninclude: x\n"),
    ]);
    let faults = load(&disk, Path::new("/c/onggi.yaml")).faults;
    check_faults(
        &faults,
        &[
            "/c/more.yaml:1:7: name: the key is given twice; remove one; the first is at /c/onggi.yaml:6:7",
            "/c/more.yaml:3:17: storages.disk.kind: the key is given twice",
            "/c/more.yaml:3:30: storages.disk.path: the key is given twice",
            "/c/more.yaml:4:10: include: an included file cannot include",
            "/c/onggi.yaml:7:22: include: /c/gone.yaml cannot be read",
        ],
    );
}

#[test]
fn a_file_that_is_none_is_said_so() {
    check("", &["/c/onggi.yaml:1:1: the file holds no keys"]);
    check("5", &["the file holds no keys"]);
    check_faults(&load(&Disk::default(), Path::new("/x")).faults, &["/x:1:1: the file cannot be read"]);
    check("version:\n", &["1:8: version: the key has no value"]);
}

/// Every key of the shipped files, misspelt: the message names line, key and what is known there.
#[test]
fn a_misspelt_key_is_always_found() {
    let mut count = 0;
    for name in ["minimal.yaml", "sources.yaml", "kaizen.yaml"] {
        let text = shipped(name);
        for (line, start, end) in keys(&text) {
            let wrong = format!("{}q{}", &text[..end], &text[end..]);
            let faults: Vec<_> = loaded(&wrong).faults.into_iter().filter(|fault| fault.reach == Reach::File).collect();
            let key = &wrong[start..=end];
            let named = faults.iter().any(|fault| {
                let text = fault.to_string();
                let knows = ["known here", "add ", "no entry of"].iter().any(|word| text.contains(word));
                knows && (fault.place.line == line as u64 || fault.key.split('.').any(|part| part == text_of(key)))
            });
            assert!(named, "{name}:{line}: {key}: {faults:#?}");
            count += 1;
        }
    }
    assert!(count > 80, "{count}");
}

/// Every key of the smallest file, removed with all below it: either it was optional, or the message names it.
#[test]
fn a_missing_key_is_named_unless_it_is_optional() {
    for (key, line) in [("version", 1), ("kind", 3), ("path", 3), ("storage", 5), ("password", 5)] {
        let text = MINIMAL.replacen(&format!("{key}:"), &format!("{key}#:"), 1);
        let text = if key == "version" { MINIMAL.replacen("version: 1", "name: x", 1) } else { text };
        let faults = loaded(&text).faults;
        let found = faults.iter().find(|fault| fault.text == "the key is missing" && fault.key.ends_with(key));
        let found = found.unwrap_or_else(|| panic!("{key}: {faults:#?}"));
        assert_eq!(found.place.line, line, "{found}");
        assert!(found.remedy.as_ref().unwrap().contains(key));
    }
}

fn text_of(key: &str) -> String {
    key.trim_end_matches('q').to_owned()
}

/// Line, start and end of every key outside of what this build does not carry out.
fn keys(text: &str) -> Vec<(usize, usize, usize)> {
    let (mut found, mut at, mut skips) = (Vec::new(), 0, false);
    for (index, line) in text.lines().enumerate() {
        let code = line.split(" #").next().unwrap_or(line);
        if !line.starts_with([' ', '#']) && !line.is_empty() {
            skips = ["policies", "copies", "verify:", "drills", "notify", "rules", "server"]
                .iter()
                .any(|s| line.starts_with(s));
            skips |= text.contains("kaizen") && line.starts_with("sources");
        }
        if !skips && !line.starts_with('#') {
            for (colon, _) in code.match_indices(": ").chain(code.strip_suffix(':').map(|rest| (rest.len(), ""))) {
                let start = code[..colon].rfind([' ', '{', '[']).map_or(0, |at| at + 1);
                let is_name = code[start..colon]
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte.is_ascii_digit());
                // The names of entries are the operator's own.
                let is_own = line.starts_with("  ") && !line.starts_with("   ") && start == 2;
                if is_name && start < colon && !is_own {
                    found.push((index + 1, at + start, at + colon));
                }
            }
        }
        at += line.len() + 1;
    }
    found
}

#[test]
fn the_schema_names_every_section_and_is_closed() {
    let schema = onggi_engine::config::schema();
    let properties = schema["properties"].as_object().unwrap();
    for section in ["version", "storages", "repositories", "sources", "policies"] {
        assert!(properties.contains_key(section), "{section}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn every_value_is_shown_with_its_origin() {
    let shown = loaded(MINIMAL).shown;
    let line = shown.iter().map(|one| format!("{} = {} ({})", one.key, one.value, one.origin)).collect::<Vec<_>>();
    assert_eq!(line[1], "storages.disk.kind = local (/c/onggi.yaml:3:17)");
    assert_eq!(line[4], "repositories.main.password = env:P (/c/onggi.yaml:5:36)");
}
