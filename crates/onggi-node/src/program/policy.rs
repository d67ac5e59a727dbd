//! The node's own say: a file, written by whoever runs the node, with the only roots that may be read and the only
//! commands that may run. Without one the hub may read what its user may read.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::journal::Journal;

/// The longest file, in bytes.
const BYTES_MAX: u64 = 64 << 10;

/// What the hub may ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// Only what lies below these; `None`: everything.
    roots: Option<Vec<Vec<u8>>>,
    /// Commands by name.
    dumps: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
    /// The most that is sent, in bytes per second; 0: as much as the hub says.
    pub(super) rate: u64,
    /// Where refusals are told.
    log: PathBuf,
    /// Nobody brings files back over this program.
    denies_restore: bool,
}

/// The socket of the system's log.
const SYSTEM_LOG: &str = "/dev/log";
/// The node's own file, where `enroll` puts it.
const USUAL: &str = "/etc/onggi-node.conf";

/// An error if the node's own file says that nothing is brought back.
pub(super) fn allows_restore() -> io::Result<()> {
    if !Path::new(USUAL).exists() {
        return Ok(());
    }
    let policy = Policy::load(USUAL.as_ref()).map_err(io::Error::other)?;
    if policy.denies_restore { Err(io::Error::other(format!("{USUAL} denies a restore"))) } else { Ok(()) }
}

impl Policy {
    /// Everything that the user may do.
    pub(super) fn open() -> Self {
        Self::default()
    }

    /// Reads the file. One that others may write is refused: it would be theirs to say what leaves the node.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let file = File::open(path).map_err(|error| format!("open {shown}: {error}"))?;
        let status = file.metadata().map_err(|error| format!("stat {shown}: {error}"))?;
        if status.uid() != 0 && status.uid() != rustix::process::geteuid().as_raw() || status.mode() & 0o022 != 0 {
            return Err(format!("{shown} may be written by others"));
        }
        let mut text = String::new();
        file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| format!("read {shown}: {error}"))?;
        Self::parse(&text).map_err(|error| format!("{shown}: {error}"))
    }

    /// One rule per line: `root PATH`, `dump NAME PROGRAM ARGUMENT…`, `rate BYTES`, `restore deny`, `log SOCKET`.
    fn parse(text: &str) -> Result<Self, String> {
        let mut policy = Self { roots: Some(Vec::new()), log: SYSTEM_LOG.into(), ..Self::default() };
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let wrong = || format!("line {} is no rule", number + 1);
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["root", path] if path.starts_with('/') => {
                    let path = onggi_node::pattern::clean(Path::new(path).as_os_str().as_bytes());
                    let path = [b"/", path.join(&b'/').as_slice()].concat();
                    policy.roots.get_or_insert_default().push(path);
                }
                ["dump", name, command @ ..] if !command.is_empty() => {
                    let command = command.iter().map(|word| word.as_bytes().to_vec()).collect();
                    policy.dumps.push((name.as_bytes().to_vec(), command));
                }
                ["log", path] if path.starts_with('/') => policy.log = path.into(),
                ["restore", "deny"] => policy.denies_restore = true,
                ["rate", bytes] => policy.rate = bytes.parse().map_err(|_| wrong())?,
                _ => return Err(wrong()),
            }
        }
        Ok(policy)
    }

    /// The journal of a node that decides for itself; with none, all is allowed and nothing to be told.
    pub(super) fn journal(&self) -> Journal {
        if self.is_closed() { Journal::open(&self.log) } else { Journal::default() }
    }

    /// The only roots; empty: all.
    pub(super) fn roots(&self) -> Vec<Vec<u8>> {
        self.roots.clone().unwrap_or_default()
    }

    /// Whether it keeps lists of its own.
    pub(super) fn is_closed(&self) -> bool {
        self.roots.is_some()
    }

    pub(super) fn dumps(&self) -> Vec<Vec<u8>> {
        self.dumps.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Whether what lies at this absolute path may be read.
    pub(super) fn allows(&self, path: &[u8]) -> bool {
        let below = |root: &Vec<u8>| {
            root == b"/"
                || path.strip_prefix(root.as_slice()).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
        };
        self.roots.as_ref().is_none_or(|roots| roots.iter().any(below))
    }

    /// The command to run: the node's own of this name, or what the hub says where the node has no lists.
    pub(super) fn command(&self, name: &[u8], asked: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
        let own = self.dumps.iter().find(|(own, _)| own == name).map(|(_, command)| command.clone());
        own.or_else(|| (!self.is_closed() && !asked.is_empty()).then_some(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_a_root_of_the_list_is_read() {
        let policy = Policy::parse("# of the node\nroot /etc/\nroot /var/lib//x\n\nrate 500\n").unwrap();
        for (path, expected) in
            [("/etc", true), ("/etc/a", true), ("/etcetera", false), ("/", false), ("/var/lib/x/y", true)]
        {
            assert_eq!(policy.allows(path.as_bytes()), expected, "{path}");
        }
        assert_eq!(policy.rate, 500);
        assert!(Policy::open().allows(b"/root"));
        assert!(Policy::parse("root /").unwrap().allows(b"/x"));
        assert!(!Policy::parse("").unwrap().allows(b"/"));
    }

    #[test]
    fn a_node_with_lists_runs_no_command_of_the_hub() {
        let policy = Policy::parse("dump db /usr/bin/dump --all\n").unwrap();
        assert_eq!(
            policy.command(b"db", vec![b"rm".to_vec()]),
            Some(vec![b"/usr/bin/dump".to_vec(), b"--all".to_vec()])
        );
        assert_eq!(policy.command(b"other", vec![b"id".to_vec()]), None);
        assert_eq!(Policy::open().command(b"other", vec![b"id".to_vec()]), Some(vec![b"id".to_vec()]));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in ["root etc", "dump db", "allow /", "rate fast"] {
            assert!(Policy::parse(text).is_err(), "{text}");
        }
    }
}
