//! Every fuzz target over its corpus and a thousand mutations of it, without a fuzzer: what was found once stays found.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use onggi_lab::corpus::Random;
use onggi_lab::fuzz::TARGETS;
use std::path::{Path, PathBuf};

/// How many mutations of each corpus: `ONGGI_FUZZ_MUTATIONS`, else a sample.
fn mutations() -> u32 {
    std::env::var("ONGGI_FUZZ_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(1000)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let listed = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One to four changes: a bit, a byte, a cut, an insertion, a repetition.
fn mutated(random: &mut Random, seed: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.word() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.word() as u8),
            4 => drop(bytes.splice(at..at, seed.iter().copied().take(64)).count()),
            _ => drop(bytes.drain(at..(at + random.below(16) as usize).min(bytes.len())).count()),
        }
    }
    bytes
}

#[test]
fn no_parser_panics_on_its_corpus_or_near_it() {
    let (mut random, count) = (Random::new(1), mutations());
    for (name, target) in TARGETS {
        let seeds = corpus(name);
        assert!(!seeds.is_empty(), "{name} has no corpus");
        for seed in &seeds {
            target(seed);
        }
        for _ in 0..count {
            let seed = &seeds[random.below(seeds.len() as u64) as usize];
            target(&mutated(&mut random, seed));
        }
        println!("ledger: mutations of a corpus: {name} | {count}");
    }
}

#[test]
fn every_target_can_be_fuzzed() {
    let manifest = include_str!("../../../fuzz/Cargo.toml");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml lacks {name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}
