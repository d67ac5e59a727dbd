//! The mixed set: one random file, logs, many small files, and a sparse image as virtual machines have them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Lines, Random};

const MIB: u64 = 1 << 20;
const PIECE: usize = MIB as usize;

/// How large each part of the set is.
#[derive(Clone, Copy, Debug)]
pub struct Mixed {
    /// Bytes of the random file.
    pub random: u64,
    /// How many logs.
    pub logs: u64,
    /// Bytes of each log.
    pub log: u64,
    /// How many small files.
    pub small: u64,
    /// Bytes of the image as a reader sees it.
    pub image: u64,
    /// How many extents of 16 MiB of the image are not holes.
    pub extents: u64,
}

impl Mixed {
    /// Name of the random file, the largest that has no holes.
    pub const LARGE: &str = "random.bin";

    /// About 2.8 GB to read, 1.9 GiB on disk: the set all published figures are of.
    pub const FULL: Self =
        Self { random: 512 * MIB, logs: 8, log: 64 * MIB, small: 20_000, image: 1536 * MIB, extents: 40 };
    /// An eighth of it, to try a change with.
    pub const QUICK: Self =
        Self { random: 64 * MIB, logs: 4, log: 16 * MIB, small: 2_500, image: 192 * MIB, extents: 5 };

    /// Writes the set into an empty folder.
    pub fn write(&self, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to.join("logs"))?;
        let mut random = Random::new(Random::VECTOR);
        stream(&to.join(Self::LARGE), self.random, |piece| random.fill(piece))?;
        for log in 0..self.logs {
            let mut lines = Lines::new(100 + log);
            stream(&to.join(format!("logs/server-{log}.log")), self.log, |piece| lines.fill(piece))?;
        }
        self.write_small(&to.join("small"))?;
        self.write_image(&to.join("disk.raw"))
    }

    /// Changes about one byte in a hundred in place. Doing it twice restores the content, though not the times.
    pub fn change_one_percent(&self, at: &Path) -> io::Result<()> {
        let mut random = Random::new(7);
        for _ in 0..(self.random / MIB / 100).max(1) {
            invert(&at.join(Self::LARGE), random.below(self.random / MIB) * MIB, MIB)?;
        }
        for log in 0..self.logs {
            invert(&at.join(format!("logs/server-{log}.log")), random.below(self.log / 2), self.log / 100)?;
        }
        for _ in 0..self.small / 100 {
            let path = at.join(small_name(random.below(self.small)));
            invert(&path, 0, fs::metadata(&path)?.len())?;
        }
        for _ in 0..(self.extents * 16 / 100).max(1) {
            let extent = random.below(self.extents);
            invert(&at.join("disk.raw"), self.extent_start(extent) + random.below(16) * MIB, MIB)?;
        }
        Ok(())
    }

    fn write_small(&self, to: &Path) -> io::Result<()> {
        let mut random = Random::new(3);
        let mut lines = Lines::new(4);
        let mut buffer = vec![0; 1 << 16];
        for number in 0..self.small {
            let path = to.with_file_name(small_name(number));
            fs::create_dir_all(path.parent().expect("lies in a folder"))?;
            let length = (random.below(1 << 16) * random.below(1 << 16) * 3 / 4) >> 16;
            let content = &mut buffer[..length as usize];
            if random.below(10) < 7 {
                lines.fill(content);
            } else {
                random.fill(content);
            }
            fs::write(path, content)?;
        }
        Ok(())
    }

    fn write_image(&self, to: &Path) -> io::Result<()> {
        let file = File::create(to)?;
        file.set_len(self.image)?;
        let mut random = Random::new(5);
        let mut lines = Lines::new(6);
        let mut piece = vec![0; PIECE];
        for extent in 0..self.extents {
            for step in 0..16 {
                if extent % 2 == 0 {
                    random.fill(&mut piece);
                } else {
                    lines.fill(&mut piece);
                }
                file.write_all_at(&piece, self.extent_start(extent) + step * MIB)?;
            }
        }
        Ok(())
    }

    fn extent_start(&self, extent: u64) -> u64 {
        (self.image / self.extents * extent) / MIB * MIB
    }
}

fn small_name(number: u64) -> String {
    format!("small/{:02x}/{:02x}/file-{number:05}.dat", number / 1000, number / 100 % 10)
}

fn stream(path: &Path, length: u64, mut fill: impl FnMut(&mut [u8])) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut piece = vec![0; PIECE];
    let mut left = length;
    while left > 0 {
        let piece = &mut piece[..left.min(MIB) as usize];
        fill(piece);
        file.write_all(piece)?;
        left -= piece.len() as u64;
    }
    Ok(())
}

fn invert(path: &Path, offset: u64, length: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, offset)?;
    for byte in &mut bytes {
        *byte ^= 0x5a;
    }
    file.write_all_at(&bytes, offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Aspects, compare};

    const TINY: Mixed = Mixed { random: 2 * MIB, logs: 2, log: 200_000, small: 120, image: 64 * MIB, extents: 2 };

    #[test]
    fn two_sets_are_equal() {
        check(|_| {}, "");
    }

    #[test]
    fn a_change_shows_in_every_part_and_its_double_is_none() {
        check(
            |second| TINY.change_one_percent(second).unwrap(),
            "disk.raw logs/server-0.log logs/server-1.log random.bin small/00/00/file-00003.dat",
        );
        check(|second| (0..2).for_each(|_| TINY.change_one_percent(second).unwrap()), "");
    }

    #[track_caller]
    fn check(change: impl Fn(&Path), expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        TINY.write(&first).unwrap();
        TINY.write(&second).unwrap();
        change(&second);
        let differences = compare(&first, &second, Aspects::CONTENT).unwrap();
        let paths: Vec<_> =
            differences.iter().map(|difference| difference.path.to_string_lossy().into_owned()).collect();
        assert_eq!(paths.join(" "), expected);
    }
}
