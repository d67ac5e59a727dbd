//! Proves a restored data directory: its files say what they should, and, where there is a program etcd, a member starts
//! from them and says the same.

use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use super::Etcd;
use super::access::Access;
use super::bolt::{Bolt, FileBytes};
use super::client::{HashAnswer, Member};
use super::content::Content;
use super::hashkv::HashKv;
use super::survey::Survey;
use crate::carrier::{Launch, Running, check_exits};
use crate::context::{Context, Progress, Stop};
use crate::source::{Proof, Result, SourceError};

/// The longest that a member may take to start: it reads all its keys.
const START: Duration = Duration::from_mins(5);
/// Pause between two looks at a member that starts.
const PAUSE: Duration = Duration::from_millis(200);

/// What the files say.
struct Expected {
    revision: i64,
    compact_revision: i64,
    /// Keys that exist; `None` if they are too many to be told apart.
    keys: Option<u64>,
    hash: Option<u32>,
}

struct Local<'a> {
    cx: &'a Context,
    file: File,
}

impl FileBytes for Local<'_> {
    async fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        tokio::task::coop::consume_budget().await;
        self.cx.check()?;
        let read = self.file.read_exact_at(buffer, offset);
        read.map_err(|error| SourceError::Damaged(format!("read the restored database: {error}")))
    }
}

/// Reads the files, then starts a member from them if there is a program. `restored` is the last revision that was
/// written, and by how much it was raised.
pub(super) async fn prove(
    etcd: &Etcd,
    cx: &Context,
    directory: &Path,
    program: Option<&Path>,
    (revision, bump): (i64, i64),
) -> Result<Proof> {
    cx.monitor.progress(Progress::Phase("reading what was restored".to_owned()));
    let expected = read(cx, directory, bump > 0).await?;
    if expected.revision != revision + bump {
        let text = format!("the restored database ends at revision {}, not {}", expected.revision, revision + bump);
        return Err(SourceError::Damaged(text));
    }
    let keys = expected.keys.map_or("too many keys to count".to_owned(), |keys| format!("{keys} keys"));
    let mut checks = vec![format!("the database is whole: {keys} at revision {}", expected.revision)];
    match program {
        None => checks.push("no member was started: there is no program etcd".to_owned()),
        Some(program) => checks.extend(start(etcd, cx, directory, program, &expected).await?),
    }
    Ok(Proof { checks })
}

async fn read(cx: &Context, directory: &Path, is_raised: bool) -> Result<Expected> {
    let path = directory.join("member/snap/db");
    let file = File::open(&path).map_err(|error| SourceError::Denied(format!("read {}: {error}", path.display())))?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let bytes = Local { cx, file };
    let bolt = Bolt::open(&bytes, length).await?;
    let survey = Survey::take(&bolt).await?;
    Content::check(&bolt, &survey).await?;
    let computed = HashKv::compute(&bolt, &[survey.compact_revision]).await?;
    // The mark of a raised revision looks like a key without a name.
    let keys = computed.as_ref().map(|computed| computed.live().saturating_sub(u64::from(is_raised)));
    let hash = computed.as_ref().and_then(|computed| computed.at(survey.compact_revision));
    Ok(Expected { revision: survey.revision, compact_revision: survey.compact_revision, keys, hash })
}

async fn start(
    etcd: &Etcd,
    cx: &Context,
    directory: &Path,
    program: &Path,
    expected: &Expected,
) -> Result<Vec<String>> {
    let began = cx.world.elapsed();
    cx.monitor.progress(Progress::Phase("starting a member".to_owned()));
    let (client, peer) = ports()?;
    let client = format!("http://127.0.0.1:{client}");
    let launch = Launch { drops_output: true, ..Launch::new([words(program, directory, &client, peer)]) };
    let mut running = etcd.surroundings.launcher.start(&launch).await?;
    let limited = cx.within(START, Stop::TimeLimit);
    let member = wait(etcd, &limited, &client, &mut *running).await?;
    let mut checks = vec![format!("a member started in {} ms", cx.world.elapsed().saturating_sub(began).as_millis())];
    let denied = "it has authentication enabled, so that nothing was asked of it".to_owned();
    match compare(&limited, &*member, expected).await {
        Ok(said) => checks.extend(said),
        Err(SourceError::Denied(_)) => checks.push(denied),
        Err(error) => return Err(error),
    }
    Ok(checks)
}

