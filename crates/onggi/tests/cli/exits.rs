//! One test for each row of the table of exit codes that the command line can reach.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment::{Environment, Run};

/// Cause and remedy stand in at most three lines.
#[track_caller]
fn told_shortly(run: &Run, parts: &[&str]) {
    let lines: Vec<_> = run.talk.lines().skip_while(|line| !line.starts_with("error:")).collect();
    assert!((2..=3).contains(&lines.len()), "{}", run.talk);
    assert!(lines[1].starts_with("  because: "), "{}", run.talk);
    assert!(parts.iter().all(|part| run.talk.contains(part)), "{parts:?} in {}", run.talk);
}

/// The only file below a folder of the repository, or the first by name.
fn file_in(env: &Environment, folder: &str) -> PathBuf {
    let mut found = Vec::new();
    let mut open = vec![env.path("repo").join(folder)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { open.push(entry) } else { found.push(entry) }
        }
    }
    found.sort();
    found.swap_remove(0)
}

fn overwrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn x0_done() {
    Environment::with_repository().run(["backup", "data"]).expect(0);
}

#[test]
fn x1_nothing_usable() {
    let env = Environment::with_repository();
    told_shortly(&env.run(["backup", "absent"]).expect(1), &["absent"]);
    told_shortly(&env.run(["ls", "latest"]).expect(1), &["hint: `onggi snapshots`"]);
}

#[test]
fn x2_command_line_wrong() {
    let env = Environment::with_repository();
    env.run(["backup"]).expect(2);
    env.run(["ls", "no-such-thing"]).expect(2);
    env.run(["backup", "data", "--exclude-larger-than", "big"]).expect(2);
}

#[test]
fn x3_partial_names_what_is_missing() {
    let env = Environment::with_repository();
    let run = env.run(["backup", "data", "absent"]).expect(3);
    assert!(run.talk.contains("absent") && run.data.contains("1 problem") && run.data.contains("snapshot "));
}

#[test]
fn x4_damage_found() {
    let env = Environment::with_repository();
    env.run(["backup", "data"]).expect(0);
    overwrite(&file_in(&env, "data"), |bytes| bytes[40] ^= 1);
    let run = env.run(["repository", "verify", "--read-data"]).expect(4);
    assert!(run.talk.contains("problem: ") && run.talk.contains("repair"), "{}", run.talk);
    env.run(["check", "--read-data"]).expect(1);
}

#[test]
fn x5_refused_by_a_guard() {
    let env = Environment::with_repository();
    env.run(["backup", "data"]).expect(0);
    told_shortly(&env.run(["forget"]).expect(5), &["no rule keeps anything", "hint:"]);
    env.run(["backup", "data"]).expect(0);
    let run = env.run(["forget", "--keep-tag", "absent", "--yes"]).expect(5);
    assert!(run.talk.contains("empties-group"), "{}", run.talk);
    assert_eq!(env.run(["snapshots", "--json"]).json().as_array().unwrap().len(), 2);
}

#[test]
fn x7_destination_full() {
    let env = Environment::with_repository();
    env.write("data/large", vec![7; 300_000]);
    env.run(["backup", "data"]).expect(0);
    let folder = env.path("small");
    fs::create_dir(&folder).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&folder).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return eprintln!("SKIPPED: this process may not mount a small disk");
    }
    let run = env.run(["restore", "latest", "--target", "small"]);
    Command::new("umount").arg(&folder).status().unwrap();
    told_shortly(&run.expect(7), &["is full", "hint: free space"]);
}

#[test]
fn x8_time_is_over() {
    let env = Environment::with_repository();
    let args = ["backup", "--timeout", "1s", "--stdin-from-command", "--", "sleep", "30"];
    let run = env.run(args).expect(8);
    assert!(run.talk.contains("time limit") && run.talk.contains("repeat the command"), "{}", run.talk);
}

