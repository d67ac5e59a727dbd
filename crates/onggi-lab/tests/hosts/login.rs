//! Who is let in, and who is believed.

use std::fs;
use std::process::Command;

use super::bed::{Hub, listed, pinned};
use super::server::{Server, make_key, run, sign};

fn data(hub: &Hub) -> String {
    hub.write("data/file", "x");
    format!("paths: [{}]", hub.path("data").display())
}

#[test]
fn a_key_an_agent_and_a_certificate_log_in_and_an_expired_certificate_does_not() {
    let server = Server::start_with(|state| {
        make_key(&state.join("user-ca"));
        for (name, validity) in [("signed", "-5m:+1d"), ("expired", "-2d:-1d")] {
            make_key(&state.join(name));
            sign(&state.join("user-ca"), &state.join(name), &["-n", "root", "-V", validity]);
        }
        format!("TrustedUserCAKeys {}", state.join("user-ca.pub").display())
    });
    let Some(server) = server else { return };
    let hub = Hub::new();
    let keys = data(&hub);
    let check = |name: &str, certificate: bool, expected: i32| {
        let key = server.path(name).display().to_string();
        let certificate = if certificate { format!(", certificate: {key}-cert.pub") } else { String::new() };
        let connect = format!("user: root, trust: pinned, key: {key}{certificate}");
        hub.configure(&connect, &keys, &[("n1", listed(&server))]);
        let ended = hub.back_up();
        assert_eq!(ended.code, Some(expected), "{name}: {ended:?}");
        assert_eq!(ended.tells("auth-refused"), expected != 0, "{name}: {ended:?}");
    };
    check("client", false, 0);
    check("signed", true, 0);
    check("expired", true, 13);
    check("stranger", false, 13);
    hub.configure("user: root, trust: pinned", &keys, &[("n1", listed(&server))]);
    let script = format!("ssh-add -q {} && exec \"$@\"", server.path("client").display());
    let inner = hub.onggi_command("backup fleet --json");
    let mut agent = hub.command("ssh-agent".as_ref());
    agent.args(["sh", "-c", &script, "sh"]).arg(inner.get_program()).args(inner.get_args());
    run(&mut agent);
}

#[test]
fn a_host_with_another_key_than_the_named_one_is_sent_nothing() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    let wrong = format!("address: 127.0.0.1, port: {}, host-key: \"{}\"", server.port, server.public("other"));
    hub.configure(&pinned(&server), &data(&hub), &[("n1", wrong)]);
    let ended = hub.back_up();
    assert_eq!(ended.code, Some(13), "{ended:?}");
    assert!(ended.tells("host-key-changed"), "{ended:?}");
    assert!(!server.read("log").contains("Accepted"), "{}", server.read("log"));
}

#[test]
fn a_host_proves_itself_by_a_certificate_of_the_authority() {
    let server = Server::start_with(|state| {
        make_key(&state.join("host-ca"));
        sign(&state.join("host-ca"), &state.join("host"), &["-h", "-n", "127.0.0.1"]);
        let at = |name: &str| state.join(name).display().to_string();
        format!("HostKey {}\nHostCertificate {}", at("host"), at("host-cert.pub"))
    });
    let Some(mut server) = server else { return };
    let hub = Hub::new();
    let connect = |authority: &str| {
        let key = server.path("client").display().to_string();
        format!("user: root, key: {key}, trust: ca, host-ca: [\"{authority}\"]")
    };
    let host = format!("address: 127.0.0.1, port: {}", server.port);
    hub.configure(&connect(&server.public("host-ca")), &data(&hub), &[("n1", host.clone())]);
    hub.back_up_well();
    hub.configure(&connect(&server.public("other")), &data(&hub), &[("n1", host.clone())]);
    let ended = hub.back_up();
    assert!(ended.code == Some(13) && ended.tells("host-key-unknown"), "{ended:?}");
    // a certificate for another name
    hub.configure(&connect(&server.public("host-ca")), &data(&hub), &[("n1", host)]);
    fs::remove_file(server.path("host-cert.pub")).unwrap();
    sign(&server.path("host-ca"), &server.path("host"), &["-h", "-n", "another.example"]);
    let at = |name: &str| server.path(name).display().to_string();
    let lines = format!("HostKey {}\nHostCertificate {}", at("host"), at("host-cert.pub"));
    server.restart(&lines);
    let ended = hub.back_up();
    assert!(ended.code == Some(13) && ended.tells("host-key-unknown"), "{ended:?}");
}

#[test]
fn a_jump_host_and_another_port_lead_to_the_host() {
    let (Some(server), Some(bastion)) = (Server::start(), Server::start()) else { return };
    let hub = Hub::new();
    fs::copy(server.path("client.pub"), bastion.path("authorized")).unwrap();
    let keys = data(&hub);
    let connect = format!("{}, jump: '127.0.0.1:{}'", pinned(&server), bastion.port);
    hub.configure(&connect, &keys, &[("n1", listed(&server))]);
    let ended = hub.back_up();
    assert_ne!(ended.code, Some(0), "the way there is not known yet: {ended:?}");
    hub.write("known", format!("[127.0.0.1]:{} {}\n", bastion.port, bastion.public("host")));
    let connect = format!("{connect}, known-hosts: [{}]", hub.path("known").display());
    hub.configure(&connect, &keys, &[("n1", listed(&server))]);
    hub.back_up_well();
    assert!(bastion.read("log").contains("Accepted"));
}

