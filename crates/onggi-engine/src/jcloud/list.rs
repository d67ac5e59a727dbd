//! The list of jobs: the script's own file, an id a line, so that either tool goes on with the other's; and beside it what
//! was begun, so that nothing is begun twice.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// An image that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The server's id.
    pub server: String,
    /// What its image's name ends with.
    pub epoch: u64,
}

/// The list, while this process has it.
#[derive(Debug)]
pub struct JobList {
    path: PathBuf,
    note: PathBuf,
    /// Others wait for it.
    _claim: File,
}

impl JobList {
    /// Claims the list, which need not be there. `None`: another process works on it.
    pub fn claim(path: &Path) -> io::Result<Option<Self>> {
        let beside = |end: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        let claim = File::options().create(true).truncate(false).write(true).open(beside(".onggi.lock"))?;
        match claim.try_lock() {
            Ok(()) => Ok(Some(Self { path: path.to_owned(), note: beside(".onggi"), _claim: claim })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The ids, in order.
    pub fn read(&self) -> io::Result<Vec<String>> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect())
    }

    /// Writes the whole list.
    pub fn write(&self, ids: &[String]) -> io::Result<()> {
        let lines: Vec<_> = ids.iter().flat_map(|id| [id.as_str(), "\n"]).collect();
        replace(&self.path, lines.concat().as_bytes())
    }

    /// Takes the first line of this id out; what else changed meanwhile stays.
    pub fn strike(&self, id: &str) -> io::Result<()> {
        let mut ids = self.read()?;
        if let Some(at) = ids.iter().position(|one| one == id) {
            ids.remove(at);
        }
        self.write(&ids)?;
        match fs::remove_file(&self.note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What an earlier process had begun of this server. What cannot be read was not written whole, before it began.
    pub fn begun(&self, server: &str) -> io::Result<Option<Begun>> {
        let text = match fs::read(&self.note) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let begun: Option<Begun> = serde_json::from_slice(&text).ok();
        Ok(begun.filter(|begun| begun.server == server))
    }

    /// Notes what is begun next.
    pub fn begin(&self, begun: &Begun) -> io::Result<()> {
        replace(&self.note, &serde_json::to_vec(begun)?)
    }
}

/// Writes a file whole, or not at all.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_gone_on_with_where_it_stood() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("joblist");
        fs::write(&path, "a\nb\n\n c \n").unwrap();
        let list = JobList::claim(&path).unwrap().unwrap();
        assert_eq!(list.read().unwrap(), ["a", "b", "c"]);
        list.begin(&Begun { server: "a".to_owned(), epoch: 7 }).unwrap();
        assert_eq!(list.begun("a").unwrap().map(|begun| begun.epoch), Some(7));
        assert_eq!(list.begun("b").unwrap(), None);
        list.strike("a").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "b\nc\n");
        assert_eq!(list.begun("a").unwrap(), None);
    }

    #[test]
    fn two_do_not_work_on_one_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("joblist");
        let held = JobList::claim(&path).unwrap();
        assert!(JobList::claim(&path).unwrap().is_none());
        drop(held);
        let list = JobList::claim(&path).unwrap().unwrap();
        assert_eq!(list.read().unwrap(), Vec::<String>::new());
    }
}
