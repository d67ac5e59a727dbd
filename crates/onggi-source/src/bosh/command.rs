//! Pure: the commands that run on an instance, as texts for its shell. All of them as root, none may ask for a password.

use std::fmt::Write as _;

use super::STORE;
use super::script::Script;
use crate::carrier::ssh::quote;

/// Prints `Windows_NT` where there is nothing to do.
pub(crate) const OPERATING_SYSTEM: &str = "echo %OS%";

/// Digits of a SHA-256.
const DIGITS: usize = 64;

/// A root shell's script.
pub(crate) fn as_root(script: &str) -> String {
    format!("sudo -n sh -c {}", quote(&format!("export LC_ALL=C; {script}")))
}

/// Lists the files that may be scripts. A root shell expands the pattern: the folders behind the links are closed to
/// others.
pub(crate) fn find_scripts() -> String {
    as_root("find /var/vcap/jobs/*/bin/bbr/* -type f")
}

/// Prints `present` or `absent`.
pub(crate) fn look_for_store() -> String {
    as_root(&format!("if [ -e {STORE} ] || [ -L {STORE} ]; then echo present; else echo absent; fi"))
}

/// Runs a script of a job in this environment. The first line that comes is the number of its session, by which it is
/// found if it must end early.
pub(crate) fn run_script(script: Script, job: &str, variables: &[(&str, String)]) -> String {
    let mut command = "echo $$; exec sudo -n".to_owned();
    for (name, value) in variables {
        let _ = write!(command, " {name}={}", quote(value)); // a string takes everything
    }
    format!("{command} {}", quote(&script.path(job)))
}

/// Sends a signal to all that belongs to a session.
pub(crate) fn signal(session: u32, signal: &str) -> String {
    format!("sudo -n pkill -{signal} -s {session}")
}

/// Makes a folder.
pub(crate) fn make(folder: &str) -> String {
    format!("sudo -n mkdir -p {}", quote(folder))
}

/// Removes a folder with all that is in it.
pub(crate) fn remove(folder: &str) -> String {
    format!("sudo -n rm -rf {}", quote(folder))
}

/// Prints the size of a folder twice, in bytes and as people read it, one to a line.
pub(crate) fn measure(folder: &str) -> String {
    let folder = quote(folder);
    as_root(&format!("du -s --block-size=1 {folder} && du -sh {folder}"))
}

/// Writes a folder as an archive.
pub(crate) fn pack(folder: &str) -> String {
    format!("sudo -n tar -C {} -c .", quote(folder))
}

/// Reads an archive into a folder.
pub(crate) fn unpack(folder: &str) -> String {
    as_root(&format!("tar -C {} -x", quote(folder)))
}

/// Prints the SHA-256 of every file beneath a folder. Names travel between zeros, so that blanks and quotes do no harm.
pub(crate) fn checksums(folder: &str) -> String {
    as_root(&format!("cd {} && find . -type f -print0 | xargs -0 -r shasum -a 256", quote(folder)))
}

/// What [`measure`] printed.
pub(crate) fn parse_size(output: &str) -> Option<(u64, String)> {
    let mut sizes = output.lines().filter_map(|line| line.split_whitespace().next());
    let bytes = sizes.next()?.parse().ok()?;
    Some((bytes, sizes.next()?.to_owned()))
}

/// What [`checksums`] printed. A line that begins with a backslash has a name with escapes in it.
pub(crate) fn parse_checksums(output: &str) -> Option<Vec<(String, String)>> {
    let line = |line: &str| {
        let (escaped, line) = line.strip_prefix('\\').map_or((false, line), |line| (true, line));
        let (digest, name) = line.split_at_checked(DIGITS)?;
        // an asterisk says that it was read as it is
        let name = name.strip_prefix("  ").or_else(|| name.strip_prefix(" *"))?;
        let is_digest = digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let name = if escaped { unescape(name) } else { name.to_owned() };
        is_digest.then(|| (name, digest.to_ascii_lowercase()))
    };
    output.lines().map(line).collect()
}

fn unescape(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut letters = name.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => plain.push(match letters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            }),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_gets_exactly_the_variables_that_are_named() {
        let directory = ("BBR_ARTIFACT_DIRECTORY", format!("{STORE}/db/"));
        assert_eq!(
            run_script(Script::Backup, "db", &[directory]),
            "echo $$; exec sudo -n BBR_ARTIFACT_DIRECTORY=/var/vcap/store/bbr-backup/db/ /var/vcap/jobs/db/bin/bbr/backup"
        );
        assert_eq!(
            run_script(Script::PreBackupLock, "a b", &[]),
            "echo $$; exec sudo -n '/var/vcap/jobs/a b/bin/bbr/pre-backup-lock'"
        );
    }

    #[test]
    fn sizes_and_checksums_are_read() {
        assert_eq!(parse_size("8192\t/x\n8.0K\t/x\n"), Some((8192, "8.0K".to_owned())));
        assert_eq!(parse_size("du: cannot access"), None);
        let digest = "a".repeat(64);
        let text = format!("{digest}  ./a b\n\\{digest}  ./new\\nline\\\\\n");
        let expected = [("./a b", &digest), ("./new\nline\\", &digest)];
        let expected: Vec<_> = expected.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).clone())).collect();
        assert_eq!(parse_checksums(&text), Some(expected));
        let expected = Some(vec![("./a  b".to_owned(), digest.clone())]);
        assert_eq!(parse_checksums(&format!("{digest} *./a  b\n")), expected);
        assert_eq!(parse_checksums("shasum: ./x: no such file"), None);
        assert_eq!(parse_checksums(""), Some(Vec::new()));
    }
}
