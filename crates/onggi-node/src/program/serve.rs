//! Takes requests and hands them to threads. What one request does, no other one waits for, but for its turn to be sent.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use onggi_node::frame::Decoder;
use onggi_node::{Answer, DATA_BYTES_MAX, Greeting, PROTOCOL, READ_BYTES_MAX, ReadRequest, Request, STREAMS_MAX};

use super::confine::confine;
use super::hello::hello;
use super::journal::Journal;
use super::out::{Credit, Out};
use super::owners::Owners;
use super::policy::Policy;
use super::read::Reader;
use super::{dump, walk};

/// Threads that read files.
const READERS: usize = 4;
/// Reads that one thread does in a row before it sends their answers.
const READS_MAX: usize = 16;
/// Length of one read of requests, in bytes.
const STEP_BYTES: usize = 64 << 10;
/// Least that others keep of this program's time.
const NICE_MAX: u8 = 19;

/// A piece of work for one of the threads that read.
enum Work {
    /// Files of one directory.
    Read(Vec<ReadRequest>),
    Compare(ReadRequest, Vec<(u64, [u8; 32])>),
}

/// What all threads share.
struct Shared {
    policy: Policy,
    journal: Journal,
    owners: Owners,
    out: Out,
    streams: Mutex<HashMap<u64, Arc<Credit>>>,
}

impl Shared {
    fn streams(&self) -> MutexGuard<'_, HashMap<u64, Arc<Credit>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream; one that is open already, or one too many, is against the protocol.
    fn begin(&self, stream: u64, bytes: u64) -> io::Result<Arc<Credit>> {
        let mut streams = self.streams();
        if streams.len() >= STREAMS_MAX || streams.contains_key(&stream) {
            return Err(io::Error::other("too many streams"));
        }
        let credit = Arc::new(Credit::of(bytes));
        streams.insert(stream, credit.clone());
        Ok(credit)
    }

    fn of(&self, stream: u64) -> Arc<Credit> {
        self.streams().get(&stream).cloned().unwrap_or_default()
    }

    fn end(&self, stream: u64) {
        self.streams().remove(&stream);
    }
}

/// Serves until the hub has gone or breaks the protocol.
pub(super) fn serve(policy: Policy) -> io::Result<()> {
    let (out, sender) = Out::new();
    thread::spawn(move || {
        let _ = sender.run(); // nobody listens any more
        std::process::exit(0);
    });
    let journal = policy.journal();
    let shared = Arc::new(Shared { policy, journal, owners: Owners::load(), out, streams: Mutex::default() });
    let (mut decoder, mut step, mut input) = (Decoder::default(), vec![0; STEP_BYTES], io::stdin().lock());
    let mut work: Option<Sender<Work>> = None;
    let mut reads = Vec::new();
    loop {
        match input.read(&mut step)? {
            0 => break,
            length => decoder.push(&step[..length]),
        }
        while let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
            match (Request::decode(&frame).map_err(io::Error::other)?, &work) {
                (None, _) => {}
                (Some(Request::Hello(greeting)), None) => work = Some(greet(&shared, &greeting)?),
                (Some(Request::Bye), _) => {
                    end(&shared);
                    return Ok(());
                }
                (Some(request), Some(work)) => take(&shared, (work, &mut reads), request)?,
                (Some(_), None) => return Err(io::Error::other("the first request is no greeting")),
            }
        }
        if let Some(work) = &work {
            hand_on(work, &mut reads)?;
        }
    }
    end(&shared);
    Ok(())
}

/// Commands of the node must not outlive the program.
fn end(shared: &Shared) {
    shared.streams().values().for_each(|credit| credit.cancel());
    thread::sleep(std::time::Duration::from_millis(100));
}

/// Starts the threads, each without the right to write, and says who this is.
fn greet(shared: &Arc<Shared>, greeting: &Greeting) -> io::Result<Sender<Work>> {
    let _ = rustix::process::nice(i32::from(greeting.nice.min(NICE_MAX))); // a courtesy
    limit(shared, greeting.rate);
    shared.journal.of_run(&greeting.run);
    let (work, queue) = channel();
    let queue = Arc::new(Mutex::new(queue));
    let (told, confined) = channel();
    for _ in 0..READERS {
        let (shared, queue, told) = (shared.clone(), queue.clone(), told.clone());
        thread::spawn(move || {
            let _ = told.send(confine(&shared.policy)); // the program ends
            serve_reads(&shared, &queue);
        });
    }
    drop(told);
    let confined = confined.iter().take(READERS).filter(|one| *one).count() == READERS;
    shared.out.send(&Answer::Hello(Box::new(hello(&shared.policy, confined))), false).map_err(|_| gone())?;
    if !(greeting.protocol_min..=greeting.protocol_max).contains(&PROTOCOL) {
        return Err(io::Error::other("the hub speaks another protocol"));
    }
    Ok(work)
}

