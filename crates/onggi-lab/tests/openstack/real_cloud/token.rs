//! A token that is taken back: what is under way goes on, and one new login serves for the rest.

use std::ops::ControlFlow;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use onggi_lab::openstack::Openstack;
use onggi_lab::program::Ended;
use onggi_lab::relay;

use super::rig::Rig;

#[test]
fn a_token_that_is_taken_back_in_a_download_costs_one_more_login() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "");
    let (openrc, url) = rig.openrc();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&answers);
    let keystone = relay::start(url.trim_start_matches("http://").trim_end_matches("/v3"), move |_, piece| {
        heard.lock().unwrap().extend_from_slice(piece);
        ControlFlow::Continue(())
    });
    rig.log_in_with(
        &openrc.replace(&url, &format!("http://{keystone}/v3")),
        "cloud-keep-last: 0\n    limits: { rate: 384KiB/s }",
    );
    let mut backup = rig.command(&["backup", "lab/demo/vm1"]);
    let mut running = backup.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    lab.until("a whole image", || {
        let listed = lab.json(&["image", "list", "--private", "--status", "active"]);
        listed.to_string().contains("onggi-").then_some(())
    });
    let first = tokens(&answers);
    assert_eq!(first.len(), 1);
    lab.client(&["token", "revoke", &first[0]]);
    assert!(running.try_wait().unwrap().is_none(), "it ended before its token was taken back");
    Ended::of(running.wait_with_output().unwrap()).expect(0);
    assert_eq!(tokens(&answers).len(), 2, "one login for the download, one for all after it");
    assert_eq!(lab.images(), Vec::<String>::new());
}

/// The tokens that these answers of Keystone give out.
fn tokens(answers: &Mutex<Vec<u8>>) -> Vec<String> {
    const HEADER: &str = "x-subject-token: ";
    let answers = answers.lock().unwrap();
    let lines = answers.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned());
    let headers = lines.filter(|line| line.to_lowercase().starts_with(HEADER));
    headers.map(|line| line[HEADER.len()..].trim().to_owned()).collect()
}
