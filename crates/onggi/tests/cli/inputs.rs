//! Bad inputs at the command line (reliability 16.1 and 16.2): nothing is touched before all of it is valid.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::environment::Environment;

#[track_caller]
fn refused(env: &Environment, args: &[&str], parts: &[&str]) {
    let run = env.run(args).expect(2);
    assert!(parts.iter().all(|part| run.talk.contains(part)), "{parts:?} in {}", run.talk);
}

#[test]
fn unreadable_values_are_refused_and_shown() {
    let env = Environment::with_repository();
    refused(&env, &["backup", "data", "--time", "yesterday"], &["yesterday"]);
    refused(&env, &["snapshots", "--limit-rate", "fast"], &["fast"]);
    refused(&env, &["snapshots", "--lock-wait", "5"], &["`5`"]);
    refused(&env, &["forget", "--keep-daily", "-1"], &["-1"]);
    refused(&env, &["forget", "--keep-daily", "many"], &["many"]);
    refused(&env, &["forget", "--keep-within", "3x"], &["3x"]);
    refused(&env, &["check", "--read-data-subset", "11/3"], &["11/3"]);
    refused(&env, &["snapshots", "--group-by", "color"], &["color"]);
    refused(&env, &["backup", "data", "--exclude", "[a"], &["[a"]);
    refused(&env, &["find", "[a"], &["[a"]);
    refused(&env, &["snapshots", "--repo", "rest:http://host/"], &["rest", "not supported"]);
}

