//! What is wrong in the configuration, each with its place and a remedy. All faults are collected, none is thrown.

use std::{fmt, sync::Arc};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named.
    pub file: Arc<str>,
    /// From 1.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// How far a fault reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The configuration is wrong: nothing runs before it is mended.
    File,
    /// It is right, but this build has no adapter for it: the source does not run, everything else does.
    Source,
    /// Nothing is wrong; the operator should know.
    Notice,
}

/// One thing that is wrong, or that the operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The value's place, or the key's if there is no value.
    pub place: Place,
    /// The key with its parents, joined by dots: `storages.local.path`.
    pub key: String,
    /// What is wrong, one line without place and key.
    pub text: String,
    /// How to mend it.
    pub remedy: Option<String>,
    /// How far it reaches.
    pub reach: Reach,
}

impl fmt::Display for Fault {
    /// `onggi.yaml:3:5: storages.local.pth: unknown key; did you mean path? (known here: kind, path)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

/// Faults on their way to the operator, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    /// The file is wrong here.
    pub fn wrong(&mut self, place: &Place, key: impl Into<String>, text: impl Into<String>, remedy: Option<String>) {
        self.add(place, key, text, remedy, Reach::File);
    }

    pub fn add(
        &mut self,
        place: &Place,
        key: impl Into<String>,
        text: impl Into<String>,
        remedy: Option<String>,
        reach: Reach,
    ) {
        self.0.push(Fault { place: place.clone(), key: key.into(), text: text.into(), remedy, reach });
    }

    pub fn is_wrong(&self) -> bool {
        self.0.iter().any(|fault| fault.reach == Reach::File)
    }

    pub fn into_sorted(mut self) -> Vec<Fault> {
        self.0.sort_by(|a, b| a.place.cmp(&b.place));
        self.0.dedup();
        self.0
    }
}

/// "did you mean `x`? (known here: x, y)".
pub(super) fn known_here(given: &str, known: &[&str]) -> String {
    let list = known.join(", ");
    match nearest(given, known) {
        Some(near) => format!("did you mean {near}? (known here: {list})"),
        None => format!("known here: {list}"),
    }
}

/// The known word that is at most a third of its letters away.
pub(super) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let rated = known.iter().map(|word| (distance(given, word), *word)).min()?;
    (rated.0 <= 1 + rated.1.len() / 3).then_some(rated.1)
}

/// Letters to insert, remove or change (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, left) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in to.iter().enumerate() {
            let changed = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_named_and_a_far_one_is_not() {
        let known = ["one-file-system", "exclude", "paths"];
        assert_eq!(nearest("exlude", &known), Some("exclude"));
        assert_eq!(nearest("path", &known), Some("paths"));
        assert_eq!(nearest("one_file_system", &known), Some("one-file-system"));
        assert_eq!(nearest("bucket", &known), None);
    }
}
