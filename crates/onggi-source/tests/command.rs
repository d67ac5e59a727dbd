//! Kind `command` and the standard input, over real processes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use onggi_source::bench::Bench;
use onggi_source::command::{Command, CommandConfig, Stdin};
use onggi_source::recorder::{RecordedTree, Recorder};
use onggi_source::{
    Chunking, Destination, Outcome, RestoreRequest, Source, SourceError, Step, Stop, TreePath, Unit, UnitId,
};

use support::{Folder, drain, record};

fn shell(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).into()
}

fn config(script: &str) -> CommandConfig {
    CommandConfig { command: shell(script), file: "out.dump".to_owned(), ..CommandConfig::default() }
}

/// Captures once; the tree, or the error's text.
async fn run(config: CommandConfig) -> Result<RecordedTree, String> {
    let folder = Folder::new();
    let source = Command::new(config, folder.surroundings());
    record(&Bench::new("r1"), &source).await.map_err(|error| error.to_string())
}

#[track_caller]
fn check_refused(result: Result<RecordedTree, String>, expected: &str) {
    let error = result.expect_err("the capture is refused");
    assert!(error.contains(expected), "{error}");
}

#[tokio::test]
async fn the_output_is_one_file_below_the_sources_name() {
    let tree = run(config("printf 'some rows'")).await.unwrap();
    assert_eq!(tree.lines(), ["command/", "command/hub/", "command/hub/out.dump 9"]);
    assert_eq!(tree.at("command/hub/out.dump").content, "some rows");
    assert_eq!(tree.at("command/hub/out.dump").item.chunking, Chunking::Content(128 << 10));
    assert_eq!(tree.facts[0].roots, [TreePath::new("command/hub").unwrap()]);
}

#[tokio::test]
async fn a_long_output_comes_whole() {
    let tree =
        run(config("head -c 3000000 /dev/zero | tr '\\0' x; echo words >&2; head -c 200000 /dev/zero >&2")).await;
    let content = &tree.unwrap().at("command/hub/out.dump").content.clone();
    assert_eq!((content.len(), content.iter().all(|byte| *byte == b'x')), (3_000_000, true));
}

#[tokio::test]
async fn an_exit_status_other_than_0_commits_nothing_and_says_why() {
    check_refused(run(config("echo rows; echo 'no such \u{1b}table' >&2; exit 3")).await, "exited with status 3");
    check_refused(run(config("echo rows; echo 'no such table' >&2; exit 3")).await, "no such table");
    check_refused(run(config("echo rows; kill -9 $$")).await, "killed by a signal");
}

#[tokio::test]
async fn every_process_of_a_pipeline_counts() {
    let pipeline = |first: &str, last: &str| CommandConfig {
        pipeline: vec![shell(first), shell("cat"), shell(last)],
        file: "out".to_owned(),
        ..CommandConfig::default()
    };
    let tree = run(pipeline("printf abc", "tr a-c A-C")).await.unwrap();
    assert_eq!(tree.at("command/hub/out").content, "ABC");
    check_refused(run(pipeline("printf abc; exit 1", "cat")).await, "exited with status 1");
    check_refused(run(pipeline("printf abc", "cat; exit 2")).await, "exited with status 2");
}

