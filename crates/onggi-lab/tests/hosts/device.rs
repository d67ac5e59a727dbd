//! A switch behind a real sshd: its shell is a script with a prompt, paging, slow and long answers, and bad ones.

use crate::place::Place;
use onggi_lab::service::Sshd;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

/// What the switch does; `FOLDER` has its configuration and its mood.
const SWITCH: &str = r#"#!/bin/bash
cd FOLDER
mood=$(cat mood) paging=1
prompt() { printf '%s' "sw1#"; }
page() {
  local count=0
  while IFS= read -r line; do
    printf '%s\r\n' "$line"
    count=$((count + 1))
    if [ $paging = 1 ] && [ $((count % 24)) = 0 ]; then
      printf ' --More-- '; read -rsn1 key </dev/tty; printf '\r          \r'
    fi
  done
}
if [ "$mood" = login-loop ]; then
  while :; do printf 'Username: '; read -r name || exit; printf 'Password: '; read -r word || exit; printf '%% Login invalid\r\n'; done
fi
printf '########\r\n# lab switch, authorized use only #\r\n########\r\n'
[ "$mood" != slow ] || read -rt 0.3 <> <(:)
prompt
while IFS= read -r command; do
  case $command in
    'terminal length 0') [ "$mood" = paging ] && printf '%% Invalid input\r\n' || paging=0 ;;
    'terminal width 511' | '') ;;
    'show running-config')
      printf 'Building configuration...\r\n\r\n! Last configuration change at %s\r\n' "$(cat clock)"
      case $mood in
        empty) : ;;
        cut) head -c 400 config | page; exit ;;
        short) head -n 2 config | page ;;
        slow) head -c 100 config; read -rt 0.3 <> <(:); tail -c +101 config | page ;;
        long) cat config ;;
        *) page <config ;;
      esac ;;
    exit) exit ;;
    *) printf '%% Invalid input detected\r\n' ;;
  esac
  prompt
done
"#;

/// A switch, and onggi that knows it.
struct Bed {
    place: Place,
    server: Sshd,
}

impl Bed {
    fn new() -> Option<Self> {
        let server = Sshd::start_with(&["--option", "ForceCommand STATE/switch"])?;
        let place = Place::new();
        let folder = place.path("switch");
        fs::create_dir(&folder).unwrap();
        let script = SWITCH.replace("FOLDER", folder.to_str().unwrap());
        fs::write(server.file("switch"), script).unwrap();
        fs::set_permissions(server.file("switch"), fs::Permissions::from_mode(0o755)).unwrap();
        let key = fs::read_to_string(server.file("host_ed25519.pub")).unwrap();
        let port = server.port();
        let inventory = format!(
            "hosts:\n  sw1: {{ address: 127.0.0.1, port: {port}, model: cisco-ios, host-key: \"{}\" }}\n",
            key.trim()
        );
        fs::write(place.path("switches.yaml"), inventory).unwrap();
        let config = format!(
            "version: 1\nsources:\n  switches:\n    kind: device\n    inventory: [{{ file: {} }}]\n    \
             connect: {{ user: {}, key: {}, trust: pinned, silence-max: 2s }}\n",
            place.path("switches.yaml").display(),
            server.user(),
            server.key().display(),
        );
        fs::write(place.path("onggi.yaml"), config).unwrap();
        let bed = Self { place, server };
        bed.set("mood", "well");
        bed.set("clock", "10:00");
        bed.set("config", &configuration(60, "vlan 5"));
        Some(bed)
    }

    fn set(&self, name: &str, text: &str) {
        fs::write(self.place.path("switch").join(name), text).unwrap();
    }

    fn back_up(&self) -> Output {
        let config = self.place.path("onggi.yaml");
        self.place.ask(&["--config", config.to_str().unwrap(), "--json", "backup", "switches"])
    }

    /// The outcome of a run that ends well.
    #[track_caller]
    fn outcome(&self) -> String {
        let output = self.back_up();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let summary = said.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
        summary.unwrap()["outcome"].as_str().unwrap().to_owned()
    }

    fn versions(&self) -> usize {
        self.place.documents(&["snapshots"])[0].as_array().unwrap().len()
    }

    fn stored(&self) -> String {
        let target = self.place.path("restored");
        let _ = fs::remove_dir_all(&target);
        self.place.run(&["restore", "latest", "--target", target.to_str().unwrap()]);
        fs::read_to_string(target.join("device/sw1/running-config")).unwrap()
    }
}

fn configuration(interfaces: usize, more: &str) -> String {
    let one = |number| format!("interface Ethernet1/{number}\n switchport mode trunk\n!\n");
    format!("hostname sw1\n{more}\n{}end\n", (0..interfaces).map(one).collect::<String>())
}

#[test]
fn a_changed_clock_makes_no_version_and_a_changed_vlan_one_with_a_diff() {
    let Some(bed) = Bed::new() else { return };
    assert_eq!(bed.outcome(), "stored");
    bed.set("clock", "11:11");
    assert_eq!((bed.outcome().as_str(), bed.versions()), ("unchanged", 1));
    bed.set("config", &configuration(60, "vlan 6"));
    assert_eq!((bed.outcome().as_str(), bed.versions()), ("stored", 2));
    let diff = bed.place.run(&["diff", "latest~1", "latest", "--text"]);
    assert!(diff.contains("\n-vlan 5\n+vlan 6\n"), "{diff}");
    let stored = bed.stored();
    assert!(stored.contains("11:11") && stored.ends_with(&configuration(60, "vlan 6")), "{stored}");
}

#[test]
fn paging_slow_and_long_answers_are_read_whole() {
    let Some(bed) = Bed::new() else { return };
    for (mood, interfaces) in [("paging", 60), ("slow", 80), ("long", 50_000)] {
        bed.set("mood", mood);
        bed.set("config", &configuration(interfaces, mood));
        assert_eq!(bed.outcome(), "stored", "{mood}");
        assert!(bed.stored().ends_with(&configuration(interfaces, mood)), "{mood}");
    }
    assert!(configuration(50_000, "").len() > 2 << 20);
}

#[test]
fn answers_that_are_none_make_no_version() {
    let Some(bed) = Bed::new() else { return };
    assert_eq!(bed.outcome(), "stored");
    for (mood, expected) in
        [("empty", "is cut"), ("cut", "hung up"), ("short", "is cut"), ("login-loop", "nothing came")]
    {
        bed.set("mood", mood);
        let output = bed.back_up();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{mood}: {said}");
        assert_eq!(bed.versions(), 1, "{mood}");
    }
    bed.set("mood", "well");
    assert_eq!(bed.outcome(), "unchanged", "{}", bed.server.port());
}

#[test]
fn a_device_that_shows_another_key_is_not_asked() {
    let Some(bed) = Bed::new() else { return };
    let other = fs::read_to_string(bed.server.file("stranger.pub")).unwrap();
    let inventory = fs::read_to_string(bed.place.path("switches.yaml")).unwrap();
    let own = fs::read_to_string(bed.server.file("host_ed25519.pub")).unwrap();
    fs::write(bed.place.path("switches.yaml"), inventory.replace(own.trim(), other.trim())).unwrap();
    let output = bed.back_up();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(13), "{said}");
    assert!(said.contains("pins"), "{said}");
    assert!(!fs::read_to_string(bed.server.file("log")).unwrap().contains("Accepted"));
}