#[test]
fn x10_no_repository() {
    let env = Environment::with_repository();
    told_shortly(&env.run(["snapshots", "--repo", "nowhere"]).expect(10), &["nowhere", "onggi init"]);
    told_shortly(&env.run_bare(["snapshots"]).expect(10), &["none yet", "hint: onggi init"]);
    assert!(!env.path("nowhere").exists(), "nothing was touched");
}

#[test]
fn x11_locked() {
    let env = Environment::with_repository();
    let mut writer = env.command(["backup", "--stdin-from-command", "--", "sleep", "600"]).spawn().unwrap();
    let locks = env.path("repo/locks");
    while fs::read_dir(&locks).is_ok_and(|mut locks| locks.next().is_none()) {
        assert!(writer.try_wait().unwrap().is_none(), "the backup waits for its command");
        std::thread::yield_now();
    }
    let run = env.run(["repository", "prune"]);
    rustix::process::kill_process(rustix::process::Pid::from_child(&writer), rustix::process::Signal::TERM).unwrap();
    let code = writer.wait().unwrap().code();
    told_shortly(&run.expect(11), &["locked by", "--lock-wait"]);
    assert_eq!(code, Some(143), "interrupted by SIGTERM");
    assert_eq!(fs::read_dir(&locks).unwrap().count(), 0, "its lock is released");
}

#[test]
fn x12_wrong_key() {
    let env = Environment::with_repository();
    env.write("other", "guess\n");
    env.restrict("other");
    told_shortly(&env.run(["snapshots", "--password-file", "other"]).expect(12), &["wrong password", "hint:"]);
}

#[test]
fn x13_access_refused() {
    if rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: root is refused nothing");
    }
    let env = Environment::with_repository();
    fs::set_permissions(env.path("repo/keys"), fs::Permissions::from_mode(0o000)).unwrap();
    env.run(["snapshots"]).expect(13);
    fs::set_permissions(env.path("repo/keys"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
#[cfg(feature = "s3")]
fn x14_not_reached_in_time() {
    let env = Environment::with_repository();
    // Nothing listens on the discard port of this machine; the time limit ends the retries first.
    let run = env.run(["snapshots", "--repo", "s3:http://127.0.0.1:9/bucket", "--timeout", "2s"]);
    assert!(matches!(run.code, 8 | 14), "{run:?}");
}

/// Answers every request alike, until the test ends.
#[cfg(feature = "s3")]
fn service(status: &'static str, header: &'static str) -> String {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let (mut request, mut part) = (Vec::new(), [0; 4096]);
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match connection.read(&mut part) {
                    Ok(length) if length > 0 => request.extend_from_slice(&part[..length]),
                    _ => break,
                }
            }
            let answer = format!("HTTP/1.1 {status}\r\n{header}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = connection.write_all(answer.as_bytes());
        }
    });
    format!("s3:http://{address}/bucket")
}

#[test]
#[cfg(feature = "s3")]
fn x13_of_another_region_and_of_a_redirect() {
    let env = Environment::with_repository();
    let region = service("301 Moved Permanently", "x-amz-bucket-region: eu-north-1");
    let run = env.run(["snapshots", "--repo", &region]).expect(13);
    assert!(run.talk.contains("set region to it"), "{}", run.talk);
    let elsewhere = service("307 Temporary Redirect", "location: http://127.0.0.1:9/");
    let run = env.run(["snapshots", "--repo", &elsewhere]).expect(13);
    assert!(run.talk.contains("redirects are refused"), "{}", run.talk);
}

#[test]
fn x101_is_never_seen_with_a_closed_stdout() {
    let env = Environment::with_repository();
    env.run(["backup", "data"]).expect(0);
    for args in [&["snapshots"][..], &["ls", "latest"], &["reference"], &["completion", "bash"]] {
        let mut command = env.command(args);
        let mut child =
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!String::from_utf8_lossy(&output.stderr).contains("error"), "{args:?}");
    }
}
