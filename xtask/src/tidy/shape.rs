//! The shape of Rust files: a head that says what a file is about, and lengths one does not get lost in.
//!
//! Lengths are a ratchet: what xtask/src/tidy/ratchet.txt names may stay as long as it is, never grow, and leaves the
//! list once it is short.

use std::collections::BTreeMap;

use super::tree::{Fault, File, Tree};

/// The longest file, without its tests.
const FILE_LINES_MAX: usize = 500;
/// The longest function.
const FUNCTION_LINES_MAX: usize = 70;
/// Nine in ten functions stay below this.
const FUNCTION_LINES_USUAL: usize = 40;
const RATCHET: &str = "xtask/src/tidy/ratchet.txt";

/// Heads and lengths of all Rust files.
pub fn check(tree: &Tree) -> Vec<Fault> {
    let rust: Vec<&File> = tree.files().iter().filter(|file| file.is(".rs")).collect();
    let mut faults: Vec<Fault> = rust.iter().filter_map(|file| head(file)).collect();
    let functions: Vec<Length> = rust.iter().flat_map(|file| functions(file)).collect();
    let files = rust.iter().map(|file| file_length(file));
    let too_long = files.filter(|length| length.lines > FILE_LINES_MAX);
    let too_long = too_long.chain(functions.iter().filter(|length| length.lines > FUNCTION_LINES_MAX).cloned());
    faults.extend(ratchet(tree, too_long.collect()));
    faults.extend(usual(&functions));
    faults
}

fn head(file: &File) -> Option<Fault> {
    (!file.text.starts_with("//! ")).then(|| file.fault(1, "does not begin with //! and what it is about"))
}

/// A measured piece of code.
#[derive(Clone)]
struct Length {
    path: String,
    line: usize,
    what: String,
    lines: usize,
}

fn file_length(file: &File) -> Length {
    let lines = file.text.lines().take_while(|line| *line != "mod tests {").count();
    Length { path: file.path.clone(), line: 1, what: "file".into(), lines }
}

/// Every function with its length from `fn` to the closing brace. The tree is formatted, so a function ends at the first
/// closing brace that stands as deep as it begins; a string that holds such a line would end it early.
fn functions(file: &File) -> Vec<Length> {
    let lines: Vec<&str> = file.text.lines().collect();
    let starts = lines.iter().enumerate().filter_map(|(index, line)| Some((index, function_name(line)?)));
    starts
        .filter_map(|(index, name)| {
            let depth = lines[index].len() - lines[index].trim_start().len();
            let close = format!("{}}}", &lines[index][..depth]);
            let semicolon = lines[index].ends_with(';');
            let end =
                (index..lines.len()).find(|at| lines[*at] == close || lines[*at].ends_with('}') && *at == index)?;
            let length = Length { path: file.path.clone(), line: index + 1, what: name.into(), lines: end - index + 1 };
            (!semicolon).then_some(length)
        })
        .collect()
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let words = before.split_whitespace();
    let only_words = words.into_iter().all(|word| {
        matches!(word, "pub" | "const" | "async" | "default") || word.starts_with("pub(") || word == "crate)"
    });
    let name = after.split(['(', '<']).next()?;
    (only_words && !name.is_empty()).then_some(name)
}

fn ratchet(tree: &Tree, too_long: Vec<Length>) -> Vec<Fault> {
    let text = tree.file(RATCHET).map_or("", |file| &file.text);
    let mut old: BTreeMap<(String, String), usize> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some(((words.next()?.into(), words.next()?.into()), words.next()?.parse().ok()?))
        })
        .collect();
    let mut faults = Vec::new();
    for Length { path, line, what, lines } in too_long {
        let allowed = old.remove(&(path.clone(), what.clone()));
        if allowed.is_none_or(|allowed| lines > allowed) {
            faults.push(Fault { path, line, text: format!("{what} has {lines} lines: split it by meaning") });
        }
    }
    for ((path, what), _) in old {
        let text = format!("{path} {what} is short now or gone: take it off the list");
        faults.push(Fault { path: RATCHET.into(), line: 1, text });
    }
    faults
}

fn usual(functions: &[Length]) -> Option<Fault> {
    let long = functions.iter().filter(|length| length.lines > FUNCTION_LINES_USUAL).count();
    let text = format!("{long} of {} functions have over {FUNCTION_LINES_USUAL} lines", functions.len());
    (long * 10 > functions.len()).then(|| Fault { path: "crates".into(), line: 1, text })
}

#[cfg(test)]
mod tests {
    use super::super::tree::{self, File};
    use super::check as rule;
    use super::*;

    #[test]
    fn a_file_says_what_it_is_about() {
        tree::check(rule, &[("a.rs", "use x;\n")], &["a.rs:1: does not begin with //! and what it is about"]);
    }

    #[test]
    fn a_long_function_is_a_fault_unless_it_is_an_old_one() {
        let long = format!("//! A.\n{}fn long(a: A) {{\n{}}}\n", "fn short() {}\n".repeat(20), "    x;\n".repeat(80));
        tree::check(rule, &[("a.rs", &long)], &["a.rs:22: long has 82 lines: split it by meaning"]);
        tree::check(rule, &[("a.rs", &long), (RATCHET, "a.rs long 82\n")], &[]);
        let expected = "a.rs:22: long has 82 lines: split it by meaning";
        tree::check(rule, &[("a.rs", &long), (RATCHET, "a.rs long 81\n")], &[expected]);
    }

    #[test]
    fn the_list_only_shrinks() {
        let expected = "xtask/src/tidy/ratchet.txt:1: a.rs file is short now or gone: take it off the list";
        tree::check(rule, &[(RATCHET, "a.rs file 600\n")], &[expected]);
    }

    #[test]
    fn declarations_one_liners_and_nested_functions_are_measured_apart() {
        let text = "trait T {\n    fn declared(&self);\n    fn one(&self) {}\n    pub(crate) async fn outer() {\n        fn inner() {\n            x\n        }\n    }\n}\n";
        let file = File { path: "a.rs".into(), text: text.into() };
        let found: Vec<_> = functions(&file).iter().map(|length| format!("{} {}", length.what, length.lines)).collect();
        assert_eq!(found, ["one 1", "outer 5", "inner 3"]);
    }
}
