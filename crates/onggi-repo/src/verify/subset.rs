//! Which packs are read.

use crate::{Repository, format::PackId};
use std::str::FromStr;

/// How much data is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReadData {
    /// None.
    None,
    /// Every pack.
    All,
    /// The n-th of m parts, counted from 1: running all m reads everything.
    Part {
        /// Which.
        n: u8,
        /// Of how many.
        of: u8,
    },
    /// A random share in percent.
    Percent(f64),
    /// Random packs of about so many bytes in all.
    Bytes(u64),
}

/// A text does not say how much data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a part of the data: {0:?}; write 2/5, 10% or 500M")]
pub struct BadSubset(String);

impl FromStr for ReadData {
    type Err = BadSubset;

    fn from_str(text: &str) -> Result<Self, BadSubset> {
        parse(text).ok_or_else(|| BadSubset(text.into()))
    }
}

fn parse(text: &str) -> Option<ReadData> {
    if let Some((n, of)) = text.split_once('/') {
        let (n, of) = (n.parse().ok()?, of.parse().ok()?);
        return (n >= 1 && n <= of).then_some(ReadData::Part { n, of });
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().ok()?;
        return (percent > 0.0 && percent <= 100.0).then_some(ReadData::Percent(percent));
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KIB" => 1 << 10,
        "M" | "MIB" => 1 << 20,
        "G" | "GIB" => 1 << 30,
        "T" | "TIB" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0).map(ReadData::Bytes)
}

/// The packs to read out of those that are there.
pub(super) fn choose(repo: &Repository, data: ReadData, mut present: Vec<(PackId, u64)>) -> Vec<(PackId, u64)> {
    let random = |below: usize| onggi_storage::clock::random_below(&*repo.env().clock, below as u64) as usize;
    match data {
        ReadData::None => Vec::new(),
        ReadData::All => present,
        ReadData::Part { n, of } => {
            present.retain(|(id, _)| id.0[0] % of == n - 1);
            present
        }
        ReadData::Percent(percent) => {
            let count = share(present.len(), percent);
            shuffle(&mut present, count, random);
            present.truncate(count);
            present
        }
        ReadData::Bytes(bytes) => {
            let count = present.len();
            shuffle(&mut present, count, random);
            let mut left = bytes;
            present.retain(|(_, size)| {
                let is_taken = left > 0;
                left = left.saturating_sub(*size);
                is_taken
            });
            present
        }
    }
}

/// So many percent of some packs, rounded up.
#[expect(clippy::cast_sign_loss, reason = "the share was read as positive")]
fn share(packs: usize, percent: f64) -> usize {
    (packs as f64 * percent / 100.0).ceil() as usize
}

/// Brings that many random items to the front.
fn shuffle<T>(items: &mut [T], count: usize, random: impl Fn(usize) -> usize) {
    for at in 0..count.min(items.len()) {
        let other = at + random(items.len() - at);
        items.swap(at, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_shares_and_sizes_are_read() {
        for (text, expected) in [
            ("1/1", ReadData::Part { n: 1, of: 1 }),
            ("2/255", ReadData::Part { n: 2, of: 255 }),
            ("2.5%", ReadData::Percent(2.5)),
            ("100%", ReadData::Percent(100.0)),
            ("7", ReadData::Bytes(7)),
            ("3k", ReadData::Bytes(3072)),
            ("2GiB", ReadData::Bytes(2 << 30)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", "0/2", "3/2", "1/256", "0%", "101%", "NaN%", "0", "5X", "99999999999T", "-1"] {
            assert!(text.parse::<ReadData>().is_err(), "{text}");
        }
    }
}
