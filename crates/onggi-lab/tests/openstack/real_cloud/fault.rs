//! Services that stand still, quotas, states: the failure is told as it is, others go on, nothing is left behind.

use std::process::Stdio;
use std::time::Instant;

use onggi_lab::openstack::Openstack;
use onggi_lab::program::Ended;

use super::rig::Rig;

#[test]
fn a_cloud_that_refuses_is_told_and_left_clean() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "cloud-keep-last: 0\n    snapshot-timeout: 10s");
    states_in_which_a_server_is_captured(&rig);
    a_compute_service_that_stands_still_fails_its_servers_and_no_image_stays(&rig);
    an_image_that_is_too_large_for_the_quota_is_told_with_novas_own_words(&rig);
    a_full_quota_of_snapshots_is_told_before_anything_is_made(&rig);
}

fn states_in_which_a_server_is_captured(rig: &Rig<'_>) {
    let lab = rig.lab;
    lab.client(&["server", "lock", "vm1"]);
    rig.back_up(&["lab/demo/vm1"], 0);
    lab.client(&["server", "unlock", "vm1"]);
    for (state, begin, end) in
        [("PAUSED", "pause", "unpause"), ("SUSPENDED", "suspend", "resume"), ("SHUTOFF", "stop", "start")]
    {
        lab.bring("vm1", &["server", begin], state);
        assert_eq!(rig.back_up(&["lab/demo/vm1"], 0).len(), 1, "{state}");
        lab.bring("vm1", &["server", end], "ACTIVE");
    }
    // Servers of its own: a rescue begins from the image, which that of a restored server no longer is, and who comes back
    // from the shelf has one that is gone, too.
    lab.create_server("odd", &["--image", "lab-guest"]);
    for (state, begin, end) in [
        ("RESCUE", &["server", "rescue"][..], &["server", "unrescue"][..]),
        ("ERROR", &["server", "set", "--state", "error"], &["server", "set", "--state", "active"]),
    ] {
        lab.bring("odd", begin, state);
        let ended = rig.run(&["backup", "lab/demo/odd", "lab/demo/vm2"]);
        lab.bring("odd", end, "ACTIVE");
        assert!(ended.tells(state) && ended.tells("no snapshot can be made"), "{ended:?}");
        assert_eq!(ended.code, Some(5), "{ended:?}");
        assert!(ended.out.contains("snapshot"), "the other is stored: {ended:?}");
    }
    lab.client(&["server", "delete", "--wait", "odd"]);
    lab.create_server("shelved", &["--image", "lab-guest"]);
    lab.client(&["server", "shelve", "shelved"]);
    lab.until_server("shelved", "SHELVED_OFFLOADED");
    assert_eq!(rig.back_up(&["lab/demo/shelved"], 0).len(), 1);
    lab.client(&["image", "show", "shelved-shelved"]);
    lab.client(&["server", "delete", "--wait", "shelved"]);
    assert_eq!(lab.images(), Vec::<String>::new());
}

fn a_compute_service_that_stands_still_fails_its_servers_and_no_image_stays(rig: &Rig<'_>) {
    rig.lab.service(&["pause", "nova-compute"]);
    let ended = rig.run(&["backup", "lab/demo/vm1"]);
    let left = rig.lab.images();
    rig.lab.service(&["resume", "nova-compute"]);
    assert_ne!(ended.code, Some(0), "{ended:?}");
    assert!(ended.tells("may stay busy until its compute service recovers"), "{ended:?}");
    assert_eq!(left, Vec::<String>::new());
    rig.lab.until("an end of the task", || {
        (rig.lab.json(&["server", "show", "vm1"])["OS-EXT-STS:task_state"].is_null()).then_some(())
    });
    assert_eq!(rig.back_up(&["lab/demo/vm1"], 0).len(), 1);
}

fn an_image_that_is_too_large_for_the_quota_is_told_with_novas_own_words(rig: &Rig<'_>) {
    let set = |value: &str| {
        rig.lab.configure("DEFAULT", "user_storage_quota", value, "glance/glance-api.conf", "glance-api");
    };
    set("5MB");
    let ended = rig.run(&["backup", "lab/demo/vm1"]);
    set("");
    assert_ne!(ended.code, Some(0), "{ended:?}");
    assert!(ended.tells("createImage"), "{ended:?}");
    assert_eq!(rig.lab.images(), Vec::<String>::new());
}

