//! A place between a client and a server: passes bytes on, no faster than a line if that is wanted, and lets a test hear
//! what the server answers, or cut it off.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Length of one read, in bytes.
const STEP_BYTES: usize = 16 << 10;
/// A line may be so far ahead of its rate: a thread cannot sleep for shorter times with any accuracy.
const AHEAD: Duration = Duration::from_millis(1);

/// What carries so many bytes of answers in a second, all connections together.
struct Line {
    bytes_per_second: u64,
    /// When all that it was given has passed.
    free_at: Mutex<Instant>,
}

impl Line {
    /// Waits until so many bytes have passed.
    fn carry(&self, bytes: usize) {
        let now = Instant::now();
        let free_at = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            *free_at = (*free_at).max(now) + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
            *free_at
        };
        let left = free_at.saturating_duration_since(now);
        if left > AHEAD {
            thread::sleep(left);
        }
    }
}

/// Listens before the server at `target` and answers where. It ends with the process.
///
/// `hear` is given each piece that the server has sent, and how many bytes of its connection came with and before it; it is
/// called when the piece is on its way to the client. Where it breaks, the connection is cut.
///
/// # Panics
/// If nothing can listen on loopback.
pub fn start(target: &str, hear: impl Fn(usize, &[u8]) -> ControlFlow<()> + Send + Sync + 'static) -> SocketAddr {
    relay(target, None, hear)
}

/// The same as a line between the two, over which answers come at so many bytes a second at most.
///
/// # Panics
/// If nothing can listen on loopback.
pub fn start_line(
    target: &str,
    bytes_per_second: u64,
    hear: impl Fn(usize, &[u8]) -> ControlFlow<()> + Send + Sync + 'static,
) -> SocketAddr {
    relay(target, Some(Line { bytes_per_second, free_at: Mutex::new(Instant::now()) }), hear)
}

fn relay(
    target: &str,
    line: Option<Line>,
    hear: impl Fn(usize, &[u8]) -> ControlFlow<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen on loopback");
    let own = listener.local_addr().expect("it has an address");
    let (target, line, hear) = (target.to_owned(), Arc::new(line), Arc::new(hear));
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(&target) else { continue };
            let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { continue };
            thread::spawn(move || pass(from, to, None, |_, _| ControlFlow::Continue(())));
            let (line, hear) = (Arc::clone(&line), Arc::clone(&hear));
            thread::spawn(move || pass(server, client, line.as_ref().as_ref(), |passed, piece| hear(passed, piece)));
        }
    });
    own
}

fn pass(mut from: TcpStream, mut to: TcpStream, line: Option<&Line>, hear: impl Fn(usize, &[u8]) -> ControlFlow<()>) {
    let (mut step, mut passed) = ([0; STEP_BYTES], 0);
    while let Ok(length @ 1..) = from.read(&mut step) {
        if let Some(line) = line {
            line.carry(length);
        }
        if to.write_all(&step[..length]).is_err() {
            break;
        }
        passed += length;
        if hear(passed, &step[..length]).is_break() {
            let _ = to.shutdown(Shutdown::Both); // the client sees it
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write); // the other side is gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_not_faster_than_it_says() {
        let line = Line { bytes_per_second: 1 << 20, free_at: Mutex::new(Instant::now()) };
        let began = Instant::now();
        (0..10).for_each(|_| line.carry(10 << 10));
        assert!(began.elapsed() + AHEAD >= Duration::from_secs_f64(0.1 * 1000.0 / 1024.0));
    }
}
