//! Commands in the pages exist: every verb and flag of `onggi …` in README and docs stands in the generated reference.

use super::tree::{Fault, File, Tree};

const REFERENCE: &str = "docs/reference/commands.md";

/// Verbs and flags of all commands that pages show.
pub fn check(tree: &Tree) -> Vec<Fault> {
    let Some(reference) = tree.file(REFERENCE) else { return Vec::new() };
    let known = Known::read(&reference.text);
    let pages = tree.matching("docs/", ".md").filter(|page| page.path != REFERENCE).chain(tree.file("README.md"));
    pages
        .flat_map(|page| commands(page).into_iter().filter_map(|(line, command)| known.fault(page, line, &command)))
        .collect()
}

/// What the reference knows.
struct Known<'a> {
    /// `backup`, `repository`, `repository prune`.
    verbs: Vec<&'a str>,
    text: &'a str,
}

impl<'a> Known<'a> {
    fn read(text: &'a str) -> Self {
        let headings = text.lines().filter(|line| line.starts_with('#'));
        Self {
            verbs: headings.filter_map(|line| line.trim_start_matches('#').trim().strip_prefix("onggi ")).collect(),
            text,
        }
    }

    fn fault(&self, page: &File, line: usize, command: &str) -> Option<Fault> {
        let words: Vec<&str> =
            command.split_whitespace().take_while(|word| !matches!(*word, "#" | "|" | "--")).collect();
        let flags =
            words.iter().filter(|word| word.starts_with("--")).map(|word| word.split('=').next().unwrap_or(word));
        for flag in flags {
            if !self.text.contains(&format!("`{flag}`")) && !self.text.contains(&format!("`{flag} ")) {
                return Some(page.fault(line, format!("the reference knows no {flag}")));
            }
        }
        let found = words.iter().position(|word| self.verbs.contains(word));
        let only_flags = words.iter().all(|word| word.starts_with("--"));
        let Some(at) = found else {
            return (!only_flags).then(|| page.fault(line, format!("the reference knows no `onggi {command}`")));
        };
        let noun = words[at];
        let has_verbs = self.verbs.iter().any(|verb| verb.starts_with(&format!("{noun} ")));
        let next = words.get(at + 1)?;
        let known = self.verbs.contains(&format!("{noun} {next}").as_str());
        (has_verbs && !known && !next.starts_with('-') && *next != "…")
            .then(|| page.fault(line, format!("the reference knows no `onggi {noun} {next}`")))
    }
}

/// What follows `onggi ` in console blocks and in code within a line.
fn commands(page: &File) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (number, line) in page.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            found.extend(line.strip_prefix("$ onggi ").map(|command| (number, command.to_owned())));
        } else {
            let pieces = line.split('`').skip(1).step_by(2);
            found.extend(pieces.filter_map(|piece| Some((number, piece.strip_prefix("onggi ")?.to_owned()))));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::check as rule;

    const PAGE: &str = "## onggi backup\n| `-f`, `--force` | x |\n| `--tag TAG` | x |\n## onggi repository\n### onggi repository prune\n";

    #[test]
    fn known_verbs_and_flags_are_fine() {
        check(
            "```console\n$ onggi --tag x backup ~/a --force    # why\n```\n`onggi repository prune` and `onggi --force`\n",
            &[],
        );
    }

    #[test]
    fn an_unknown_verb_is_a_fault() {
        check("`onggi frobnicate x`\n", &["docs/a.md:1: the reference knows no `onggi frobnicate x`"]);
        check("`onggi repository melt`\n", &["docs/a.md:1: the reference knows no `onggi repository melt`"]);
    }

    #[test]
    fn an_unknown_flag_is_a_fault() {
        check("```console\n$ onggi backup --hard /etc\n```\n", &["docs/a.md:2: the reference knows no --hard"]);
    }

    #[track_caller]
    fn check(page: &str, expected: &[&str]) {
        tree::check(rule, &[("docs/a.md", page), (super::REFERENCE, PAGE)], expected);
    }
}
