//! Brings files back to a host: the program is started there once more, to write, over a login that the operator names.
//! The hub's own key can only read and is never used for that.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use onggi_node::frame::Decoder;
use onggi_node::put::{Put, Written};
use onggi_node::{DATA_BYTES_MAX, Entry as NodeEntry, EntryKind, Lost, Time};
use serde::{Deserialize, Serialize};

use super::config::Become;
use super::inventory::Host;
use super::start::{self, Verb};
use super::{Hosts, lost};
use crate::carrier::Running;
use crate::carrier::ssh::{Call, SshLauncher};
use crate::context::Context;
use crate::item::Kind;
use crate::path::TreePath;
use crate::quantity::ByteCount;
use crate::source::{
    Entry, Known, Proof, ReadError, Restore, RestorePlan, RestoreRequest, Result, SourceError, Step, Stored,
};

/// Steps that are sent together, in bytes.
const TOGETHER_BYTES: usize = 256 << 10;
/// So much of zeros, at a multiple of it, is a hole, in bytes.
const HOLE_BYTES: usize = 64 << 10;
/// Who logs in, if the operator does not say.
const ROOT: &str = "root";

/// What the operator says of a restore to a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct RestoreOptions {
    /// The directory there that everything goes below.
    pub target: Option<String>,
    /// Who logs in; root if absent. With another user the program is started by sudo.
    pub login: Option<String>,
    /// What is there may be replaced.
    pub in_place: bool,
    /// Only this, of the snapshot.
    pub path: String,
}

/// What is stored, counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
}

pub(super) struct ToHost<'a> {
    source: &'a Hosts,
    from: &'a dyn Stored,
    host: Host,
    options: RestoreOptions,
    target: String,
    path: TreePath,
    counts: Counts,
    plan: RestorePlan,
    written: Option<Written>,
}

impl<'a> ToHost<'a> {
    pub(super) async fn plan(
        cx: &Context,
        source: &'a Hosts,
        request: &'a RestoreRequest,
        from: &'a dyn Stored,
    ) -> Result<Self> {
        let options: RestoreOptions = request.options()?;
        let target = options.target.clone().unwrap_or_default();
        if onggi_node::check::absolute(target.as_bytes()).is_err() {
            return Err(SourceError::Refused("name an absolute path on the host with --target".to_owned()));
        }
        let host = source.host(cx, &request.unit).await?;
        let path =
            TreePath::new(options.path.trim_matches('/')).map_err(|error| SourceError::Refused(error.to_string()))?;
        let mut restore = Self {
            source,
            from,
            host,
            options,
            target,
            path,
            counts: Counts::default(),
            plan: RestorePlan::default(),
            written: None,
        };
        restore.count(cx).await?;
        restore.plan.steps.push(restore.step());
        Ok(restore)
    }

    fn step(&self) -> Step {
        let Counts { files, directories, others, bytes } = self.counts;
        let text = format!(
            "{files} files, {directories} directories and {others} others, {}, below {} on {}",
            ByteCount(bytes),
            self.target,
            self.host.name
        );
        if files + directories + others == 0 {
            return Step::Cannot(format!("/{} is not in the snapshot", self.path));
        }
        if self.options.in_place { Step::Replace(text) } else { Step::Create(text) }
    }

    /// The entries to begin with: the way down to what is wanted, or what lies at the top.
    async fn tops(&self, directory: &TreePath) -> Result<Vec<Entry>> {
        let mut entries = self.from.list(directory).await?;
        entries.retain(|entry| entry.kind != Kind::Socket); // whoever listens makes it anew
        if !directory.starts_with(&self.path) {
            entries.retain(|entry| self.path.starts_with(&entry.path));
        }
        Ok(entries)
    }

    async fn count(&mut self, cx: &Context) -> Result<()> {
        let mut below = vec![TreePath::root()];
        let mut counts = Counts::default();
        while let Some(directory) = below.pop() {
            cx.check()?;
            for entry in self.tops(&directory).await? {
                match entry.kind {
                    Kind::Directory => counts.directories += 1,
                    Kind::File => (counts.files, counts.bytes) = (counts.files + 1, counts.bytes + entry.length),
                    _ => counts.others += 1,
                }
                if entry.kind.is_directory() {
                    below.push(entry.path);
                }
            }
        }
        // the way down alone is nothing
        let way = self.path.as_bytes().split(|byte| *byte == b'/').count() as u64;
        let is_found = self.path.is_root() || counts.files + counts.others > 0 || counts.directories >= way;
        self.counts = if is_found { counts } else { Counts::default() };
        Ok(())
    }