#[test]
fn a_shell_with_a_banner_works_and_one_that_never_ends_it_fails() {
    let server = Server::start_with(|_| "PermitUserRC no".to_owned());
    let Some(server) = server else { return };
    let hub = Hub::new();
    hub.configure_one(&server, "");
    hub.write("data/file", "x");
    let banner = |script: &str| {
        let key = server.public("client");
        let line = format!("command=\"{script}\" {key}\n");
        fs::write(server.path("authorized"), line).unwrap();
    };
    banner("seq 1 2000; eval \\\"$SSH_ORIGINAL_COMMAND\\\"");
    hub.back_up_well();
    banner("yes");
    let ended = hub.back_up();
    assert!(ended.code == Some(13) && ended.tells("program-blocked"), "{ended:?}");
}

#[test]
fn hosts_that_a_command_names_are_backed_up_and_one_that_is_gone_keeps_its_snapshots() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    let list = |names: &str| {
        let script = format!(
            "#!/bin/sh\nfor n in {names}; do echo \"{{\\\"Name\\\":\\\"$n\\\",\\\"ip\\\":\\\"127.0.0.1\\\"}}\"; done | paste -sd, | sed 's/^/[/;s/$/]/'\n"
        );
        hub.shadow("list-hosts", &script);
    };
    hub.write("known", format!("[127.0.0.1]:{} {}\n", server.port, server.public("host")));
    let (key, known) = (server.path("client"), hub.path("known"));
    let (port, key, known) = (server.port, key.display(), known.display());
    let connect = format!("user: root, port: {port}, key: {key}, known-hosts: [{known}]");
    hub.configure_raw("[{ command: [list-hosts], name: /Name, address: /ip }]", &connect, &data(&hub));
    list("a b");
    hub.back_up_well();
    let hosts = |hub: &Hub| {
        let mut names: Vec<String> =
            hub.snapshots().iter().map(|one| one["hostname"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(hosts(&hub), ["a", "b"]);
    list("b c");
    hub.back_up_well();
    assert_eq!(hosts(&hub), ["a", "b", "b", "c"]);
    let listed = hub.onggi("hosts list");
    assert!(
        listed.out.lines().any(|line| line.starts_with("a ") && line.contains("not in the inventory since")),
        "{listed:?}"
    );
    list("a b c");
    hub.back_up_well();
    assert!(!hub.onggi("hosts list").out.contains("not in the inventory"), "it is back");
}

fn approving(server: &Server) -> String {
    format!("user: root, key: {}, trust: approve", server.path("client").display())
}

#[test]
fn an_unknown_host_is_sent_nothing_until_its_key_is_approved() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.configure(&approving(&server), &data(&hub), &[("n1", format!("address: 127.0.0.1, port: {}", server.port))]);
    let ended = hub.back_up();
    assert!(ended.code == Some(13) && ended.tells("host-key-unknown"), "{ended:?}");
    assert!(!server.read("log").contains("Accepted"), "{}", server.read("log"));
    let waiting = hub.onggi("hosts waiting");
    let shown = hub.onggi("hosts trust n1");
    let expected = run(Command::new("ssh-keygen").arg("-lf").arg(server.path("host.pub")));
    let expected = expected.split_whitespace().nth(1).unwrap();
    assert!(shown.out.contains(expected), "{shown:?} {expected}");
    assert!(waiting.out.contains(expected) && waiting.out.contains("n1"), "{waiting:?}");
    let refused = hub.onggi("hosts trust n1 --fingerprint SHA256:something-else");
    assert_eq!(refused.code, Some(13), "{refused:?}");
    let approved = hub.onggi(&format!("hosts trust n1 --fingerprint {expected}"));
    assert_eq!(approved.code, Some(0), "{approved:?}");
    assert!(hub.onggi("hosts list").out.contains("approved"));
    assert!(!hub.onggi("hosts waiting").out.contains(expected));
    hub.back_up_well();
}

#[test]
fn a_key_that_a_known_host_announces_and_proves_is_known_from_then_on() {
    let Some(mut server) = Server::start() else { return };
    let hub = Hub::new();
    hub.configure(&approving(&server), &data(&hub), &[("n1", format!("address: 127.0.0.1, port: {}", server.port))]);
    let known = format!("n1,[127.0.0.1]:{} {}\n", server.port, server.public("host"));
    hub.write("home/state/onggi/hosts.known", &known);
    let line = |name: &str| format!("HostKey {}", server.path(name).display());
    let (host, other) = (line("host"), line("other"));
    // another key without a proof
    server.restart(&other);
    let ended = hub.back_up();
    assert!(ended.code == Some(13) && ended.tells("host-key-changed"), "{ended:?}");
    server.restart(&format!("{host}\n{other}"));
    hub.back_up_well();
    server.restart(&other);
    hub.back_up_well();
}
