//! Reads pieces of files, and says which pieces still are what they were.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use onggi_node::frame::Encoder;
use onggi_node::{Answer, DATA_BYTES_MAX, Lost, PIECES_MAX, READ_BYTES_MAX, ReadRequest, Stamp, Time, check};
use rustix::fs::{Advice, FileType, SeekFrom, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::out::{Credit, Gone, Out};
use super::policy::Policy;
use super::root::{lost, open_file, open_root, open_root_file};

/// Roots that one thread holds open.
const ROOTS_MAX: usize = 16;
/// What was read of longer files is not left in memory, so that a backup displaces nothing; in bytes.
const LARGE_BYTES: u64 = 8 << 20;
/// Answers that are handed on in one go; each time the thread that sends is woken. In bytes.
const TOGETHER_BYTES: usize = 64 << 10;

/// Reads for one thread.
pub(super) struct Reader<'a> {
    policy: &'a Policy,
    roots: HashMap<Vec<u8>, OwnedFd>,
    buffer: Vec<u8>,
    answers: Answers<'a>,
}

/// Answers that go to the hub together.
struct Answers<'a> {
    out: &'a Out,
    encoder: Encoder,
    frames: Vec<u8>,
}

impl Answers<'_> {
    /// Says whether it became shorter by compression.
    fn add(&mut self, answer: &Answer, rest: &[u8], compress: bool) -> Result<bool, Gone> {
        let shrank = answer.append(rest, compress, &mut self.encoder, &mut self.frames);
        if self.frames.len() >= TOGETHER_BYTES {
            self.send()?;
        }
        Ok(shrank)
    }

    fn send(&mut self) -> Result<(), Gone> {
        if self.frames.is_empty() { Ok(()) } else { self.out.send_frames(std::mem::take(&mut self.frames)) }
    }
}

/// Where a piece ends.
struct End {
    /// How many bytes of the buffer are its last ones and not sent yet.
    unsent: usize,
    compress: bool,
    error: Option<Errno>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(policy: &'a Policy, out: &'a Out) -> Self {
        let answers = Answers { out, encoder: Encoder::default(), frames: Vec::new() };
        Self { policy, roots: HashMap::new(), buffer: vec![0; DATA_BYTES_MAX], answers }
    }

    /// Sends a piece of a file; what is short waits for [`Self::send`].
    pub(super) fn read(&mut self, request: &ReadRequest, credit: &Credit) -> Result<(), Gone> {
        let stream = request.stream;
        let done = |lost, stamp, data| Answer::ReadDone { stream, lost, stamp, data, bytes: Vec::new() };
        let (file, stat) = match self.open(request) {
            Ok(opened) => opened,
            Err(lost) => return self.answers.add(&done(lost, Stamp::default(), Vec::new()), &[], false).map(drop),
        };
        let End { unsent, compress, error } = self.send_piece(&file, request, credit)?;
        let data = if request.layout { layout(&file, &stat) } else { Vec::new() };
        if stamp(&stat).size >= LARGE_BYTES {
            let length = std::num::NonZeroU64::new(request.length);
            let _ = rustix::fs::fadvise(&file, request.offset, length, Advice::DontNeed); // a hint
        }
        let done = match error.map_or_else(|| rustix::fs::fstat(&file), Err) {
            Ok(now) if request.layout => done(Lost::NOTHING, stamp(&now), still(data, &stat, &now)),
            Ok(now) => done(Lost::NOTHING, stamp(&now), data),
            Err(error) => done(lost(error), stamp(&stat), data),
        };
        self.answers.add(&done, &self.buffer[..unsent], compress).map(drop)
    }

    /// Sends what waits.
    pub(super) fn send(&mut self) -> Result<(), Gone> {
        self.answers.send()
    }

