//! A conversation with the program on a host: many requests at once over one connection, their answers brought to whoever
//! asked. No task of its own: whoever works lets [`Driver::drive`] run beside.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt as _;
use futures::channel::mpsc as queue;
use jiff::tz::TimeZone;
use onggi_node::frame::Decoder;
use onggi_node::{Answer, Greeting, Hello, Malformed, PROTOCOL, Request};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::start::Failure;
use super::window::{RateWindow, Share};
use crate::carrier::Running;
use crate::context::{Context, Stop};
use crate::source::SourceError;

/// How long a host may say nothing at all while it is asked for something.
const SLOW: Duration = Duration::from_mins(1);
/// Answers that wait to be taken, of all streams together, in bytes; a host that sends more breaks the protocol.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// Requests that are written together: each write wakes the client, the host's server and the program there; in bytes.
const TOGETHER_BYTES: usize = 64 << 10;
/// How often the allowed rate is looked at.
const RATE_STEP: Duration = Duration::from_secs(1);

/// The asking side.
pub(super) struct Client {
    requests: UnboundedSender<Request>,
    routes: Arc<Routes>,
    /// What the host says of itself.
    pub(super) hello: Hello,
}

/// The side that carries requests and answers.
pub(super) struct Driver {
    running: Box<dyn Running>,
    decoder: Decoder,
    requests: UnboundedReceiver<Request>,
    routes: Arc<Routes>,
    rate: u64,
}

/// By stream; each answer with what it takes in memory. Most streams bring one file in two answers: a queue that comes
/// with room for many would cost more than the file.
type Waiting = HashMap<u64, queue::UnboundedSender<(Answer, usize)>>;

/// Who waits for which answers.
#[derive(Default)]
struct Routes {
    /// `None`: the connection has ended.
    open: Mutex<Option<Waiting>>,
    next: AtomicU64,
    waiting: AtomicUsize,
    /// When the host was heard last, in milliseconds of the monotonic clock.
    heard: AtomicU64,
}

/// The answers to one request. Dropping it tells the host that nobody wants the rest.
pub(super) struct Stream<'a> {
    client: &'a Client,
    pub(super) id: u64,
    answers: queue::UnboundedReceiver<(Answer, usize)>,
    is_done: bool,
}

/// Why there is no further answer.
#[derive(Debug)]
pub(super) enum Silence {
    /// The run is stopped.
    Stopped(Stop),
    /// The connection has ended; the driver knows why.
    Ended,
    /// The host does not answer.
    Slow,
}

impl From<Silence> for SourceError {
    fn from(silence: Silence) -> Self {
        match silence {
            Silence::Stopped(stop) => stop.into(),
            Silence::Ended => Self::Unreachable("the connection ended".to_owned()),
            Silence::Slow => Self::Unreachable(format!("the host said nothing for {} s", SLOW.as_secs())),
        }
    }
}

impl Routes {
    fn open(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Greets the program that was just started.
pub(super) async fn greet(
    cx: &Context,
    (running, decoder): (Box<dyn Running>, Decoder),
    nice: u8,
    rate: u64,
) -> Result<(Client, Driver), Failure> {
    let (sender, requests) = unbounded_channel();
    let routes = Arc::new(Routes { open: Mutex::new(Some(HashMap::new())), ..Routes::default() });
    let mut driver = Driver { running, decoder, requests, routes: routes.clone(), rate };
    let greeting = Greeting { nice, rate, ..Greeting::new(cx.run.as_str()) };
    driver.running.write(Request::Hello(greeting).encode().into()).await?;
    let hello = loop {
        match driver.next_answer() {
            Ok(Some((Answer::Hello(hello), _))) => break *hello,
            Ok(Some(_)) => return Err(protocol(Malformed("the first answer is no greeting"))),
            Ok(None) => {}
            Err(error) => return Err(protocol(error)),
        }
        match cx.unless_stopped(driver.running.read()).await?? {
            Some(piece) => driver.decoder.push(&piece),
            None => return Err(SourceError::Unreachable(driver.last_words(cx).await).into()),
        }
    };
    if hello.protocol != PROTOCOL {
        let text = format!(
            "the program there is {} and speaks protocol {}, this one speaks {PROTOCOL}: run `onggi hosts enroll`",
            String::from_utf8_lossy(&hello.version).escape_debug(),
            hello.protocol
        );
        return Err(Failure::new("protocol", SourceError::Denied(text)));
    }
    Ok((Client { requests: sender, routes, hello }, driver))
}

fn protocol(error: Malformed) -> Failure {
    Failure::new("protocol", SourceError::Damaged(format!("the host breaks the protocol: {error}")))
}

impl Client {
    /// Asks under a number of its own.
    pub(super) fn ask(&self, request: impl FnOnce(u64) -> Request) -> Stream<'_> {
        let id = self.routes.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answers) = queue::unbounded();
        if let Some(open) = &mut *self.routes.open() {
            open.insert(id, sender);
        }
        self.tell(request(id));
        Stream { client: self, id, answers, is_done: false }
    }

