//! The first five minutes: a new user, no file edited, a restored file that is equal.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::environment::{Environment, Run};
use crate::terminal::Terminal;

#[test]
fn a_new_user_backs_up_and_restores() {
    let env = Environment::new();
    env.write("Documents/report.odt", "the quarterly report\n");
    let init = env.run_bare(["init"]).expect(0);
    insta::assert_snapshot!(init.shown(&env), @r"
    stdout:
    created repository   ~/.local/share/onggi/repo
    password file        ~/.config/onggi/repo.key      (generated, mode 0600)
    RECOVERY SHEET       print the password file, keep it elsewhere: without it nothing can be restored
    exit 0
    ");
    let key = env.home().join(".config/onggi/repo.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(key).unwrap().trim().split('-').count(), 12, "twelve words");

    let backup = env.run_bare(["backup", "Documents"]).expect(0);
    assert!(backup.data.starts_with("  1 file · 21 B · "), "{}", backup.data);
    assert!(backup.data.contains("added ") && backup.data.contains("snapshot "), "{}", backup.data);

    let restore = env.run_bare(["restore", "latest:report.odt", "--target", "./out"]).expect(0);
    assert_eq!(restore.data, "./out/report.odt\n", "exactly what it wrote");
    assert_eq!(fs::read(env.path("out/report.odt")).unwrap(), b"the quarterly report\n");
}

#[test]
fn a_second_init_touches_nothing() {
    let env = Environment::new();
    env.run_bare(["init"]).expect(0);
    let key = fs::read(env.home().join(".config/onggi/repo.key")).unwrap();
    let again = env.run_bare(["init"]).expect(1);
    assert!(again.talk.contains("there is a repository already"), "{}", again.talk);
    assert_eq!(fs::read(env.home().join(".config/onggi/repo.key")).unwrap(), key);
}

#[test]
fn the_sheet_is_shown_and_asked_back_on_a_terminal() {
    let env = Environment::new();
    let mut terminal = Terminal::start(env.bare(["init"]));
    let shown = terminal.wait_for("type word ");
    assert!(shown.contains("RECOVERY SHEET"), "{shown}");
    let number: usize = terminal.wait_for(" of the sheet: ").split(' ').next().unwrap().parse().unwrap();
    terminal.type_line("certainly-not-a-word");
    terminal.wait_for("that is another word");
    terminal.wait_for(" of the sheet: ");
    let key = fs::read_to_string(env.home().join(".config/onggi/repo.key")).unwrap();
    assert!(shown.contains(key.trim()), "the sheet is the password");
    terminal.type_line(key.trim().split('-').nth(number - 1).unwrap());
    let (rest, code) = terminal.end();
    assert!(rest.contains("the sheet is right") && rest.contains("next: onggi backup ~/Documents"), "{rest}");
    assert_eq!(code, 0);
}

#[test]
fn a_sheet_that_nobody_knows_is_a_problem() {
    let env = Environment::new();
    let mut terminal = Terminal::start(env.bare(["init"]));
    for _ in 0..3 {
        terminal.wait_for(" of the sheet: ");
        terminal.type_line("no");
    }
    let (rest, code) = terminal.end();
    assert!(rest.contains("the recovery sheet was not confirmed"), "{rest}");
    assert_eq!(code, 3);
}

#[test]
fn yes_asks_nothing_back() {
    let env = Environment::new();
    let (shown, code) = Terminal::start(env.bare(["init", "--yes"])).end();
    assert!(shown.contains("RECOVERY SHEET") && !shown.contains("type word"), "{shown}");
    assert_eq!(code, 0);
}

#[test]
fn a_destructive_verb_asks_on_a_terminal_and_a_no_changes_nothing() {
    let env = Environment::with_repository();
    env.run(["backup", "data"]).expect(0);
    env.run(["backup", "data"]).expect(0);
    let forget = ["forget", "--keep-last", "1"];
    let refused = env.run(forget).expect(2);
    assert!(refused.talk.contains("--yes"), "{}", refused.talk);
    let mut terminal = Terminal::start(env.command(forget));
    let plan = terminal.wait_for("Forget 1 snapshot? [y/N] ");
    assert!(plan.contains("keep") && plan.contains("forget") && plan.contains("no rule keeps it"), "{plan}");
    terminal.type_line("n");
    assert_eq!(terminal.end().1, 1);
    assert_eq!(env.run(["snapshots", "--json"]).json().as_array().unwrap().len(), 2);
    let mut terminal = Terminal::start(env.command(forget));
    terminal.wait_for("[y/N] ");
    terminal.type_line("yes");
    assert_eq!(terminal.end().1, 0);
    assert_eq!(env.run(["snapshots", "--json"]).json().as_array().unwrap().len(), 1);
}

#[test]
fn a_password_is_asked_for_and_not_shown() {
    let env = Environment::with_repository();
    let mut command = env.bare(["snapshots"]);
    command.env("ONGGI_REPOSITORY", env.path("repo"));
    let mut terminal = Terminal::start(command);
    terminal.wait_for("password of ");
    terminal.wait_for(": ");
    terminal.type_line("correct horse battery staple");
    let (rest, code) = terminal.end();
    assert!(!rest.contains("horse"), "{rest}");
    assert_eq!(code, 0, "{rest}");
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let env = Environment::with_repository();
    let run = env.run(["backup", "data", "--dry-run"]).expect(0);
    assert!(run.data.contains("2 files") && run.data.contains("nothing was stored"), "{}", run.data);
    assert_eq!(env.run(["snapshots", "--json"]).json(), serde_json::json!([]));
    env.run(["backup", "data"]).expect(0);
    let run = env.run(["restore", "latest", "--target", "out", "--dry-run"]).expect(0);
    assert!(run.data.contains("would write 2 files"), "{}", run.data);
    assert!(!env.path("out").exists());
}

#[test]
fn a_stream_is_stored_as_one_file_and_a_failed_one_not_at_all() {
    let env = Environment::with_repository();
    let run = Run::of(env.command(["backup", "--stdin", "--stdin-filename", "shop.sql"]), b"select 1;\n").expect(0);
    assert!(run.data.contains("1 file · 10 B"), "{}", run.data);
    let failed = ["backup", "--stdin-from-command", "--", "sh", "-c", "echo half; exit 7"];
    assert!(env.run(failed).expect(1).talk.contains("exited with status 7"));
    assert_eq!(env.run(["snapshots", "--json"]).json().as_array().unwrap().len(), 1);
}
