//! A place between a client and a server: passes bytes on, and lets a test hear what the server answers, or cut it off.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;

/// Length of one read, in bytes.
const STEP_BYTES: usize = 16 << 10;

/// Listens before the server at `target` and answers where. It ends with the process.
///
/// `hear` is given each piece that the server has sent, and how many bytes of its connection came with and before it; it is
/// called when the piece is on its way to the client. Where it breaks, the connection is cut.
///
/// # Panics
/// If nothing can listen on loopback.
pub fn start(target: &str, hear: impl Fn(usize, &[u8]) -> ControlFlow<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen on loopback");
    let own = listener.local_addr().expect("it has an address");
    let (target, hear) = (target.to_owned(), Arc::new(hear));
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(&target) else { continue };
            let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { continue };
            thread::spawn(move || pass(from, to, |_, _| ControlFlow::Continue(())));
            let hear = Arc::clone(&hear);
            thread::spawn(move || pass(server, client, |passed, piece| hear(passed, piece)));
        }
    });
    own
}

fn pass(mut from: TcpStream, mut to: TcpStream, hear: impl Fn(usize, &[u8]) -> ControlFlow<()>) {
    let (mut step, mut passed) = ([0; STEP_BYTES], 0);
    while let Ok(length @ 1..) = from.read(&mut step) {
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