fn limit(shared: &Shared, asked: u64) {
    let own = shared.policy.rate;
    shared.out.limit(if asked == 0 || own != 0 && own < asked { own } else { asked });
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

/// Reads wait for others of the same directory.
fn take(
    shared: &Arc<Shared>,
    (work, reads): (&Sender<Work>, &mut Vec<ReadRequest>),
    request: Request,
) -> io::Result<()> {
    match request {
        Request::Hello(_) => return Err(io::Error::other("a second greeting")),
        Request::Read(read) => take_read(shared, (work, reads), read)?,
        Request::Walk(one) => {
            watch_root(shared, &one.root);
            let credit = shared.begin(one.stream, one.credit)?;
            let (shared, stream) = (shared.clone(), one.stream);
            thread::spawn(move || {
                let mounts = walk::Mounts::load(); // while it may be read
                confine(&shared.policy);
                walk::walk(one, mounts, &shared.policy, &shared.owners, &credit, &shared.out);
                shared.end(stream);
            });
        }
        Request::Ranges { file, ranges } => {
            watch_root(shared, &file.root);
            shared.begin(file.stream, 0)?;
            work.send(Work::Compare(file, ranges)).map_err(|_| gone())?;
        }
        Request::Dump { stream, name, command, seconds } => {
            let credit = shared.begin(stream, 0)?;
            let command = shared.policy.command(&name, command);
            if command.is_none() {
                shared.journal.refused("run", &name);
            }
            let (shared, command) = (shared.clone(), command.unwrap_or_default());
            thread::spawn(move || {
                dump::dump(stream, &command, seconds, &credit, &shared.out);
                shared.end(stream);
            });
        }
        Request::Limits { rate } => limit(shared, rate),
        Request::Credit { stream, bytes } => shared.of(stream).add(bytes),
        Request::Cancel { stream } => shared.of(stream).cancel(),
        Request::Ping { token } => {
            let (shared, pong) = (shared.clone(), Answer::Pong { token });
            // beside: this thread must never wait for the hub to read
            thread::spawn(move || shared.out.send(&pong, false));
        }
        Request::Bye => {}
    }
    Ok(())
}

/// Short reads of one directory go to one thread together; each time a thread is woken.
fn take_read(
    shared: &Shared,
    (work, reads): (&Sender<Work>, &mut Vec<ReadRequest>),
    read: ReadRequest,
) -> io::Result<()> {
    watch_root(shared, &read.root);
    shared.begin(read.stream, 0)?;
    // a directory that does not answer holds up no other one
    let is_beside = |last: &ReadRequest| last.root == read.root && directory(&last.path) == directory(&read.path);
    let bytes = reads.iter().chain([&read]).map(|read| read.length.min(READ_BYTES_MAX)).sum::<u64>();
    if reads.len() == READS_MAX || bytes > DATA_BYTES_MAX as u64 || !reads.last().is_none_or(is_beside) {
        hand_on(work, reads)?;
    }
    reads.push(read);
    Ok(())
}

fn hand_on(work: &Sender<Work>, reads: &mut Vec<ReadRequest>) -> io::Result<()> {
    if reads.is_empty() { Ok(()) } else { work.send(Work::Read(std::mem::take(reads))).map_err(|_| gone()) }
}

fn directory(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|byte| *byte == b'/').unwrap_or(0)]
}

/// Whoever reads refuses it; here it is told.
fn watch_root(shared: &Shared, root: &[u8]) {
    if !shared.policy.allows(root) {
        shared.journal.refused("read", root);
    }
}

fn serve_reads(shared: &Shared, queue: &Mutex<Receiver<Work>>) {
    let mut reader = Reader::new(&shared.policy, &shared.out);
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        let done = match work {
            Work::Read(reads) => reads.iter().try_for_each(|read| {
                let done = reader.read(read, &shared.of(read.stream));
                shared.end(read.stream);
                done
            }),
            Work::Compare(file, ranges) => {
                let done = reader.compare(&file, &ranges, &shared.of(file.stream));
                shared.end(file.stream);
                done
            }
        };
        if done.and_then(|()| reader.send()).is_err() {
            return;
        }
    }
}
