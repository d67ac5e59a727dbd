//! A token that is taken back: what is under way goes on, and one new login serves for the rest.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;

use onggi_lab::openstack::Openstack;
use onggi_lab::program::Ended;

use super::rig::Rig;

#[test]
fn a_token_that_is_taken_back_in_a_download_costs_one_more_login() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "");
    let (openrc, url) = rig.openrc();
    let keystone = Keystone::start(url.trim_start_matches("http://").trim_end_matches("/v3"));
    rig.log_in_with(
        &openrc.replace(&url, &format!("{}/v3", keystone.url)),
        "cloud-keep-last: 0\n    limits: { rate: 384KiB/s }",
    );
    let mut backup = rig.command(&["backup", "lab/demo/vm1"]);
    let mut running = backup.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    lab.until("a whole image", || {
        let listed = lab.json(&["image", "list", "--private", "--status", "active"]);
        listed.to_string().contains("onggi-").then_some(())
    });
    let tokens = keystone.tokens();
    assert_eq!(tokens.len(), 1);
    lab.client(&["token", "revoke", &tokens[0]]);
    assert!(running.try_wait().unwrap().is_none(), "it ended before its token was taken back");
    Ended::of(running.wait_with_output().unwrap()).expect(0);
    assert_eq!(keystone.tokens().len(), 2, "one login for the download, one for all after it");
    assert_eq!(lab.images(), Vec::<String>::new());
}

/// Passes on what is said to Keystone, and keeps what it answers.
struct Keystone {
    url: String,
    answers: Arc<Mutex<Vec<u8>>>,
}

impl Keystone {
    /// Before the one at `target`.
    fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (target, answers) = (target.to_owned(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&answers);
        // It ends with the process of the test.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(&target).unwrap();
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass(from, to, |_| ()));
                let kept = Arc::clone(&kept);
                thread::spawn(move || pass(server, client, |piece| kept.lock().unwrap().extend_from_slice(piece)));
            }
        });
        Self { url, answers }
    }

    /// The tokens that it gave out.
    fn tokens(&self) -> Vec<String> {
        const HEADER: &str = "x-subject-token: ";
        let answers = self.answers.lock().unwrap();
        let lines = answers.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned());
        let headers = lines.filter(|line| line.to_lowercase().starts_with(HEADER));
        headers.map(|line| line[HEADER.len()..].trim().to_owned()).collect()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut keep: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        keep(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
