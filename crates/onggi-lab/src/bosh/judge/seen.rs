//! What can be seen of one command under one program, without what differs from run to run: times, ports, places, sizes.

use std::collections::BTreeMap;
use std::path::Path;

use crate::bosh::jumpbox::{Jumpbox, listed};
use crate::program::Ended;

/// What is seen, each kind as lines in order; where many work at once the order says nothing.
pub type Seen = BTreeMap<&'static str, Vec<String>>;

/// Of a command that ended on this machine.
pub fn of(jumpbox: &Jumpbox, ended: &Ended) -> Seen {
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| plain(jumpbox, line)).filter(|line| !line.is_empty());
        lines.filter(|line| !line.ends_with("% complete")).collect()
    };
    let mut files = Vec::new();
    for path in jumpbox.work() {
        files.push(plain(jumpbox, &path.display().to_string()));
        files.extend(path.is_dir().then(|| artifact(jumpbox, &path)).into_iter().flatten());
    }
    let advice = ended.err.lines().filter_map(|line| Some(line.split_once('`')?.1.split_once('`')?.0.to_owned()));
    let mut seen = Seen::from([
        ("code", vec![format!("{:?}", ended.code)]),
        ("said", lines(&ended.out)),
        // texts of errors are each program's own; that there are some, how many, and what they advise is not
        ("failed", ended.err.lines().take(1).filter(|line| !line.is_empty()).map(str::to_owned).collect()),
        ("advised", advice.filter(|command| command.starts_with("bbr ")).collect()),
        ("written", files),
    ]);
    for lines in seen.values_mut() {
        lines.sort();
    }
    seen
}

/// The first words on standard output, and all on standard error: of commands that are answered before anything is done.
pub fn of_words(jumpbox: &Jumpbox, ended: &Ended) -> Seen {
    let said = ended.out.lines().take_while(|line| !line.starts_with("USAGE")).map(|line| {
        let line = plain(jumpbox, line);
        line.split_once(" - ").map_or(line.clone(), |(name, _)| name.to_owned())
    });
    Seen::from([
        ("code", vec![format!("{:?}", ended.code)]),
        ("said", said.collect()),
        ("failed", ended.err.lines().map(str::to_owned).collect()),
    ])
}

/// What an artifact directory holds.
fn artifact(jumpbox: &Jumpbox, path: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in path.read_dir().into_iter().flatten().flatten() {
        let file = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if file.extension().is_some_and(|ending| ending == "tar") {
            lines.extend(listed(&file).into_iter().map(|member| format!("{name}: {member}")));
        } else {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            // in which order artifacts are whole says nothing
            lines.extend(text.lines().map(|line| format!("{name}: {}", plain(jumpbox, line.trim_start_matches("- ")))));
        }
    }
    lines
}

/// A line without what differs from run to run.
pub fn plain(jumpbox: &Jumpbox, line: &str) -> String {
    let mut line = line.replace(&jumpbox.path("").display().to_string(), "/jumpbox/");
    if let Some(at) = line.find(" m=+") {
        let rest = line[at..].find(',').map_or(line.len(), |comma| at + comma);
        line.replace_range(at..rest, "");
    }
    let line = without_users(&line);
    let mut plain = String::with_capacity(line.len());
    let mut digits = String::new();
    for letter in line.chars().chain(['\n']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        // one digit counts jobs, instances and errors; more than one are times and ports, in hexadecimal they are sums
        plain.push_str(if digits.len() > 1 { "#" } else { &digits });
        digits.clear();
        plain.push(letter);
    }
    plain.pop();
    // Go shows nanoseconds
    plain.replace(".# +#", " +#").replace("K uncompressed", "uncompressed").replace("M uncompressed", "uncompressed")
}

/// Users that are made for one run.
fn without_users(line: &str) -> String {
    let mut parts = line.split("bosh_");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|letter: char| !letter.is_ascii_hexdigit()).unwrap_or(part.len());
        text.push_str(if end > 0 { "bosh_USER" } else { "bosh_" });
        text.push_str(&part[end..]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_not_seen() {
        let jumpbox = Jumpbox::with(Path::new("/bin/true"));
        let check = |line: &str, expected: &str| assert_eq!(plain(&jumpbox, line), expected);
        check("[bbr] 2026/11/20 11:11:31 INFO - bosh/0/a", "[bbr] #/#/# #:#:# INFO - bosh/0/a");
        check("on 2026-11-28 09:50:16.0244 +0000 UTC m=+1.69", "on #-#-# #:#:# +# UTC");
        check("on 2026-11-28 09:50:16.0244 +0000 UTC m=+1.69, failed", "on #-#-# #:#:# +# UTC, failed");
        check("127.0.0.1:34567", "#.0.0.1:#");
        check("^bosh_0123456789abcde and bosh_sshers", "^bosh_USER and bosh_sshers");
        check(&jumpbox.path("work/x").display().to_string(), "/jumpbox/work/x");
    }
}
