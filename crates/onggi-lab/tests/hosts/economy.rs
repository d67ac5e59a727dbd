//! What travels is what changed.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use onggi_lab::peer;

use super::bed::{Hub, listed, pinned};
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

#[test]
fn the_rate_of_the_hour_holds_within_a_tenth_over_ten_seconds() {
    const RATE: f64 = (5 << 20) as f64;
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    let (data, mut noise) = (hub.path("data"), Noise(3));
    for number in 0..8 {
        hub.write(&format!("data/{number}"), noise.bytes(10 << 20));
    }
    // the first window that has the moment counts
    let windows = "[{ at: '00:00-24:00', rate: 5MiB/s }, { at: '00:00-24:00', rate: 1GiB/s }]";
    let keys = format!("paths: [{}]\nrate-windows: {windows}", data.display());
    hub.configure(&pinned(&server), &keys, &[("n1", listed(&server))]);
    hub.listen_in(&server);
    let received = || fs::metadata(hub.path("received")).map_or(0, |status| status.len());
    let mut samples: Vec<(Instant, u64)> = Vec::new();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| hub.back_up_well());
        while !run.is_finished() {
            samples.push((Instant::now(), received()));
            Command::new("true").status().unwrap(); // as long as it takes to start a program
        }
    });
    // while content flows: after the program was sent and before the last of it
    let end = 75 << 20;
    samples.retain(|(_, bytes)| (1 << 20..end).contains(bytes));
    let mut rates: Vec<f64> = Vec::new();
    for (at, bytes) in &samples {
        let later = samples.iter().find(|(later, _)| later.duration_since(*at) >= Duration::from_secs(10));
        let Some((later, more)) = later else { break };
        rates.push((more - bytes) as f64 / later.duration_since(*at).as_secs_f64() / RATE);
    }
    rates.sort_by(f64::total_cmp);
    assert!(rates.len() > 10, "there are windows of ten seconds: {}", rates.len());
    let (middle, most) = (rates[rates.len() / 2], rates[rates.len() - 1]);
    assert!(most <= 1.1 && middle >= 0.9, "most {most:.2}, middle {middle:.2}");
}
