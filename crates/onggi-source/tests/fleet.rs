//! The kinds `hosts` and `device` over fakes that speak their protocols, through the suite of all sources.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::VecDeque;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use onggi_node::frame::Decoder;
use onggi_node::{Answer, Entry, EntryKind, Hello, Lost, MAGIC, PROTOCOL, ReadRequest, Request, Stamp, Time, Walk};
use onggi_source::bench::Bench;
use onggi_source::carrier::{Exit, Launch, Launcher, Running};
use onggi_source::conformance::{self, Bed};
use onggi_source::device::{DeviceConfig, Devices, Dialer, Line};
use onggi_source::faults::Faults;
use onggi_source::hosts::{Hosts, HostsConfig};
use onggi_source::recorder::Recorder;
use onggi_source::{Result, Source, SourceError};
use onggi_ssh::{Login, SshError};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use support::Folder;

/// What is sent to the host; it is never run.
const PROGRAM: &[u8] = b"the program for hosts";
/// By path below `/data`, in the order of a walk: what lies in the root comes before what lies deeper.
const FILES: &[(&str, &[u8])] = &[("a", b"first"), ("empty", b""), ("deep/b", b"second and longer")];

/// A host: its lock, and how many programs run there.
#[derive(Clone, Default)]
struct FakeHost {
    faults: Faults,
    locked: Arc<AtomicBool>,
    running: Arc<AtomicUsize>,
    /// How many were ever started.
    started: Arc<AtomicUsize>,
}

/// `ssh` to this host: hooks by their names, anything else is the program.
#[async_trait]
impl Launcher for FakeHost {
    async fn start(&self, launch: &Launch) -> Result<Box<dyn Running>> {
        let command = launch.stages[0].last().unwrap().to_str().unwrap().to_owned();
        let program = async {
            match command.split(' ').next_back() {
                Some("lock") => self.locked.store(true, Ordering::Relaxed),
                Some("unlock") => self.locked.store(false, Ordering::Relaxed),
                _ => return Ok(Program::started(self)),
            }
            Ok(Program::ended(self))
        };
        Ok(Box::new(self.faults.call("start", program).await?))
    }
}

/// A program on the host.
struct Program {
    host: FakeHost,
    heard: Decoder,
    says: VecDeque<Bytes>,
    is_over: bool,
}

impl Program {
    fn started(host: &FakeHost) -> Self {
        let digest: String = Sha256::digest(PROGRAM).iter().map(|byte| format!("{byte:02x}")).collect();
        let mut program = Self::ended(host);
        program.is_over = false;
        program.says.push_back(Bytes::from(format!("{MAGIC}{digest}\n")));
        program
    }

    fn ended(host: &FakeHost) -> Self {
        host.running.fetch_add(1, Ordering::Relaxed);
        host.started.fetch_add(1, Ordering::Relaxed);
        Self { host: host.clone(), heard: Decoder::default(), says: VecDeque::new(), is_over: true }
    }