/// Two ports that nobody listens on.
fn ports() -> Result<(u16, u16)> {
    let take = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok((listener.local_addr()?.port(), listener))
    };
    let both = take().and_then(|one| Ok((one, take()?)));
    let ((one, _), (other, _)) =
        both.map_err(|error: std::io::Error| SourceError::Busy(format!("there is no free port: {error}")))?;
    Ok((one, other))
}

/// It has no peers, whatever its own file says.
fn words(program: &Path, directory: &Path, client: &str, peer: u16) -> Vec<OsString> {
    let mut data = OsString::from("--data-dir=");
    data.push(directory);
    let option = |name: &str, value: &str| OsString::from(format!("--{name}={value}"));
    let peer = format!("http://127.0.0.1:{peer}");
    vec![
        program.into(),
        "--name=default".into(),
        data,
        option("listen-client-urls", client),
        option("advertise-client-urls", client),
        option("listen-peer-urls", &peer),
        option("initial-advertise-peer-urls", &peer),
        option("initial-cluster", &format!("default={peer}")),
        "--logger=zap".into(),
        "--log-outputs=stderr".into(),
    ]
}

async fn wait(etcd: &Etcd, cx: &Context, client: &str, running: &mut dyn Running) -> Result<Box<dyn Member>> {
    let access = Access { endpoints: Vec::new(), discovers: false, ca: None, identity: None, user: None };
    let mut last = String::new();
    loop {
        let asked = async {
            let member = etcd.dial.dial(cx, &access, client).await?;
            let status = member.status(cx).await?;
            Ok::<_, SourceError>((member, status))
        };
        tokio::select! {
            biased;
            ended = running.wait() => {
                check_exits(&ended?, &running.tail())?;
                return Err(SourceError::Incomplete("the member ended by itself".to_owned()));
            }
            asked = asked => match asked {
                Ok((member, status)) if status.leader.is_some() => return Ok(member),
                Ok(_) => "it has no leader".clone_into(&mut last),
                Err(SourceError::Unreachable(text) | SourceError::Busy(text)) => last = text,
                Err(error) => return Err(error),
            },
        }
        if let Err(stop) = cx.sleep(PAUSE).await {
            let is_own = stop == Stop::TimeLimit;
            return Err(if is_own {
                SourceError::Unreachable(format!("the member does not start: {last}"))
            } else {
                stop.into()
            });
        }
    }
}

async fn compare(cx: &Context, member: &dyn Member, expected: &Expected) -> Result<Vec<String>> {
    let mut said = Vec::new();
    let different =
        |what: &str| Err(SourceError::Damaged(format!("the member has other keys than the database: {what}")));
    match member.hash_kv(cx, expected.revision).await? {
        HashAnswer::Hash { hash, compact_revision } if compact_revision == expected.compact_revision => {
            match expected.hash {
                Some(own) if own == hash => said.push(format!("its hash of all keys is equal: {hash}")),
                Some(own) => return different(&format!("its hash is {hash}, not {own}")),
                None => said.push("there are too many keys to compare their hash".to_owned()),
            }
        }
        HashAnswer::Hash { .. } | HashAnswer::Compacted | HashAnswer::Future => {
            said.push("its hash cannot be compared: it counts from another compaction".to_owned());
        }
    }
    let count = member.count(cx).await?;
    match expected.keys {
        Some(keys) if keys == count => said.push(format!("it counts {count} keys")),
        Some(keys) => return different(&format!("it counts {count}, not {keys}")),
        None => said.push(format!("it counts {count} keys")),
    }
    Ok(said)
}