    /// Says something that nothing answers.
    pub(super) fn tell(&self, request: Request) {
        let _ = self.requests.send(request); // the connection has ended; whoever waits will learn it
    }
}

impl Stream<'_> {
    /// The next answer.
    pub(super) async fn next(&mut self, cx: &Context) -> Result<Answer, Silence> {
        if let Poll::Ready(answer) = futures::poll!(self.answers.next()) {
            return self.taken(answer);
        }
        let asked = cx.world.elapsed();
        loop {
            let heard = Duration::from_millis(self.client.routes.heard.load(Ordering::Relaxed));
            let limit = asked.max(heard) + SLOW;
            tokio::select! {
                biased;
                answer = self.answers.next() => return self.taken(answer),
                stop = cx.unless_stopped(cx.world.reach(limit)) => {
                    stop.map_err(Silence::Stopped)?;
                    let now = Duration::from_millis(self.client.routes.heard.load(Ordering::Relaxed));
                    if now <= heard {
                        return Err(Silence::Slow);
                    }
                }
            }
        }
    }

    fn taken(&self, answer: Option<(Answer, usize)>) -> Result<Answer, Silence> {
        let (answer, bytes) = answer.ok_or(Silence::Ended)?;
        self.client.routes.waiting.fetch_sub(bytes, Ordering::Relaxed);
        Ok(answer)
    }

    /// The last answer was taken.
    pub(super) fn done(&mut self) {
        self.is_done = true;
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if let Some(open) = &mut *self.client.routes.open() {
            open.remove(&self.id);
        }
        self.answers.close();
        while let Ok((_, bytes)) = self.answers.try_recv() {
            self.client.routes.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
        if !self.is_done {
            self.client.tell(Request::Cancel { stream: self.id });
        }
    }
}

impl Driver {
    /// Carries until the connection ends; answers why. Everybody who waits then learns it.
    pub(super) async fn drive(&mut self, cx: &Context, share: &Share<'_>, windows: &[RateWindow]) -> Failure {
        let zone = TimeZone::system();
        // from the first byte on, not from the first tick
        if let Err(failure) = self.keep_rate(share.rate(windows, cx.world.now(), &zone)).await {
            self.routes.open().take();
            return failure;
        }
        let ended = loop {
            let tick = cx.world.elapsed() + RATE_STEP;
            let carried = tokio::select! {
                biased;
                Some(request) = self.requests.recv() => self.ask(&request).await,
                piece = self.running.read() => match piece {
                    Ok(Some(piece)) => self.take(cx, &piece),
                    Ok(None) => Err(Failure::new("unreachable", SourceError::Unreachable(self.last_words(cx).await))),
                    Err(error) => Err(error.into()),
                },
                () = cx.world.reach(tick), if !windows.is_empty() => self.keep_rate(share.rate(windows, cx.world.now(), &zone)).await,
            };
            if let Err(failure) = carried {
                break failure;
            }
        };
        self.routes.open().take();
        ended
    }

    /// Sends a request and those that wait behind it.
    async fn ask(&mut self, first: &Request) -> Result<(), Failure> {
        let mut bytes = first.encode();
        while bytes.len() < TOGETHER_BYTES
            && let Ok(next) = self.requests.try_recv()
        {
            bytes.extend(next.encode());
        }
        Ok(self.running.write(bytes.into()).await?)
    }

    async fn keep_rate(&mut self, rate: u64) -> Result<(), Failure> {
        if rate != self.rate {
            self.rate = rate;
            self.running.write(Request::Limits { rate }.encode().into()).await?;
        }
        Ok(())
    }