    fn take(&mut self, request: Request) {
        let answers = match request {
            Request::Hello(_) => {
                vec![Answer::Hello(Box::new(Hello { protocol: PROTOCOL, takes_commands: true, ..Hello::default() }))]
            }
            Request::Walk(walk) => walked(&walk),
            Request::Read(read) => piece(&read),
            Request::Dump { stream, .. } => vec![
                Answer::Data { stream, bytes: b"rows".to_vec() },
                Answer::DumpDone { stream, lost: Lost::NOTHING, status: 0, tail: Vec::new() },
            ],
            Request::Bye => {
                self.is_over = true;
                Vec::new()
            }
            _ => Vec::new(),
        };
        self.says.extend(answers.iter().map(|answer| Bytes::from(answer.encode(false))));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.host.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Running for Program {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        if self.says.is_empty() && !self.is_over {
            return std::future::pending().await;
        }
        let faults = self.host.faults.clone();
        faults.call("read", async { Ok(self.says.pop_front()) }).await
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let faults = self.host.faults.clone();
        let heard = async {
            self.heard.push(&bytes);
            while let Some(frame) = self.heard.next_frame().unwrap() {
                self.take(Request::decode(&frame).unwrap().unwrap());
            }
            Ok(())
        };
        faults.call("write", heard).await
    }

    async fn end_input(&mut self) -> Result<()> {
        self.is_over = true;
        Ok(())
    }

    async fn wait(&mut self) -> Result<Vec<Exit>> {
        Ok(vec![Exit { program: "ssh".to_owned(), status: Some(0) }])
    }

    fn tail(&self) -> String {
        String::new()
    }
}

fn entry(name: &str, kind: EntryKind, size: usize) -> Entry {
    let time = Time { seconds: 1_700_000_000, nanoseconds: 5 };
    Entry {
        name: name.as_bytes().to_vec(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: size as u64,
        mtime: time,
        ctime: time,
        device: 7,
        inode: name.bytes().map(u64::from).sum(),
        links: 1,
        xattrs: Vec::new(),
        lost_xattrs: None,
    }
}

fn file((path, content): &(&str, &[u8])) -> Entry {
    entry(path.rsplit('/').next().unwrap(), EntryKind::File, content.len())
}

fn walked(walk: &Walk) -> Vec<Answer> {
    assert_eq!(walk.root, b"/data");
    let stream = walk.stream;
    let top = vec![file(&FILES[0]), entry("deep", EntryKind::Directory(2), 0), file(&FILES[1])];
    vec![
        Answer::Chain { stream, entries: vec![entry("data", EntryKind::Directory(1), 0)] },
        Answer::Entries { stream, directory: 1, entries: top },
        Answer::Entries { stream, directory: 2, entries: vec![file(&FILES[2])] },
        Answer::DirectoryDone { stream, directory: 2, entries: 1 },
        Answer::DirectoryDone { stream, directory: 1, entries: 3 },
        Answer::WalkDone { stream, directories: 2, entries: 4 },
    ]
}

fn piece(read: &ReadRequest) -> Vec<Answer> {
    let named = FILES.iter().find(|(path, _)| path.as_bytes() == read.path).expect("only what was told is read");
    let (stream, seen) = (read.stream, file(named));
    let from = usize::try_from(read.offset).unwrap().min(named.1.len());
    let until = (from + usize::try_from(read.length).unwrap()).min(named.1.len());
    let stamp = Stamp { size: seen.size, mtime: seen.mtime, device: seen.device, inode: seen.inode };
    let data = if read.layout && seen.size > 0 { vec![(0, seen.size)] } else { Vec::new() };
    // the last bytes come with the end
    let last = (until - from).min(1);
    let bytes = named.1[until - last..until].to_vec();
    let mut answers = Vec::new();
    if from + last < until {
        answers.push(Answer::Data { stream, bytes: named.1[from..until - last].to_vec() });
    }
    answers.push(Answer::ReadDone { stream, lost: Lost::NOTHING, stamp, data, bytes });
    answers
}

struct HostBed {
    folder: Folder,
    host: FakeHost,
}

impl HostBed {
    fn new() -> Self {
        let folder = Folder::new();
        folder.put("nodes.yaml", b"hosts: { n1: {} }\n");
        folder.put("program", PROGRAM);
        Self { folder, host: FakeHost::default() }
    }
}

impl Bed for HostBed {
    fn source(&self) -> Box<dyn Source> {
        let config: HostsConfig = serde_json::from_value(json!({
            "inventory": [{ "file": "nodes.yaml" }],
            "paths": ["/data"],
            "dumps": [{ "name": "db", "command": ["dump"] }],
            "before": [["lock"]],
            "after": [["unlock"]],
        }))
        .unwrap();
        let surroundings = self.folder.surroundings_with(Arc::new(self.host.clone()));
        let programs = vec![self.folder.path("program")];
        Box::new(Hosts::new(config, onggi_source::Surroundings { programs, ..surroundings }))
    }
    fn faults(&self) -> Faults {
        self.host.faults.clone()
    }
    fn describe(&self) -> String {
        let (locked, running) = (&self.host.locked, &self.host.running);
        let marks = marks(&self.folder);
        format!("locked {} running {} marks {marks:?}", locked.load(Ordering::Relaxed), running.load(Ordering::Relaxed))
    }
    /// The mark of another run.
    fn leave_foreign(&self) -> bool {
        fs::create_dir_all(self.folder.state().join("marks")).unwrap();
        fs::write(self.folder.state().join("marks/0123.mark"), "{}").unwrap();
        true
    }
    fn foreign_is_there(&self) -> bool {
        self.folder.state().join("marks/0123.mark").exists()
    }
    fn options(&self) -> serde_json::Value {
        json!({ "target": "/restored" })
    }
}

fn marks(folder: &Folder) -> Vec<std::ffi::OsString> {
    let found = fs::read_dir(folder.state().join("marks")).into_iter().flatten().flatten();
    let mut names: Vec<_> = found.map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn kind_hosts_conforms() {
    conformance::check(HostBed::new).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_wanted_alone_is_connected_to_once_and_early() {
    let (bed, cx) = (HostBed::new(), Bench::new("r1").cx);
    let source = bed.source();
    let unit = source.discover(&cx).await.unwrap().remove(0);
    let [started, running] = [&bed.host.started, &bed.host.running];
    source.approach(&cx, Some(&["another".to_owned()])).await;
    assert_eq!(started.load(Ordering::Relaxed), 0);
    source.approach(&cx, Some(&[unit.id.to_string()])).await;
    assert_eq!(started.load(Ordering::Relaxed), 1);
    for already in [1, 2] {
        let recorder = Recorder::new(&cx);
        let mut capture = source.capture(&cx, &unit, None).await.unwrap();
        assert_eq!(started.load(Ordering::Relaxed), already, "the second capture connects for itself");
        capture.items(&cx, &recorder).await.unwrap();
    }
    // what nobody captures ends with its source
    source.approach(&cx, None).await;
    assert_eq!(running.load(Ordering::Relaxed), 1);
    drop(source);
    assert_eq!(running.load(Ordering::Relaxed), 0);
}

/// A switch, and how many connections it has.
#[derive(Clone, Default)]
struct FakeSwitch {
    faults: Faults,
    connections: Arc<AtomicUsize>,
    /// What was typed and is not answered yet.
    typed: Arc<Mutex<VecDeque<Bytes>>>,
}

#[async_trait]
impl Dialer for FakeSwitch {
    async fn dial(&self, _: &Login) -> std::result::Result<Box<dyn Line>, SshError> {
        let dial = async {
            self.connections.fetch_add(1, Ordering::Relaxed);
            Ok(FakeLine { switch: self.clone() })
        };
        Ok(Box::new(self.faults.call("dial", dial).await.map_err(lost)?))
    }
}

fn lost(error: SourceError) -> SshError {
    SshError::Unreachable(error.into())
}

struct FakeLine {
    switch: FakeSwitch,
}

impl Drop for FakeLine {
    fn drop(&mut self) {
        self.switch.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Line for FakeLine {
    async fn send(&mut self, text: &str) -> std::result::Result<(), SshError> {
        let text = Bytes::copy_from_slice(text.as_bytes());
        let send = async {
            self.switch.typed.lock().unwrap().push_back(text);
            Ok(())
        };
        self.switch.faults.call("send", send).await.map_err(lost)
    }

    async fn receive(&mut self) -> std::result::Result<Option<Bytes>, SshError> {
        let answer = async { Ok(self.switch.typed.lock().unwrap().pop_front()) };
        self.switch.faults.call("receive", answer).await.map_err(lost)
    }

    async fn run(&mut self, command: &str, _: usize) -> std::result::Result<(Vec<u8>, Option<u32>), SshError> {
        let said = format!("{command}\n{}end\n", "interface Ethernet1/1\n".repeat(20));
        let run = async { Ok((said.into_bytes(), Some(0))) };
        self.switch.faults.call("run", run).await.map_err(lost)
    }
}

struct DeviceBed {
    folder: Folder,
    switch: FakeSwitch,
}

impl DeviceBed {
    fn new() -> Self {
        let folder = Folder::new();
        folder.put("switches.yaml", b"hosts: { sw1: { model: lab, host-key: 'ssh-ed25519 AAAA' } }\n");
        Self { folder, switch: FakeSwitch::default() }
    }
}

impl Bed for DeviceBed {
    fn source(&self) -> Box<dyn Source> {
        let config: DeviceConfig = serde_json::from_value(json!({
            "inventory": [{ "file": "switches.yaml" }],
            "connect": { "user": "backup" },
            "models": { "lab": { "how": "exec", "capture": { "running": "show running", "startup": "show startup" } } },
        }))
        .unwrap();
        Box::new(Devices::over(config, self.folder.surroundings(), Arc::new(self.switch.clone())))
    }
    fn faults(&self) -> Faults {
        self.switch.faults.clone()
    }
    fn describe(&self) -> String {
        format!("connections {} marks {:?}", self.switch.connections.load(Ordering::Relaxed), marks(&self.folder))
    }
    /// A device has nothing that another tool could leave.
    fn leave_foreign(&self) -> bool {
        false
    }
    fn foreign_is_there(&self) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn kind_device_conforms() {
    conformance::check(DeviceBed::new).await;
}