    async fn start(&self, cx: &Context) -> Result<(Box<dyn Running>, Decoder)> {
        let program = self.source.program().await?;
        let login = self.options.login.clone().unwrap_or_else(|| ROOT.to_owned());
        let r#become = if login == ROOT { Become::None } else { Become::Sudo };
        let SshLauncher { call, client } = self.source.launcher(cx, &self.host)?;
        let call = Call { user: Some(login), key: None, certificate: None, ..call };
        let verb = Verb::Write { target: self.target.clone(), in_place: self.options.in_place };
        let started = start::start(cx, &SshLauncher { call, client }, &program, r#become, &verb).await;
        started.map_err(|failure| failure.report(cx))
    }

    async fn send_all(&self, cx: &Context, sending: &mut Sending) -> Result<()> {
        let mut levels = vec![(None, self.tops(&TreePath::root()).await?.into_iter())];
        while let Some((_, entries)) = levels.last_mut() {
            cx.check()?;
            let Some(entry) = entries.next() else {
                if let Some((Some(directory), _)) = levels.pop() {
                    sending.finish(cx, &directory).await?;
                }
                continue;
            };
            if entry.kind.is_directory() {
                sending.put(cx, &make(&entry)).await?;
                let below = self.tops(&entry.path).await?.into_iter();
                levels.push((Some(entry), below));
            } else {
                self.send_one(cx, sending, &entry).await?;
            }
        }
        Ok(())
    }

    async fn send_one(&self, cx: &Context, sending: &mut Sending, entry: &Entry) -> Result<()> {
        let identity = entry.metadata.inode.map(|inode| (entry.metadata.device_id, inode));
        let identity = identity.filter(|_| entry.kind.is_file() && entry.metadata.links > 1);
        if let Some(first) = identity.and_then(|identity| sending.linked.get(&identity)) {
            let (above, name) = split(&entry.path);
            let link = Put::Link { above, name, to: first.as_bytes().to_vec() };
            return sending.put(cx, &link).await;
        }
        if !entry.kind.is_file() {
            sending.put(cx, &make(entry)).await?;
            return sending.finish(cx, entry).await;
        }
        let content = self.from.open(&entry.path).await?;
        let opened = content.open(cx, &Known::default()).await;
        if let Err(error) = opened {
            return left_out(cx, sending, error);
        }
        sending.put(cx, &make(entry)).await?;
        let mut offset = 0;
        while offset < entry.length {
            let mut piece = BytesMut::zeroed((entry.length - offset).min(DATA_BYTES_MAX as u64) as usize);
            if let Err(error) = content.read(cx, offset, &mut piece).await {
                // never finished, it never gets its name
                return left_out(cx, sending, error);
            }
            sending.fill(cx, offset, &piece.freeze()).await?;
            offset += DATA_BYTES_MAX as u64;
        }
        if let Some(identity) = identity {
            sending.linked.insert(identity, entry.path.clone());
        }
        sending.finish(cx, entry).await
    }

    fn tell(&self, cx: &Context, written: &Written) -> Result<()> {
        for (code, path) in &written.problems {
            if let Ok(path) = TreePath::new(path.clone()) {
                cx.problem(lost::problem(Lost(*code), &path));
            }
        }
        let lost = written.problems.len() as u64 + written.more;
        if lost > 0 {
            return Err(SourceError::Incomplete(format!("{lost} entries are not as they were on {}", self.host.name)));
        }
        Ok(())
    }
}

/// A file whose content is damaged is told and left out.
fn left_out(cx: &Context, sending: &mut Sending, error: ReadError) -> Result<()> {
    match error {
        ReadError::Unit(error) => Err(error),
        ReadError::Item(problem) => {
            sending.left_out += 1;
            cx.problem(problem);
            Ok(())
        }
    }
}

/// The way to the host.
struct Sending {
    running: Box<dyn Running>,
    waiting: BytesMut,
    /// First names of files that have several.
    linked: HashMap<(u64, u64), TreePath>,
    left_out: u64,
}

impl Sending {
    async fn put(&mut self, cx: &Context, put: &Put) -> Result<()> {
        self.waiting.extend_from_slice(&put.encode());
        if self.waiting.len() >= TOGETHER_BYTES { self.flush(cx).await } else { Ok(()) }
    }

    async fn flush(&mut self, cx: &Context) -> Result<()> {
        let bytes = std::mem::take(&mut self.waiting).freeze();
        match cx.unless_stopped(self.running.write(bytes)).await? {
            Err(error) => Err(self.why(cx, error).await),
            written => written,
        }
    }