    /// Sends all but the last bytes of a piece.
    fn send_piece(&mut self, file: &OwnedFd, request: &ReadRequest, credit: &Credit) -> Result<End, Gone> {
        let (mut offset, mut left) = (request.offset, request.length.min(READ_BYTES_MAX));
        let mut end = End { unsent: 0, compress: true, error: None };
        while left > 0 && !credit.is_cancelled() {
            let step = usize::try_from(left).map_or(DATA_BYTES_MAX, |left| left.min(DATA_BYTES_MAX));
            if end.unsent > 0 {
                let data = Answer::Data { stream: request.stream, bytes: Vec::new() };
                // if the first piece does not shrink, the rest is not tried
                end.compress = self.answers.add(&data, &self.buffer[..end.unsent], end.compress)?;
                end.unsent = 0;
            }
            match rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut self.buffer[..step], offset)) {
                Ok(0) => break,
                Ok(length) => end.unsent = length,
                Err(error) => {
                    end.error = Some(error);
                    break;
                }
            }
            (offset, left) = (offset + end.unsent as u64, left - end.unsent as u64);
        }
        Ok(end)
    }

    /// Hashes each range in place.
    pub(super) fn compare(
        &mut self,
        file: &ReadRequest,
        ranges: &[(u64, [u8; 32])],
        credit: &Credit,
    ) -> Result<(), Gone> {
        let mut unchanged = vec![0_u8; ranges.len().div_ceil(8)];
        let lost = match self.open(file) {
            Ok((opened, _)) => self.compare_open(&opened, file.offset, ranges, credit, &mut unchanged),
            Err(lost) => lost,
        };
        self.answers.add(&Answer::RangesDone { stream: file.stream, lost, unchanged }, &[], true).map(drop)
    }

    fn compare_open(
        &mut self,
        file: &OwnedFd,
        start: u64,
        ranges: &[(u64, [u8; 32])],
        credit: &Credit,
        unchanged: &mut [u8],
    ) -> Lost {
        let mut offset = start;
        for (number, (length, expected)) in ranges.iter().enumerate() {
            if credit.is_cancelled() {
                break;
            }
            let Some(end) = offset.checked_add(*length) else { return Lost::REFUSED };
            match self.digest(file, offset..end, credit) {
                Ok(Some(digest)) if digest == *expected => unchanged[number / 8] |= 1 << (number % 8),
                Ok(_) => {}
                Err(error) => return lost(error),
            }
            let _ = rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(*length), Advice::DontNeed); // a hint
            offset = end;
        }
        Lost::NOTHING
    }

    /// `None`: the file ends before the range does.
    fn digest(
        &mut self,
        file: &OwnedFd,
        range: std::ops::Range<u64>,
        credit: &Credit,
    ) -> Result<Option<[u8; 32]>, Errno> {
        let (mut digest, mut offset) = (Sha256::new(), range.start);
        while offset < range.end && !credit.is_cancelled() {
            let step = usize::try_from(range.end - offset).map_or(DATA_BYTES_MAX, |left| left.min(DATA_BYTES_MAX));
            match rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut self.buffer[..step], offset))? {
                0 => return Ok(None),
                length => {
                    digest.update(&self.buffer[..length]);
                    offset += length as u64;
                }
            }
        }
        Ok(Some(digest.finalize().into()))
    }

    /// The file that the hub means: a regular one, and the same as it was told of.
    fn open(&mut self, request: &ReadRequest) -> Result<(OwnedFd, Stat), Lost> {
        check::relative(&request.path).map_err(|_| Lost::REFUSED)?;
        let file = match request.path.as_slice() {
            b"" => open_root_file(&request.root, self.policy)?,
            path => open_file(self.root(&request.root)?, path).map_err(lost)?,
        };
        let stat = rustix::fs::fstat(&file).map_err(lost)?;
        let is_same = |told: u64, found: u64| told == 0 || told == found;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !is_file || !is_same(request.device, stat.st_dev) || !is_same(request.inode, stat.st_ino) {
            return Err(Lost::REPLACED);
        }
        Ok((file, stat))
    }

    fn root(&mut self, path: &[u8]) -> Result<&OwnedFd, Lost> {
        if !self.roots.contains_key(path) {
            if self.roots.len() == ROOTS_MAX {
                self.roots.clear();
            }
            let opened = open_root(path, self.policy)?;
            self.roots.insert(path.to_vec(), opened);
        }
        self.roots.get(path).ok_or(Lost::REFUSED)
    }
}

fn stamp(stat: &Stat) -> Stamp {
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Stamp {
        size: stat.st_size.cast_unsigned(),
        mtime: Time { seconds: stat.st_mtime, nanoseconds },
        device: stat.st_dev,
        inode: stat.st_ino,
    }
}

/// Where data is in a file that may have another length by now: what was added is no hole.
fn still(data: Vec<(u64, u64)>, then: &Stat, now: &Stat) -> Vec<(u64, u64)> {
    if then.st_size == now.st_size { data } else { vec![(0, now.st_size.cast_unsigned())] }
}

/// Where data is. Only a file with fewer blocks than its length needs is asked for its holes.
fn layout(file: &OwnedFd, stat: &Stat) -> Vec<(u64, u64)> {
    let length = stat.st_size.cast_unsigned();
    let dense = vec![(0, length)];
    if stat.st_blocks.cast_unsigned().saturating_mul(512) >= length {
        return dense;
    }
    let (mut data, mut offset) = (Vec::new(), 0);
    while offset < length {
        let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(_) => return dense,
        };
        let is_last = data.len() + 1 == PIECES_MAX;
        let end = if is_last { Ok(length) } else { rustix::fs::seek(file, SeekFrom::Hole(start)) };
        let Ok(end) = end else { return dense };
        let end = end.min(length);
        if start < end {
            data.push((start, end));
        }
        offset = end.max(start + 1);
    }
    data
}
