//! Changelog files: one per change a user sees, `Fix|Add|Change: what`, then the problem and the behavior.

use super::tree::{Fault, File, Tree};

const KINDS: &[&str] = &["Fix: ", "Add: ", "Change: "];

/// The shape of every file in changelog/unreleased.
pub fn check(tree: &Tree) -> Vec<Fault> {
    tree.matching("changelog/unreleased/", ".md").filter_map(shape).collect()
}

fn shape(file: &File) -> Option<Fault> {
    let mut lines = file.text.lines();
    let title = lines.next().unwrap_or_default();
    let Some(kind) = KINDS.iter().find(|kind| title.starts_with(**kind)) else {
        return Some(file.fault(1, "begins with none of Fix:, Add:, Change:"));
    };
    if title.len() <= kind.len() || title.ends_with('.') {
        return Some(file.fault(1, "has a title that is empty or ends in a full stop"));
    }
    if lines.next() != Some("") {
        return Some(file.fault(2, "has no empty line after the title"));
    }
    lines.all(|line| line.trim().is_empty()).then(|| file.fault(3, "does not say what changes for the operator"))
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::check as rule;

    #[test]
    fn a_whole_file_is_fine() {
        check("Add: restore\n\nFiles come back.\n", &[]);
    }

    #[test]
    fn a_title_without_kind_is_a_fault() {
        check("Restore\n\nFiles.\n", &["changelog/unreleased/a.md:1: begins with none of Fix:, Add:, Change:"]);
    }

    #[test]
    fn a_title_alone_is_a_fault() {
        check("Fix: it\n\n", &["changelog/unreleased/a.md:3: does not say what changes for the operator"]);
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        tree::check(rule, &[("changelog/unreleased/a.md", text)], expected);
    }
}
