//! What travels is what changed.

use std::fs;
use std::os::unix::fs::FileExt as _;

use onggi_lab::peer;

use super::bed::Hub;
use super::server::Server;

/// Numbers that are equal in every run.
struct Noise(u64);

impl Noise {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()).flatten().take(usize::try_from(length).unwrap()).collect()
    }
}

#[test]
fn what_did_not_change_is_not_read_and_gives_the_same_tree() {
    let (Some(server), Some(_)) = (Server::start(), peer::newest("restic")) else { return };
    let hub = Hub::new();
    hub.configure_one(&server, "");
    for number in 0..4000 {
        hub.write(&format!("data/{}/{number}", number % 40), number.to_string());
    }
    hub.back_up_well();
    let tree = hub.tree();
    hub.listen_in(&server);
    let summary = hub.back_up_well();
    assert_eq!((&summary["bytes_read"], &summary["files_unmodified"]), (&0.into(), &4000.into()));
    assert_eq!(hub.tree(), tree);
    let received = hub.received();
    assert!(received <= 25 * 4000, "{received} bytes for 4000 files");
}

#[test]
fn a_changed_file_is_the_same_whether_ranges_are_compared_or_all_is_read() {
    let (Some(server), Some(_)) = (Server::start(), peer::newest("restic")) else { return };
    let hub = Hub::new();
    hub.configure_one(&server, "");
    let (path, mut noise) = (hub.path("data/image"), Noise(1));
    let mut content = noise.bytes(24 << 20);
    fs::write(&path, &content).unwrap();
    hub.back_up_well();
    for round in 0..7 {
        let length = content.len() as u64;
        let at = usize::try_from(noise.below(length)).unwrap();
        match round {
            0 => content.extend(noise.bytes(300_000)),
            1 => drop(content.splice(at..at, noise.bytes(1000))),
            2 => drop(content.drain(at..(at + 5000).min(content.len()))),
            3 => content.truncate(20 << 20),
            4 => content[3 << 20..6 << 20].fill(0),
            5 => content.extend(vec![0; 5 << 20]),
            _ => {
                for _ in 0..5 {
                    let at = usize::try_from(noise.below(content.len() as u64 - 4096)).unwrap();
                    content[at..at + 4096].copy_from_slice(&noise.bytes(4096));
                }
            }
        }
        fs::write(&path, &content).unwrap();
        hub.back_up_well();
        let by_ranges = hub.tree();
        let ended = hub.onggi("backup fleet --json --force");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(hub.tree(), by_ranges, "round {round}");
    }
    let ended = hub.onggi("restore latest --target @restored");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(fs::read(format!("{}{}", hub.path("restored").display(), path.display())).unwrap() == content);
}

#[test]
fn a_large_image_with_few_changes_sends_few_pieces() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.configure_one(&server, "");
    let (path, mut noise) = (hub.path("data/image"), Noise(2));
    // a quarter of a gibibyte and a quarter of the changes: the same ratio
    let length = 256 << 20;
    fs::write(&path, noise.bytes(length)).unwrap();
    hub.back_up_well();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for _ in 0..25 {
        let at = noise.below(length - 4096);
        file.write_all_at(&noise.bytes(4096), at).unwrap();
    }
    hub.listen_in(&server);
    hub.back_up_well();
    let received = hub.received();
    // A byte drawn by lot lies in a chunk of 2.2 MiB on average: half of a mebibyte and what is distributed exponentially
    // around one more, weighed by its length. Three times 25 is three deviations above that, and far from all of it.
    assert!(received <= 75 << 20, "{received} bytes");
}