#[test]
fn a_password_file_that_others_can_read_is_refused_without_its_content() {
    let env = Environment::with_repository();
    fs::set_permissions(env.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let run = env.run(["snapshots"]).expect(2);
    assert!(run.talk.contains("0644") && run.talk.contains("chmod 600") && !run.talk.contains("horse"), "{}", run.talk);
    env.run(["snapshots", "--password-file", "absent"]).expect(2);
    env.write("empty", "\n");
    env.restrict("empty");
    assert!(env.run(["snapshots", "--password-file", "empty"]).expect(2).talk.contains("empty"));
}

#[test]
fn without_a_terminal_a_missing_password_is_named() {
    let env = Environment::with_repository();
    let mut command = env.bare(["snapshots"]);
    command.env("ONGGI_REPOSITORY", env.path("repo"));
    let run = crate::environment::Run::of(command, b"").expect(2);
    assert!(run.talk.contains("--password-file"), "{}", run.talk);
}

#[test]
fn the_password_of_a_restic_habit_is_used() {
    let env = Environment::with_repository();
    let mut command = env.bare(["snapshots"]);
    command.env("RESTIC_REPOSITORY", env.path("repo")).env("RESTIC_PASSWORD", "correct horse battery staple");
    crate::environment::Run::of(command, b"").expect(0);
    let mut command = env.bare(["snapshots", "--password-command", "cat key"]);
    command.env("RESTIC_REPOSITORY", env.path("repo"));
    crate::environment::Run::of(command, b"").expect(0);
}

#[test]
fn a_restore_into_the_repository_is_refused() {
    let env = Environment::with_repository();
    env.run(["backup", "data"]).expect(0);
    refused(&env, &["restore", "latest", "--target", "repo/data"], &["inside the repository"]);
    refused(&env, &["restore", "latest", "--target", "/"], &["root of this system", "--in-place"]);
}

#[test]
fn a_repository_inside_what_is_backed_up_is_left_out_with_a_notice() {
    let env = Environment::with_repository();
    let run = env.run(["backup", "."]).expect(0);
    assert!(run.talk.contains("repo is left out: it is the repository"), "{}", run.talk);
    let listed = env.run(["ls", "latest"]).expect(0).data;
    assert!(listed.contains("/data/report.odt") && !listed.contains("/repo/config"), "{listed}");
}

#[test]
fn an_existing_folder_needs_a_word() {
    let env = Environment::with_repository();
    env.run(["backup", "data"]).expect(0);
    env.write("out/data/report.odt", "mine\n");
    refused(&env, &["restore", "latest", "--target", "out"], &["is not empty", "--existing"]);
    env.run(["restore", "latest", "--target", "out", "--existing", "keep"]).expect(0);
    assert_eq!(fs::read(env.path("out/data/report.odt")).unwrap(), b"mine\n");
    env.run(["restore", "latest", "--target", "out", "--existing", "replace"]).expect(0);
    assert_eq!(fs::read(env.path("out/data/report.odt")).unwrap(), b"the quarterly report\n");
}

#[test]
fn every_fault_of_the_configuration_is_told_at_once() {
    let env = Environment::with_repository();
    env.write("onggi.yaml", "version: 1\nstorages:\n  local: { kind: local, pth: /srv }\nsuorces: {}\n");
    let run = env.run(["config", "check", "--config", "onggi.yaml"]).expect(2);
    assert!(run.data.contains("onggi.yaml:3:") && run.data.contains("path"), "{}", run.data);
    assert!(run.data.contains("onggi.yaml:4:") && run.data.contains("sources"), "{}", run.data);
    let run = env.run(["backup", "hub", "--config", "onggi.yaml"]).expect(2);
    assert!(run.talk.contains("onggi.yaml:3:") && run.talk.contains("onggi.yaml:4:"), "{}", run.talk);
    env.run(["backup", "./data", "--config", "onggi.yaml"]).expect(0);
}

#[test]
fn a_configuration_of_a_hundred_megabytes_is_refused() {
    let env = Environment::with_repository();
    env.write("onggi.yaml", "version: 1\n");
    fs::OpenOptions::new().write(true).open(env.path("onggi.yaml")).unwrap().set_len(100 << 20).unwrap();
    let run = env.run(["config", "check", "--config", "onggi.yaml"]).expect(2);
    assert!(run.data.contains("more than 4194304 bytes"), "{run:?}");
}

#[test]
fn configured_names_are_used() {
    let env = Environment::with_repository();
    let at = |path: &str| env.path(path).display().to_string();
    env.write(
        "onggi.yaml",
        format!(
            "version: 1\nstorages:\n  disk: {{ kind: local, path: {} }}\nrepositories:\n  main: {{ storage: disk, password: \"file:{}\" }}\n\
             sources:\n  docs: {{ kind: paths, paths: [{}] }}\n  clock: {{ kind: command, command: [date], file: now.txt }}\n",
            at("repo"),
            at("key"),
            at("data")
        ),
    );
    let run = |args: &[&str]| {
        let mut command = env.bare(args);
        command.env("ONGGI_CONFIG", env.path("onggi.yaml"));
        crate::environment::Run::of(command, b"")
    };
    run(&["config", "check"]).expect(0);
    run(&["source", "preflight"]).expect(0);
    assert!(run(&["source", "list"]).expect(0).data.contains("docs"));
    assert!(run(&["repository", "list"]).expect(0).data.contains("main"));
    run(&["backup", "docs"]).expect(0);
    run(&["backup"]).expect(0);
    assert_eq!(run(&["snapshots", "--repo", "main", "--json"]).expect(0).json().as_array().unwrap().len(), 3);
    let unknown = run(&["source", "preflight", "dcos"]).expect(2);
    assert!(unknown.talk.contains("docs"), "{}", unknown.talk);
    assert!(run(&["config", "show"]).expect(0).data.contains("file:"));
}

#[test]
fn a_short_or_zeroed_key_is_damage_and_not_a_wrong_password() {
    let env = Environment::with_repository();
    for folder in ["keys", "onggi/control"] {
        for entry in fs::read_dir(env.path("repo").join(folder)).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
                fs::write(&path, b"").unwrap();
            }
        }
    }
    env.run(["snapshots"]).expect(4);
}

#[test]
fn foreign_files_in_the_repository_are_ignored() {
    let env = Environment::with_repository();
    env.run(["backup", "data"]).expect(0);
    for path in ["repo/snapshots/README", "repo/index/.x.tmp-1", "repo/data/00/NOT-A-PACK"] {
        env.write(path, "foreign");
    }
    env.run(["snapshots"]).expect(0);
    env.run(["restore", "latest", "--target", "out"]).expect(0);
}

