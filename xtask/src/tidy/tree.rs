//! The files of the tree as text, and what is wrong with them.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};

/// Folders that hold no source.
const LEFT_OUT: &[&str] = &[".git", ".lab", "target", "golden"];

/// Every text file of the tree, sorted by path.
pub struct Tree {
    files: Vec<File>,
}

/// One text file.
pub struct File {
    /// From the top of the tree, with `/`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

impl File {
    /// Whether the path ends so.
    pub fn is(&self, ending: &str) -> bool {
        self.path.ends_with(ending)
    }

    /// Lines with their numbers, from one.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// A fault on a line of this file.
    pub fn fault(&self, line: usize, text: impl Into<String>) -> Fault {
        Fault { path: self.path.clone(), line, text: text.into() }
    }
}

impl Tree {
    /// Reads the files below a folder; what is not UTF-8 is left out.
    pub fn read(top: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![top.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if path.is_symlink() || LEFT_OUT.contains(&name.as_str()) {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(text) = String::from_utf8(std::fs::read(&path)?) {
                    let path = path.strip_prefix(top).expect("below the top").to_string_lossy().into_owned();
                    files.push(File { path, text });
                }
            }
        }
        files.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(Self { files })
    }

    /// A tree of the given paths and texts.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| File { path: (*path).into(), text: (*text).into() }).collect();
        Self { files }
    }

    /// All files.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The file of this path.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Files whose path begins and ends so.
    pub fn matching<'a>(&'a self, start: &'a str, ending: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |file| file.path.starts_with(start) && file.path.ends_with(ending))
    }

    /// Whether a file or folder of this path is there.
    pub fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.iter().any(|file| file.path == path || file.path.starts_with(&folder))
    }
}

/// Something that must be put right.
#[derive(Debug)]
pub struct Fault {
    /// The file.
    pub path: String,
    /// The line, from one.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// The one way tests of rules state what they expect: faults as `path:line: text`, one per line.
#[cfg(test)]
#[track_caller]
pub fn check(rule: fn(&Tree) -> Vec<Fault>, files: &[(&str, &str)], expected: &[&str]) {
    let faults: Vec<_> = rule(&Tree::of(files)).iter().map(ToString::to_string).collect();
    assert_eq!(faults, expected);
}