#[tokio::test]
async fn an_empty_output_is_refused_unless_that_is_allowed() {
    check_refused(run(config("true")).await, "no output");
    let tree = run(CommandConfig { allow_empty: true, ..config("true") }).await.unwrap();
    assert_eq!(tree.at("command/hub/out.dump").content, "");
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_named() {
    let missing = CommandConfig { command: vec!["/no/such/program".to_owned()], ..config("") };
    check_refused(run(missing).await, "start `/no/such/program`");
}

#[tokio::test]
async fn a_second_reading_does_not_start_the_command_again() {
    let folder = Folder::new();
    let source = Command::new(config("echo x >> starts; cat starts"), folder.surroundings());
    let bench = Bench::new("r1");
    let unit = source.discover(&bench.cx).await.unwrap().remove(0);
    let mut capture = source.capture(&bench.cx, &unit, None).await.unwrap();
    capture.items(&bench.cx, &Recorder::new(&bench.cx)).await.unwrap();
    let again = capture.items(&bench.cx, &Recorder::new(&bench.cx)).await;
    assert!(matches!(again, Err(SourceError::Incomplete(_))));
    assert_eq!(std::fs::read_to_string(folder.path("starts")).unwrap(), "x\n");
}

#[tokio::test]
async fn a_stop_kills_the_whole_group() {
    let folder = Folder::new();
    let source = Command::new(config("sleep 1000 & echo $! > child; echo rows; wait"), folder.surroundings());
    let bench = Bench::new("r1");
    let sink = Recorder::new(&bench.cx);
    // The shell makes the file before it writes the number, so the end of its line is waited for.
    let child = || std::fs::read_to_string(folder.path("child")).unwrap_or_default();
    let cancel = async {
        while !child().ends_with('\n') {
            tokio::task::yield_now().await;
        }
        bench.stop.send_replace(Some(Stop::Cancelled));
    };
    let (drained, ()) = tokio::join!(drain(&bench, &source, &sink), cancel);
    assert!(matches!(drained, Err(SourceError::Stopped(Stop::Cancelled))));
    assert!(sink.is_torn());
    let stat = format!("/proc/{}/stat", child().trim());
    let state = || std::fs::read_to_string(&stat).unwrap_or_default();
    let is_dead = || state().is_empty() || state().contains(") Z ");
    for _ in 0..10_000 {
        if is_dead() {
            return;
        }
        tokio::task::yield_now().await;
    }
    assert!(is_dead(), "{}", state());
}

#[tokio::test]
async fn a_deadline_ends_a_command_that_hangs() {
    let folder = Folder::new();
    let source = Command::new(config("echo rows; exec sleep 1000"), folder.surroundings());
    let mut bench = Bench::new("r1");
    bench.cx = bench.cx.within(Duration::from_millis(50), Stop::TimeLimit);
    let drained = drain(&bench, &source, &Recorder::new(&bench.cx)).await;
    assert!(matches!(drained, Err(SourceError::Stopped(Stop::TimeLimit))));
}

#[tokio::test]
async fn a_command_knows_the_mark_and_not_the_password() {
    let tree = run(CommandConfig {
        environment: [("EXTRA".to_owned(), "1".to_owned())].into(),
        ..config("echo $ONGGI_RUN $ONGGI_PURPOSE $ONGGI_SOURCE $ONGGI_UNIT $EXTRA")
    });
    assert_eq!(tree.await.unwrap().at("command/hub/out.dump").content, "r1 backup hub hub 1\n");
}

// ---- back again ----

fn request(to: Destination) -> RestoreRequest {
    let unit = Unit { id: UnitId::from("hub"), name: "host-1".to_owned() };
    RestoreRequest { unit, to, options: serde_json::Value::Null }
}

#[tokio::test]
async fn a_stored_output_goes_into_the_restore_command() {
    let folder = Folder::new();
    let script = "head -c 300000 /dev/urandom | tee original";
    let source =
        Command::new(CommandConfig { restore_command: shell("cat > copy"), ..config(script) }, folder.surroundings());
    let bench = Bench::new("r1");
    let stored = record(&bench, &source).await.unwrap();
    let wanted = request(Destination::Origin);
    let mut restore = source.restore(&bench.cx, &wanted, &stored).await.unwrap();
    assert!(matches!(&restore.plan().steps[..], [Step::Replace(what)] if what.contains("300000 bytes")));
    assert!(restore.prove(&bench.cx).await.is_err(), "nothing is restored yet");
    restore.apply(&bench.cx).await.unwrap();
    restore.prove(&bench.cx).await.unwrap();
    let read = |name| std::fs::read(folder.path(name)).unwrap();
    assert_eq!((read("copy").len(), read("copy") == read("original")), (300_000, true));
}

#[tokio::test]
async fn a_restore_command_that_fails_says_why() {
    let folder = Folder::new();
    let restore_command = shell("read line; echo 'table exists' >&2; exit 4");
    let source = Command::new(CommandConfig { restore_command, ..config("echo rows") }, folder.surroundings());
    let bench = Bench::new("r1");
    let stored = record(&bench, &source).await.unwrap();
    let wanted = request(Destination::Origin);
    let mut restore = source.restore(&bench.cx, &wanted, &stored).await.unwrap();
    let error = restore.apply(&bench.cx).await.unwrap_err().to_string();
    assert!(error.contains("status 4") && error.contains("table exists"), "{error}");
    assert!(restore.prove(&bench.cx).await.is_err());
}

#[tokio::test]
async fn what_is_not_stored_cannot_be_restored() {
    let folder = Folder::new();
    let config = CommandConfig { restore_command: shell("cat"), ..config("echo rows") };
    let source = Command::new(config.clone(), folder.surroundings());
    let (bench, nothing) = (Bench::new("r1"), RecordedTree::default());
    let wanted = request(Destination::Origin);
    let restore = source.restore(&bench.cx, &wanted, &nothing).await.unwrap();
    assert!(matches!(restore.plan().steps[..], [Step::Cannot(_)]));
    let without = Command::new(CommandConfig { restore_command: vec![], ..config }, folder.surroundings());
    assert!(matches!(without.restore(&bench.cx, &wanted, &nothing).await.map(drop), Err(SourceError::Unsupported(_))));
}

// ---- standard input ----

fn stdin(input: &'static [u8]) -> Stdin {
    let unit = Unit { id: UnitId::from("host-1"), name: "host-1".to_owned() };
    Stdin::new(input, TreePath::new("dump.sql").unwrap(), unit)
}

#[tokio::test]
async fn the_input_is_one_file_and_can_be_read_once() {
    let (bench, source) = (Bench::new("r1"), stdin(b"rows"));
    let tree = record(&bench, &source).await.unwrap();
    assert_eq!(tree.lines(), ["dump.sql 4"]);
    assert!(matches!(record(&bench, &source).await, Err(SourceError::Incomplete(_))));
}

#[tokio::test]
async fn an_empty_input_is_refused_unless_that_is_allowed() {
    let bench = Bench::new("r1");
    assert!(matches!(record(&bench, &stdin(b"")).await, Err(SourceError::Incomplete(_))));
    assert_eq!(record(&bench, &stdin(b"").allow_empty()).await.unwrap().lines(), ["dump.sql 0"]);
}

#[tokio::test]
async fn a_broken_input_commits_nothing() {
    let broken = broken_after_some_bytes();
    let unit = Unit { id: UnitId::from("host-1"), name: "host-1".to_owned() };
    let source = Stdin::new(broken, TreePath::new("dump.sql").unwrap(), unit);
    assert!(matches!(record(&Bench::new("r1"), &source).await, Err(SourceError::Incomplete(_))));
}

/// Some bytes, then an error.
fn broken_after_some_bytes() -> impl tokio::io::AsyncRead + Send + Unpin + 'static {
    struct Broken(bool);
    impl tokio::io::AsyncRead for Broken {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            if std::mem::replace(&mut self.0, true) {
                return std::task::Poll::Ready(Err(std::io::Error::other("connection lost")));
            }
            buffer.put_slice(b"rows");
            std::task::Poll::Ready(Ok(()))
        }
    }
    Broken(false)
}