/// A name as files of a repository have it.
const NAME: &str = "0707070707070707070707070707070707070707070707070707070707070707";

#[test]
fn a_garbage_index_hides_nothing_from_a_restore_and_refuses_a_prune() {
    let env = Environment::with_repository();
    env.run(["backup", "data"]).expect(0);
    env.write(format!("repo/index/{NAME}"), "garbage");
    env.run(["restore", "latest", "--target", "out"]).expect(3);
    assert_eq!(fs::read(env.path("out/data/report.odt")).unwrap(), b"the quarterly report\n");
    env.run(["repository", "verify"]).expect(4);
    env.run(["repository", "prune", "--yes"]).expect(5);
}

#[test]
fn a_config_that_is_damaged_twice_is_damage_and_once_a_problem() {
    let env = Environment::with_repository();
    for (path, code) in [("repo/config", 0), ("repo/onggi/control/config", 4)] {
        fs::set_permissions(env.path(path), fs::Permissions::from_mode(0o600)).unwrap();
        env.write(path, "x");
        assert!(env.run(["snapshots"]).expect(code).talk.contains("config is damaged"));
    }
}

#[test]
fn a_thousand_empty_locks_take_no_time() {
    let env = Environment::with_repository();
    for number in 0..1000 {
        env.write(format!("repo/locks/{number:064}"), "");
    }
    env.run(["backup", "data"]).expect(0);
}

#[test]
fn patterns_that_fit_nothing_and_lists_that_cannot_be_read_are_told() {
    let env = Environment::with_repository();
    let run = env.run(["backup", "data", "--exclude-file", "absent"]).expect(3);
    assert!(run.talk.contains("absent"), "{}", run.talk);
    let run = env.run(["restore", "latest", "--include", "no-such-name", "--target", "out"]).expect(1);
    assert!(run.talk.contains("matches") && !env.path("out").exists(), "{}", run.talk);
}

#[test]
fn nothing_on_stdin_is_no_backup() {
    let env = Environment::with_repository();
    assert!(env.run(["backup", "--stdin"]).expect(1).talk.contains("no output at all"));
    assert_eq!(env.run(["snapshots", "--json"]).expect(0).json(), serde_json::json!([]));
}

#[test]
fn a_source_that_is_not_the_one_meant_is_answered_with_those_that_are_there() {
    let env = Environment::with_repository();
    let key = env.path("key");
    let director = |name: &str| {
        format!(
            "  {name}: {{ kind: bosh, mode: director, connect: {{ host: d, user: u, key: \"file:{}\", host-key: \"SHA256:x\" }} }}\n",
            key.display()
        )
    };
    let fleet = |name: &str| {
        format!(
            "  {name}: {{ kind: hosts, inventory: [{{ file: none }}], connect: {{ user: u, key: k, trust: pinned }}, paths: [/etc] }}\n"
        )
    };
    let check = |sources: &[String], args: &[&str], parts: &[&str]| {
        env.write("onggi.yaml", format!("version: 1\nsources:\n{}", sources.concat()));
        refused(&env, &[&["--config", "onggi.yaml"], args].concat(), parts);
        assert!(!env.run([&["--config", "onggi.yaml"], args].concat()).talk.contains("--source"));
    };
    let none = "the configuration has no source of kind bosh";
    check(&[fleet("f")], &["bosh", "cleanup", "cf"], &["cf is no source of kind bosh", none]);
    let both = [director("one"), director("two"), fleet("f")];
    check(&both, &["bosh", "resume", "f"], &["f is no source of kind bosh", "has of kind bosh: one, two"]);
    check(&[fleet("f"), fleet("g")], &["hosts", "list"], &["there are several", "has of kind hosts: f, g"]);
    check(&[director("one")], &["hosts", "list"], &["there is no source of kind hosts"]);
}
