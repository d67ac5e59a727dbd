//! The files of a host: many small ones, half of each text and half noise, each with its own beginning.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::corpus::{Lines, Random};

/// Files of one directory.
const PER_DIRECTORY: u64 = 100;
/// Directories of one directory.
const PER_SHELF: u64 = 50;
/// The longest file, in bytes.
const LENGTH_MAX: u64 = 8 << 10;
/// One in so many files changes in a day.
const CHANGED_OF: u64 = 100;

/// A set of so many files.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    pub files: u64,
}

impl Set {
    /// Writes it anew.
    pub fn write(self, to: &Path) -> io::Result<()> {
        if to.exists() {
            fs::remove_dir_all(to)?;
        }
        for number in 0..self.files {
            let path = path(to, number);
            if number.is_multiple_of(PER_DIRECTORY) {
                fs::create_dir_all(path.with_file_name(""))?;
            }
            fs::write(path, content(number, 0))?;
        }
        Ok(())
    }

    /// Writes one file in a hundred as it is on that day.
    pub fn change(self, at: &Path, day: u32) -> io::Result<()> {
        for number in (u64::from(day)..self.files).step_by(CHANGED_OF as usize) {
            fs::write(path(at, number), content(number, u64::from(day) + 1))?;
        }
        Ok(())
    }
}

fn path(at: &Path, number: u64) -> PathBuf {
    let directory = number / PER_DIRECTORY;
    at.join(format!("{:03}/{directory:05}/{:02}", directory / PER_SHELF, number % PER_DIRECTORY))
}

fn content(number: u64, version: u64) -> Vec<u8> {
    let mut random = Random::new(number << 8 | version);
    let mut bytes = vec![0; (64 + random.below(LENGTH_MAX)) as usize];
    let (noise, text) = bytes.split_at_mut(random.below(LENGTH_MAX / 2).min(64) as usize);
    random.fill(noise);
    let half = text.len() / 2;
    random.fill(&mut text[..half]);
    Lines::new(number).fill(&mut text[half..]);
    bytes
}