// ---- hooks ----

#[tokio::test]
async fn commands_after_a_capture_run_once_and_only_where_those_before_were_started() {
    let folder = Folder::new();
    let say = |word: &str| format!("echo {word} >> {}", folder.path("log").display());
    let failing = serde_json::json!({ "command": ["sh", "-c", "echo no space >&2; exit 1"], "time-limit": "5s" });
    let json = serde_json::json!({
        "paths": ["."], "before": [["sh", "-c", say("before")], failing], "after": [["sh", "-c", say("after")]],
    });
    let config = serde_json::from_value(json).unwrap();
    let source = onggi_source::paths::Paths::new(config, folder.surroundings()).unwrap();
    let bench = Bench::new("r1");
    let unit = source.discover(&bench.cx).await.unwrap().remove(0);
    source.thaw(&bench.cx, &unit).await.unwrap();
    assert!(!folder.path("log").exists(), "nothing was frozen");
    let error = source.freeze(&bench.cx, &unit).await.unwrap_err().to_string();
    assert!(error.contains("exited with status 1: no space"), "{error}");
    let left = source.remnants(&bench.cx).await.unwrap();
    assert_eq!((left.len(), left[0].mark.as_ref().unwrap().0.as_str(), left[0].complete), (1, "r1", false));
    for _ in 0..2 {
        source.thaw(&bench.cx, &unit).await.unwrap();
        source.release(&bench.cx, &unit, Outcome::Dropped).await.unwrap();
    }
    assert_eq!(std::fs::read_to_string(folder.path("log")).unwrap(), "before\nafter\n");
    assert!(source.remnants(&bench.cx).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_hook_that_hangs_is_ended_at_its_limit() {
    let folder = Folder::new();
    let json = serde_json::json!({
        "paths": ["."], "before": [{ "command": ["sleep", "1000"], "time-limit": "50ms" }],
    });
    let source = onggi_source::paths::Paths::new(serde_json::from_value(json).unwrap(), folder.surroundings()).unwrap();
    let bench = Bench::new("r1");
    let unit = source.discover(&bench.cx).await.unwrap().remove(0);
    let error = source.freeze(&bench.cx, &unit).await.unwrap_err();
    assert!(matches!(&error, SourceError::Incomplete(text) if text.contains("did not end within 50ms")), "{error}");
}