    fn take(&mut self, cx: &Context, piece: &[u8]) -> Result<(), Failure> {
        self.routes.heard.store(u64::try_from(cx.world.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.decoder.push(piece);
        while let Some((answer, bytes)) = self.next_answer().map_err(protocol)? {
            let Some(stream) = answer.stream() else { continue };
            if stream > self.routes.next.load(Ordering::Relaxed) {
                return Err(protocol(Malformed("an answer to nothing that was asked")));
            }
            let open = self.routes.open();
            let Some(waiting) = open.as_ref().and_then(|open| open.get(&stream)) else { continue };
            if self.routes.waiting.fetch_add(bytes, Ordering::Relaxed) > WAITING_BYTES_MAX {
                return Err(protocol(Malformed("more comes than was asked for")));
            }
            if waiting.unbounded_send((answer, bytes)).is_err() {
                self.routes.waiting.fetch_sub(bytes, Ordering::Relaxed); // it is being dropped
            }
        }
        Ok(())
    }

    /// With what it takes in memory, about.
    fn next_answer(&mut self) -> Result<Option<(Answer, usize)>, Malformed> {
        while let Some(frame) = self.decoder.next_frame()? {
            let bytes = frame.body.len();
            if let Some(answer) = Answer::decode(&frame)? {
                return Ok(Some((answer, bytes)));
            }
        }
        Ok(None)
    }

    /// Why it ended, as far as that was said.
    async fn last_words(&mut self, cx: &Context) -> String {
        let _ = cx.unless_stopped(self.running.wait()).await; // only for its words
        let words = self.running.tail();
        if words.is_empty() { "the connection ended".to_owned() } else { words }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::bench::Bench;
    use crate::carrier::Exit;
    use crate::hosts::config::ByteRate;
    use crate::hosts::window::Allowance;
    use crate::source::Result;

    /// A host that greets and then says nothing; what it is told is kept, each with the moment.
    struct Silent {
        cx: Context,
        says: VecDeque<Bytes>,
        rates: Arc<Mutex<Vec<(Duration, u64)>>>,
    }

    #[async_trait]
    impl Running for Silent {
        async fn read(&mut self) -> Result<Option<Bytes>> {
            match self.says.pop_front() {
                Some(piece) => Ok(Some(piece)),
                None => std::future::pending().await,
            }
        }

        async fn write(&mut self, bytes: Bytes) -> Result<()> {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Some(frame) = decoder.next_frame().unwrap() {
                if let Some(Request::Limits { rate }) = Request::decode(&frame).unwrap() {
                    self.rates.lock().unwrap().push((self.cx.world.elapsed(), rate));
                }
            }
            Ok(())
        }

        async fn end_input(&mut self) -> Result<()> {
            Ok(())
        }

        async fn wait(&mut self) -> Result<Vec<Exit>> {
            Ok(Vec::new())
        }

        fn tail(&self) -> String {
            String::new()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_hour_is_told_to_the_host_within_two_seconds() {
        let bench = Bench::new("r1");
        let (cx, rates) = (&bench.cx, Arc::new(Mutex::new(Vec::new())));
        let hello = Answer::Hello(Box::new(Hello { protocol: PROTOCOL, ..Hello::default() })).encode(false);
        let silent = Silent { cx: cx.clone(), says: VecDeque::from([Bytes::from(hello)]), rates: rates.clone() };
        let (_client, mut driver) = greet(cx, (Box::new(silent), Decoder::default()), 0, 0).await.unwrap();
        // the hour that comes next has a rate, the present one has none
        let now = TimeZone::system().to_datetime(cx.world.now());
        let hour = (now.hour() + 1) % 24;
        let passed = 60 * i64::from(now.minute()) + i64::from(now.second());
        let until = Duration::from_secs(3600 - u64::try_from(passed).unwrap());
        let at = format!("{hour:02}:00-{hour:02}:59");
        let windows = [RateWindow { at: at.parse().unwrap(), rate: ByteRate(5 << 20) }];
        let allowance = Allowance::default();
        let share = allowance.join();
        tokio::select! {
            _ = driver.drive(cx, &share, &windows) => panic!("the host has not gone"),
            () = cx.world.reach(cx.world.elapsed() + until + Duration::from_mins(90)) => {}
        }
        let told = rates.lock().unwrap().clone();
        let told: Vec<_> = told.iter().map(|(at, rate)| (at.saturating_sub(until).as_secs(), *rate)).collect();
        assert_eq!(told.iter().map(|(_, rate)| *rate).collect::<Vec<_>>(), [5 << 20, 0], "{told:?}");
        assert!(told[0].0 <= 2 && told[1].0 <= 3602, "{told:?}");
    }
}
