//! Files go back to the host that they came from, over the operator's login and not the hub's.

use std::fs;

use onggi_lab::program::Ended;

use super::bed::{Hub, listed, pinned};
use super::content::make_everything;
use super::server::{Server, run};

/// A hub that may read with one key, and an operator with another one.
fn hub(server: &Server) -> Hub {
    let hub = Hub::new();
    let keys = format!("{}\n{}\n", server.public("client"), server.public("other"));
    fs::write(server.path("authorized"), keys).unwrap();
    let connect = format!("{}{}", pinned(server), hub.operator(&server.path("other")));
    hub.configure(&connect, &format!("paths: [{}]", hub.path("data").display()), &[("n1", listed(server))]);
    hub
}

fn restore(hub: &Hub, what: &str, more: &str) -> Ended {
    hub.onggi(&format!("--yes restore {what} --to source --target {}{more}", hub.path("back").display()))
}

#[test]
fn a_tree_with_everything_goes_back_to_its_host() {
    let Some(server) = Server::start() else { return };
    let hub = hub(&server);
    make_everything(&hub.path("data"));
    hub.back_up_well();
    let accepted = server.read("log").matches("Accepted publickey").count();
    let ended = restore(&hub, "latest", " --prove");
    assert!(ended.code == Some(0) && ended.out.contains("proved"), "{ended:?}");
    let restored = format!("{}{}/", hub.path("back").display(), hub.path("data").display());
    let mut rsync = hub.command("rsync".as_ref());
    rsync.args(["-aHAXn", "--checksum", "--itemize-changes", "--delete"]);
    assert_eq!(run(rsync.arg(format!("{}/", hub.path("data").display())).arg(&restored)), "");
    let blocks = |path: &str| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap());
    assert!(blocks(&format!("{restored}sparse")) * 512 < 1 << 20, "holes stay holes");
    // the key that wrote is the operator's
    let fingerprint = run(std::process::Command::new("ssh-keygen").arg("-lf").arg(server.path("other.pub")));
    let fingerprint = fingerprint.split_whitespace().nth(1).unwrap().to_owned();
    let log = server.read("log");
    let since: Vec<_> = log.lines().filter(|line| line.contains("Accepted publickey")).skip(accepted).collect();
    assert!(!since.is_empty() && since.iter().all(|line| line.contains(&fingerprint)), "{since:?}");
}

#[test]
fn what_is_there_is_replaced_only_if_that_was_said() {
    let Some(server) = Server::start() else { return };
    let hub = hub(&server);
    hub.write("data/folder/file", "as it was");
    fs::hard_link(hub.path("data/folder/file"), hub.path("data/folder/hard")).unwrap();
    hub.write("data/other", "not wanted");
    hub.back_up_well();
    let folder = hub.path("data/folder").display().to_string();
    let shown = restore(&hub, &format!("latest:{folder}"), " --dry-run");
    assert!(shown.code == Some(0) && shown.out.contains("2 files") && !hub.path("back").exists(), "{shown:?}");
    assert_eq!(restore(&hub, &format!("latest:{folder}"), "").code, Some(0));
    let file = format!("back{folder}/file");
    assert_eq!(fs::read_to_string(hub.path(&file)).unwrap(), "as it was");
    assert!(!hub.path(&format!("back{}", hub.path("data/other").display())).exists());
    hub.write(&file, "as it became");
    let refused = restore(&hub, "latest", "");
    assert!(refused.code != Some(0) && refused.tells("is not empty"), "{refused:?}");
    assert_eq!(fs::read_to_string(hub.path(&file)).unwrap(), "as it became");
    let ended = restore(&hub, "latest", " --in-place");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for name in ["file", "hard"] {
        assert_eq!(fs::read_to_string(hub.path(&format!("back{folder}/{name}"))).unwrap(), "as it was");
    }
    assert!(hub.path(&format!("back{}", hub.path("data/other").display())).exists());
}