fn a_full_quota_of_snapshots_is_told_before_anything_is_made(rig: &Rig<'_>) {
    let set = |count: &str| rig.lab.try_client("admin", "demo", &["quota", "set", "--snapshots", count, "demo"]);
    let done = set("0");
    assert!(done.status.success(), "{done:?}");
    let ended = rig.run(&["backup", "lab/demo/vol1"]);
    assert!(set("10").status.success());
    assert!(ended.tells("Cinder snapshots: 0 of 0 are used, 1 more are needed"), "{ended:?}");
    assert_eq!((rig.lab.images(), rig.lab.blocks()), (Vec::new(), Vec::new()));
}

/// Nova gives the upload up and cannot remove the image: it stays `queued`, and nobody is at work on it.
#[test]
fn an_image_whose_upload_ended_with_glance_is_made_again() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "cloud-keep-last: 0");
    lab.service(&["pause", "nova-compute"]);
    let running =
        rig.command(&["backup", "lab/demo/vm1"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let first = lab.until("an image", || lab.images().pop());
    lab.service(&["kill", "glance-api"]);
    lab.service(&["resume", "nova-compute"]);
    // A server cannot be shown without Glance, what was done with it can.
    lab.until("an end of the upload", || {
        let done = lab.json(&["server", "event", "list", "--long", "vm1"]);
        (done[0]["Action"] == "createImage" && done[0]["Message"] == "Error").then_some(())
    });
    lab.service(&["start", "glance-api"]);
    assert_eq!(lab.images(), [first], "it is as Nova left it");
    let ended = Ended::of(running.wait_with_output().unwrap()).expect(0);
    assert_eq!(lab.images(), Vec::<String>::new(), "{ended:?}");
}

#[test]
fn who_cannot_enter_is_told_why_at_once() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "");
    let openrc = |text: &str| {
        rig.log_in_with(text, "");
        rig.run(&["source", "preflight", "lab"])
    };
    let (whole, url) = rig.openrc();
    let url = url.as_str();
    // The address without its version leads there, too.
    openrc(&whole.replace(url, url.trim_end_matches("/v3"))).expect(0);
    openrc(&whole.replace("OS_PASSWORD=onggi", "OS_PASSWORD=wrong")).expect(13);
    let incomplete: String =
        whole.lines().filter(|line| !line.contains("PASSWORD")).map(|line| format!("{line}\n")).collect();
    openrc(&incomplete).expect(2);
    let began = Instant::now();
    openrc(&whole.replace(url, "http://127.0.0.1:9/v3")).expect(14);
    assert!(began.elapsed().as_secs() < 8, "{:?}", began.elapsed());
    rig.configure("openrc: { file: /nowhere/openrc }");
    rig.run(&["source", "preflight", "lab"]).expect(2);
    rig.configure("cloud: nowhere");
    rig.run(&["source", "preflight", "lab"]).expect(2);
    rig.configure(&format!("openrc: {{ file: {}, mode: source, args: [demo, demo] }}", lab.file("openrc").display()));
    rig.run(&["source", "preflight", "lab"]).expect(0);
    std::fs::copy(lab.file("clouds.yaml"), rig.path("clouds.yaml")).unwrap();
    rig.configure("cloud: demo");
    rig.run(&["source", "preflight", "lab"]).expect(0);
    let made = lab.json(&["application", "credential", "create", "onggi-test"]);
    let text = format!(
        "export OS_AUTH_TYPE=v3applicationcredential\nexport OS_AUTH_URL={url}\nexport OS_REGION_NAME=RegionOne\n\
         export OS_APPLICATION_CREDENTIAL_ID={}\nexport OS_APPLICATION_CREDENTIAL_SECRET={}\n",
        made["id"].as_str().unwrap(),
        made["secret"].as_str().unwrap()
    );
    let entered = openrc(&text);
    lab.client(&["application", "credential", "delete", "onggi-test"]);
    entered.expect(0);
}
