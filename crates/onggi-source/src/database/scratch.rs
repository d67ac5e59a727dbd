//! A throw-away server on a socket of its own, in a private folder that bears the mark: another process finds both and
//! ends them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::Database;
use super::client::{Client, find};
use super::failure::understood;
use super::private::{PLACE, Private};
use super::request::{Reach, as_user, make_folder, remove_folder, words};
use crate::carrier::{Launch, Running, check_exits, run_to_end};
use crate::context::Context;
use crate::source::{Result, SourceError, Unit};

/// How long a scratch server may take to answer.
const START_LIMIT: Duration = Duration::from_mins(2);
/// How often it is asked.
const START_POLL: Duration = Duration::from_millis(100);
/// How often a folder is removed again that a dying server still writes into.
const REMOVALS_MAX: u32 = 20;
const DATA: &str = "data";
const SOCKET: &str = "sock";
const PID_FILE: &str = "pid";

/// A running scratch server.
pub(super) struct Server<'a> {
    pub(super) client: Client<'a>,
    /// Killed with this; the lock is for the compiler, nobody reads from it.
    _running: Mutex<Box<dyn Running>>,
}

impl Database {
    /// The user of this machine that scratch servers run as: never root, which they refuse.
    pub(super) fn scratch_user(&self) -> Option<&str> {
        let named = self.config.drill.user.as_deref().or(self.config.run_as.as_deref());
        let default = if self.config.preset.is_postgres() { "postgres" } else { "mysql" };
        let needs_one = rustix::process::geteuid().is_root() && self.config.preset != super::Preset::Sqlite;
        named.or(needs_one.then_some(default))
    }

    /// Makes the private folder of this mark. Its name is written down first.
    pub(super) async fn make_place(&self, cx: &Context, unit: &Unit, user: Option<&str>) -> Result<PathBuf> {
        let place = self.config.drill.directory.join(format!("onggi-{}", Private::digest(cx, unit)));
        self.private.write(cx, unit, PLACE, &place.display().to_string())?;
        run_to_end(cx, &*self.surroundings.launcher, &make_folder(user, &place)).await.map_err(understood)?;
        Ok(place)
    }

    /// Ends what runs in the folder of this mark and removes it.
    pub(super) async fn remove_place(&self, cx: &Context, unit: &Unit) -> Result<()> {
        let Some(place) = self.private.read(cx, unit, PLACE)?.map(PathBuf::from) else { return Ok(()) };
        end_server(&place);
        let user = self.scratch_user().filter(|_| !rustix::process::geteuid().is_root());
        let mut left = REMOVALS_MAX;
        loop {
            let removed = run_to_end(cx, &*self.surroundings.launcher, &remove_folder(user, &place)).await;
            match removed {
                Err(SourceError::Incomplete(_)) if left > 0 => left -= 1,
                other => return other,
            }
            cx.sleep(START_POLL).await?;
        }
    }

    /// Makes an empty server in the folder and starts it.
    pub(super) async fn start_scratch<'a>(
        &'a self,
        cx: &Context,
        place: &Path,
        from: &Client<'_>,
    ) -> Result<Server<'a>> {
        let user = self.scratch_user();
        let (prepare, start) = if self.config.preset.is_postgres() {
            postgres_lines(&from.reach, place)
        } else {
            mysql_lines(&from.reach, place)
        };
        let launcher = &*self.surroundings.launcher;
        let at = |line| Launch { directory: Some(place.to_owned()), ..Launch::new([as_user(user, line)]) };
        run_to_end(cx, launcher, &at(prepare)).await.map_err(understood)?;
        let mut running = launcher.start(&Launch { drops_output: true, ..at(start) }).await?;
        let mut client = Client::at(self, scratch_reach(self, &from.reach, place));
        let until = cx.world.elapsed() + START_LIMIT;
        loop {
            match client.meet(cx).await {
                Ok(()) => return Ok(Server { client, _running: Mutex::new(running) }),
                Err(SourceError::Stopped(stop)) => return Err(stop.into()),
                Err(error) if cx.world.elapsed() >= until => return Err(error),
                Err(_) => {}
            }
            // a server that ended says why; one that runs on is asked again
            tokio::select! {
                biased;
                exits = running.wait() => {
                    check_exits(&exits?, &running.tail())?;
                    return Err(SourceError::Incomplete("the scratch server ended".to_owned()));
                }
                slept = cx.sleep(START_POLL) => slept?,
            }
        }
    }
}

fn scratch_reach(source: &Database, from: &Reach, place: &Path) -> Reach {
    let is_postgres = source.config.preset.is_postgres();
    let socket = if is_postgres { place.to_owned() } else { place.join(SOCKET) };
    Reach {
        host: Some(socket.display().to_string()),
        user: Some(if is_postgres { "postgres" } else { "root" }.to_owned()),
        programs: from.programs.clone(),
        ..Reach::default()
    }
}

/// What makes an empty cluster, and what serves it. Nothing in it needs to survive this machine.
fn postgres_lines(reach: &Reach, place: &Path) -> (Vec<OsString>, Vec<OsString>) {
    let mut prepare = vec![reach.program("initdb"), "-D".into(), place.join(DATA).into()];
    prepare.extend(words(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]));
    let mut start = vec![reach.program("postgres"), "-D".into(), place.join(DATA).into(), "-k".into(), place.into()];
    start.extend(words(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off"]));
    start.extend(words(["-c", "log_min_messages=fatal", "-c", "log_checkpoints=off"]));
    let mut pid_file = OsString::from("external_pid_file=");
    pid_file.push(place.join(PID_FILE));
    start.extend(["-c".into(), pid_file]);
    (prepare, start)
}

fn mysql_lines(reach: &Reach, place: &Path) -> (Vec<OsString>, Vec<OsString>) {
    let of = |flag: &str, path: PathBuf| {
        let mut word = OsString::from(flag);
        word.push(path);
        word
    };
    let program = |name: &str| match find(name) {
        Some(path) if reach.programs.is_none() => path.into(),
        _ => reach.program(name),
    };
    let mut prepare = vec![program("mariadb-install-db"), "--no-defaults".into()];
    // a server that starts takes the temporary tables of all others away that share its folder for them
    let own = of("--tmpdir=", place.to_owned());
    prepare.extend([of("--datadir=", place.join(DATA)), own.clone()]);
    prepare.extend(words(["--auth-root-authentication-method=normal", "--skip-test-db"]));
    let mut start = vec![program("mariadbd"), "--no-defaults".into(), of("--datadir=", place.join(DATA))];
    start.extend([of("--socket=", place.join(SOCKET)), of("--pid-file=", place.join(PID_FILE)), own]);
    start.extend(words(["--skip-networking", "--skip-log-bin", "--innodb-flush-log-at-trx-commit=0"]));
    (prepare, start)
}

/// Kills the server of a folder, if the process of that number is still the one that was started there.
fn end_server(place: &Path) {
    let Ok(text) = std::fs::read_to_string(place.join(PID_FILE)) else { return };
    let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { return };
    let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let name = place.as_os_str().as_encoded_bytes();
    if line.windows(name.len()).any(|window| window == name) {
        let _ = kill_process(pid, Signal::KILL); // it may have ended by itself
    }
}
