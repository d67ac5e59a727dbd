//! A way to a member that breaks: passes bytes on, and cuts the connection once so many have come from the member.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

pub struct Proxy {
    pub url: String,
}

impl Proxy {
    /// Listens before the member at `target`. Once, a connection that brought more than `limit` bytes is cut, and `cut`
    /// is called before its client notices. Then it is dropped with what it holds, which the proxy would keep for ever.
    pub fn start(target: &str, limit: usize, cut: impl FnOnce() + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (target, cut) = (target.trim_start_matches("https://").to_owned(), Arc::new(Mutex::new(Some(cut))));
        // It ends with the process of the test.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(member) = TcpStream::connect(&target) else { continue };
                let cut = Arc::clone(&cut);
                let (from, to) = (client.try_clone().unwrap(), member.try_clone().unwrap());
                thread::spawn(move || pass(from, to, usize::MAX));
                thread::spawn(move || {
                    let limit = if cut.lock().unwrap().is_some() { limit } else { usize::MAX };
                    let is_over = pass(member, client.try_clone().unwrap(), limit);
                    let cut = cut.lock().unwrap().take_if(|_| is_over);
                    if let Some(cut) = cut {
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
