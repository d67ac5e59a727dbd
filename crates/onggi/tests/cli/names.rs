//! Names that are no text, or that would act on a terminal: stored and restored byte for byte, shown without harm.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::environment::Environment;

const NAMES: [&[u8]; 4] = [b"caf\xe9", b"new\nline", b"\x1b]0;owned\x07", "a\u{202e}fdp.exe".as_bytes()];

fn with_odd_names() -> Environment {
    let env = Environment::with_repository();
    for name in NAMES {
        env.write(OsString::from_vec([b"data/", name].concat()), name);
    }
    env.run(["backup", "data"]).expect(0);
    env
}

#[test]
fn odd_names_come_back_byte_for_byte() {
    let env = with_odd_names();
    let run = env.run(["restore", "latest", "--target", "out"]).expect(0);
    for name in NAMES {
        let path = env.path(OsString::from_vec([b"out/data/", name].concat()));
        assert_eq!(fs::read(path).unwrap(), name);
    }
    assert!(run.data.contains(r"$'out/data/caf\xe9'"), "{}", run.data);
}

#[test]
fn odd_names_do_not_act_on_a_terminal() {
    let env = with_odd_names();
    for args in [&["ls", "latest"][..], &["ls", "latest", "--long"], &["find", "*"], &["ls", "latest", "--json"]] {
        let run = env.run(args).expect(0);
        let is_inert = |text: &str| !text.contains(['\x1b', '\u{7}', '\u{202e}', '\u{fffd}']);
        assert!(is_inert(&run.talk), "{args:?}: {:?}", run.talk);
        let data = if args.contains(&"--json") { run.data.replace('\u{fffd}', "") } else { run.data.clone() };
        assert!(is_inert(&data), "{args:?}: {data:?}");
    }
    let listed = env.run(["ls", "latest"]).expect(0).data;
    assert!(listed.contains(r"$'/data/caf\xe9'") && listed.contains(r"$'/data/new\nline'"), "{listed}");
}

#[test]
fn a_name_that_is_no_text_can_be_given() {
    let env = with_odd_names();
    let wanted = OsString::from_vec([b"latest:/data/", NAMES[0]].concat());
    let args = [OsString::from("restore"), wanted, "--target".into(), "one".into()];
    env.run(args).expect(0);
    let names: Vec<_> = fs::read_dir(env.path("one")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>(), [NAMES[0]]);
    let path = OsString::from_vec([b"data/", NAMES[0]].concat());
    env.run([OsString::from("backup"), path]).expect(0);
    let lines = env.run(["ls", "latest", "--json"]).expect(0).json_lines();
    assert!(lines.iter().any(|line| line["path_base64"] == "L2RhdGEvY2Fm6Q=="), "{lines:?}");
}

#[test]
fn foreign_text_in_errors_is_escaped() {
    let env = with_odd_names();
    let run = env.run(["restore", "latest:\u{1b}[2J", "--target", "x"]).expect(1);
    assert!(!run.talk.contains('\x1b'), "{:?}", run.talk);
    let run = env.run(["snapshots", "--repo", "bad\u{1b}[2J"]).expect(2);
    assert!(!run.talk.contains('\x1b'), "{:?}", run.talk);
}
