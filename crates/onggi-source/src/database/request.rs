//! How the tools are called, apart from which server it is. Pure; the password never stands in an argument.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::carrier::Launch;

/// How a server is reached and the tools are started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Name or address; with a leading `/` the place of a socket.
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    /// The private file with the password.
    pub(super) secret: Option<PathBuf>,
    /// Folder of the tools.
    pub(super) programs: Option<PathBuf>,
    /// User of this machine that the tools run as.
    pub(super) run_as: Option<String>,
    pub(super) environment: BTreeMap<String, String>,
}

impl Reach {
    /// A program by name.
    pub(super) fn program(&self, name: &str) -> OsString {
        self.programs.as_ref().map_or_else(|| name.into(), |folder| folder.join(name).into())
    }

    /// One process, as the right user.
    pub(super) fn launch(&self, words: Vec<OsString>) -> Launch {
        Launch::new([as_user(self.run_as.as_deref(), words)]).with_environment(self.environment.clone())
    }
}

/// The same process as another user of this machine.
pub(super) fn as_user(user: Option<&str>, words: Vec<OsString>) -> Vec<OsString> {
    let Some(user) = user else { return words };
    let (reuid, regid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let prefix = ["setpriv", &reuid, &regid, "--init-groups", "--"].map(OsString::from);
    prefix.into_iter().chain(words).collect()
}

/// Arguments of text.
pub(super) fn words<const N: usize>(texts: [&str; N]) -> Vec<OsString> {
    texts.map(OsString::from).into()
}

/// Makes a private folder.
pub(super) fn make_folder(user: Option<&str>, folder: &Path) -> Launch {
    let mut make = words(["mkdir", "-m", "700", "--"]);
    make.push(folder.into());
    Launch::new([as_user(user, make)])
}

/// Removes a folder with all that is in it.
pub(super) fn remove_folder(user: Option<&str>, folder: &Path) -> Launch {
    let mut remove = words(["rm", "-rf", "--one-file-system", "--"]);
    remove.push(folder.into());
    Launch::new([as_user(user, remove)])
}

/// Writes its input into a file.
pub(super) fn write_file(user: Option<&str>, file: &Path) -> Launch {
    let mut of = OsString::from("of=");
    of.push(file);
    let mut write = words(["dd", "bs=64k", "iflag=fullblock", "conv=fsync", "status=none"]);
    write.push(of);
    Launch { takes_input: true, drops_output: true, ..Launch::new([as_user(user, write)]) }
}

/// A database's or server's name as the name of a file: what cannot stand in one is written as `%` and two digits.
pub(super) fn file_name(name: &str) -> String {
    let mut file = String::with_capacity(name.len());
    for (at, character) in name.chars().enumerate() {
        match character {
            '/' => file.push_str("%2F"),
            '%' => file.push_str("%25"),
            '\0' => file.push_str("%00"),
            '.' if at == 0 => file.push_str("%2E"),
            _ => file.push(character),
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_good_file_name_of_its_own() {
        for (name, expected) in [("shop", "shop"), ("a/b", "a%2Fb"), ("..", "%2E."), ("50%", "50%25"), ("-x y", "-x y")]
        {
            assert_eq!(file_name(name), expected);
        }
    }

    #[test]
    fn another_user_stands_before_the_program() {
        let line = as_user(Some("postgres"), words(["psql"]));
        assert_eq!(line.join(" ".as_ref()), "setpriv --reuid=postgres --regid=postgres --init-groups -- psql");
        assert_eq!(as_user(None, words(["psql"])), ["psql"]);
    }
}
