//! Words that have no place in the tree: notes to oneself, unfinished work, bare exceptions, this machine's paths.

use super::tree::{Fault, File, Tree};

/// Word, and what to do instead.
const BANNED: &[(&str, &str)] = &[
    ("TODO", "do it, or state the limit in the docs"),
    ("FIXME", "do it, or state the limit in the docs"),
    ("XXX", "do it, or state the limit in the docs"),
    ("todo!(", "do it"),
    ("unimplemented!(", "do it"),
    ("dbg!(", "take it out"),
    ("for now,", "say what holds and why"),
    ("not implemented yet", "do it, or state the limit in the docs"),
    ("not yet implemented", "do it, or state the limit in the docs"),
    ("#[allow(", "use #[expect(..., reason = \"...\")]"),
    ("#![allow(", "use #![expect(..., reason = \"...\")]"),
    ("#[ignore]", "an ignored test proves nothing: skip loudly, or take it out"),
    ("fn test_", "a test's name is a fact"),
];

/// Files that must name the words in order to ban or explain them.
const EXEMPT: &[&str] = &["xtask/src/tidy/word.rs", "Cargo.lock", "CONTRIBUTING.md", "LICENSE-APACHE"];

/// Banned words, and the folder of the checkout.
pub fn check(tree: &Tree) -> Vec<Fault> {
    let machine = crate::workspace::root().to_string_lossy().into_owned();
    let files = tree.files().iter().filter(|file| !EXEMPT.contains(&file.path.as_str()));
    files.flat_map(|file| faults(file, &machine)).collect()
}

fn faults(file: &File, machine: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, line) in file.lines() {
        for (word, instead) in BANNED.iter().filter(|(word, _)| holds(line, word) && !is_excused(line, word)) {
            faults.push(file.fault(number, format!("`{word}`: {instead}")));
        }
        if line.contains(machine) {
            faults.push(file.fault(number, "names the folder of this checkout"));
        }
    }
    faults
}

/// Tests that share a module between programs cannot expect a lint in each of them: an exception with a reason will do.
fn is_excused(line: &str, word: &str) -> bool {
    word.contains("allow(") && line.contains("reason = \"")
}

/// Whether the word stands in the line, not as part of a longer one.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let letter = |next: Option<char>| next.is_some_and(char::is_alphanumeric);
        let free = !letter(line[..at].chars().next_back());
        free && (!word.ends_with(char::is_alphanumeric) || !letter(line[at + word.len()..].chars().next()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::check as rule;

    #[test]
    fn a_note_to_oneself_is_a_fault() {
        let expected = "a.rs:2: `TODO`: do it, or state the limit in the docs";
        tree::check(rule, &[("a.rs", "//! A.\n// TODO: later\n")], &[expected]);
    }

    #[test]
    fn a_bare_exception_is_a_fault() {
        let expected = "a.rs:1: `#[allow(`: use #[expect(..., reason = \"...\")]";
        tree::check(rule, &[("a.rs", "#[allow(dead_code)]\n")], &[expected]);
    }

    #[test]
    fn longer_words_are_left_alone() {
        tree::check(rule, &[("a.md", "AUTODOC XXXL todo list\n")], &[]);
    }

    #[test]
    fn the_folder_of_the_checkout_is_a_fault() {
        let text = format!("cd {}\n", crate::workspace::root().display());
        tree::check(rule, &[("a.sh", &text)], &["a.sh:1: names the folder of this checkout"]);
    }
}