    /// Holes stay holes.
    async fn fill(&mut self, cx: &Context, offset: u64, bytes: &Bytes) -> Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let is_zero = |piece: &&[u8]| piece.iter().all(|byte| *byte == 0);
            let holes = bytes[at..].chunks(HOLE_BYTES).take_while(is_zero).count() * HOLE_BYTES;
            at = (at + holes).min(bytes.len());
            let data = bytes[at..].chunks(HOLE_BYTES).take_while(|piece| !is_zero(piece)).count() * HOLE_BYTES;
            let end = (at + data).min(bytes.len());
            if at < end {
                let fill = Put::Fill { offset: offset + at as u64, bytes: bytes[at..end].to_vec() };
                self.put(cx, &fill).await?;
            }
            at = end;
        }
        Ok(())
    }

    async fn finish(&mut self, cx: &Context, entry: &Entry) -> Result<()> {
        let (above, _) = split(&entry.path);
        let metadata = &entry.metadata;
        let (user, group) = (metadata.user.clone().into_bytes(), metadata.group.clone().into_bytes());
        self.put(cx, &Put::Finish { above, entry: on_host(entry, true), user, group }).await
    }

    /// A program that has ended knows best why it takes no more.
    async fn why(&mut self, cx: &Context, error: SourceError) -> SourceError {
        let _ = cx.unless_stopped(self.running.wait()).await; // only for its words
        let words = self.running.tail();
        if words.is_empty() { error } else { SourceError::Refused(words) }
    }

    /// The one answer.
    async fn end(mut self, cx: &Context, mut decoder: Decoder) -> Result<Written> {
        self.put(cx, &Put::End).await?;
        self.flush(cx).await?;
        loop {
            let frame = decoder.next_frame().map_err(|error| against_protocol(&error))?;
            if let Some(frame) = frame {
                return Written::decode(&frame).map_err(|error| against_protocol(&error));
            }
            let Some(piece) = cx.unless_stopped(self.running.read()).await?? else {
                let ended = SourceError::Incomplete("the host ended before all was written".to_owned());
                return Err(self.why(cx, ended).await);
            };
            decoder.push(&piece);
        }
    }
}

fn against_protocol(error: &onggi_node::Malformed) -> SourceError {
    SourceError::Damaged(format!("the host breaks the protocol: {error}"))
}

fn split(path: &TreePath) -> (Vec<u8>, Vec<u8>) {
    let path = path.as_bytes();
    let cut = path.iter().rposition(|byte| *byte == b'/');
    cut.map_or((Vec::new(), path.to_vec()), |at| (path[..at].to_vec(), path[at + 1..].to_vec()))
}

fn make(entry: &Entry) -> Put {
    Put::Make { above: split(&entry.path).0, entry: on_host(entry, false) }
}

/// As the host is told of it; attributes only where they count.
fn on_host(entry: &Entry, is_whole: bool) -> NodeEntry {
    let metadata = &entry.metadata;
    let time = Time {
        seconds: metadata.mtime.as_second() - i64::from(metadata.mtime.subsec_nanosecond() < 0),
        nanoseconds: metadata.mtime.subsec_nanosecond().rem_euclid(1_000_000_000).cast_unsigned(),
    };
    let xattrs = metadata.xattrs.iter().filter(|_| is_whole);
    NodeEntry {
        name: split(&entry.path).1,
        kind: match &entry.kind {
            Kind::File => EntryKind::File,
            Kind::Directory => EntryKind::Directory(0),
            Kind::Symlink(target) => EntryKind::Symlink(target.clone()),
            Kind::BlockDevice(number) => EntryKind::BlockDevice(*number),
            Kind::CharDevice(number) => EntryKind::CharDevice(*number),
            Kind::Fifo | Kind::Socket => EntryKind::Fifo, // the latter is left out before
        },
        mode: metadata.mode & 0o7777,
        uid: metadata.uid,
        gid: metadata.gid,
        size: entry.length,
        mtime: time,
        ctime: time,
        device: 0,
        inode: 0,
        links: 1,
        xattrs: xattrs.map(|xattr| (xattr.name.clone(), xattr.value.clone())).collect(),
        lost_xattrs: None,
    }
}

#[async_trait]
impl Restore for ToHost<'_> {
    fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    /// A fault of one entry does not end the work; at the end it is an error, for then not all is there.
    async fn apply(&mut self, cx: &Context) -> Result<()> {
        let (running, decoder) = self.start(cx).await?;
        let mut sending = Sending { running, waiting: BytesMut::new(), linked: HashMap::new(), left_out: 0 };
        self.send_all(cx, &mut sending).await?;
        let left_out = sending.left_out;
        let written = sending.end(cx, decoder).await?;
        self.tell(cx, &written)?;
        self.written = Some(written);
        if left_out > 0 {
            return Err(SourceError::Incomplete(format!("{left_out} files are damaged and were left out")));
        }
        Ok(())
    }

    /// The host's own count is that of the plan.
    async fn prove(&mut self, cx: &Context) -> Result<Proof> {
        cx.check()?;
        let written =
            self.written.as_ref().ok_or_else(|| SourceError::Incomplete("nothing was restored".to_owned()))?;
        let Counts { files, directories, others, .. } = self.counts;
        if (written.files, written.directories, written.others) != (files, directories, others) {
            return Err(SourceError::Incomplete("the host counts other entries than the snapshot has".to_owned()));
        }
        let mut checks =
            vec![format!("{} wrote {files} files, {directories} directories and {others} others", self.host.name)];
        if written.owned > 0 {
            checks.push(format!("{} of them belong to the user who logged in, who is not root", written.owned));
        }
        Ok(Proof { checks })
    }
}
