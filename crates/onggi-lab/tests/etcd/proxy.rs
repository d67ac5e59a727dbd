//! A way to a member that breaks: passes bytes on, and cuts the connection once so many have come from the member.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

pub struct Proxy {
    pub url: String,
}

impl Proxy {
    /// Listens before the member at `target`. Once, a connection that brought more than `limit` bytes is cut, and `cut`
    /// is called before the next one is passed on.
    pub fn start(target: &str, limit: usize, cut: impl Fn() + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (target, cut) = (target.trim_start_matches("https://").to_owned(), Arc::new(cut));
        let is_due = Arc::new(AtomicBool::new(true));
        // It ends with the process of the test.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(member) = TcpStream::connect(&target) else { continue };
                let (is_due, cut) = (Arc::clone(&is_due), Arc::clone(&cut));
                let (from, to) = (client.try_clone().unwrap(), member.try_clone().unwrap());
                thread::spawn(move || pass(from, to, usize::MAX));
                thread::spawn(move || {
                    let passed = if is_due.load(Ordering::SeqCst) { limit } else { usize::MAX };
                    if pass(member, client.try_clone().unwrap(), passed) && is_due.swap(false, Ordering::SeqCst) {
                        cut();
                        let _ = client.shutdown(Shutdown::Both);
                    }
                });
            }
        });
        Self { url }
    }
}

/// Whether it stopped because of the limit.
fn pass(mut from: TcpStream, mut to: TcpStream, limit: usize) -> bool {
    let (mut buffer, mut passed) = ([0; 16 << 10], 0);
    while passed <= limit {
        match from.read(&mut buffer) {
            Ok(length) if length > 0 && to.write_all(&buffer[..length]).is_ok() => passed += length,
            _ => {
                let _ = to.shutdown(Shutdown::Write);
                return false;
            }
        }
    }
    true
}
