//! A long way to a server: passes bytes on, each direction later by half of a round trip, however many are under way.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Pieces that may be under way in one direction: more than a connection's window.
const UNDER_WAY_MAX: usize = 4096;
/// Length of one read, in bytes.
const STEP_BYTES: usize = 64 << 10;

/// Listens before `port` and answers on which port. It ends with the process.
pub fn start(port: u16, round_trip: Duration) -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let own = listener.local_addr()?.port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            if let Ok(server) = TcpStream::connect(("127.0.0.1", port)) {
                let _ = join(&client, &server, round_trip / 2); // the client sees that it is closed
            }
        }
    });
    Ok(own)
}

fn join(client: &TcpStream, server: &TcpStream, delay: Duration) -> io::Result<()> {
    for (from, to) in [(client, server), (server, client)] {
        to.set_nodelay(true)?;
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let (sender, receiver) = sync_channel(UNDER_WAY_MAX);
        thread::spawn(move || take(from, &sender));
        thread::spawn(move || bring(&receiver, to, delay));
    }
    Ok(())
}

fn take(mut from: TcpStream, under_way: &SyncSender<(Instant, Vec<u8>)>) {
    let mut step = vec![0; STEP_BYTES];
    while let Ok(length @ 1..) = from.read(&mut step) {
        if under_way.send((Instant::now(), step[..length].to_vec())).is_err() {
            break;
        }
    }
}

fn bring(under_way: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream, delay: Duration) {
    while let Ok((at, bytes)) = under_way.recv() {
        thread::sleep((at + delay).saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write); // the other side is gone
}
