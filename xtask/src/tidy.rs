//! `cargo xtask tidy`: what no compiler checks. Each rule is a pure function from the tree's files to faults.

mod changelog;
mod command;
mod document;
mod edge;
mod manifest;
mod shape;
mod tree;
mod word;

use anyhow::{Result, bail};

use crate::workspace;
use tree::{Fault, Tree};

const RULES: &[fn(&Tree) -> Vec<Fault>] =
    &[edge::check, manifest::check, shape::check, word::check, document::check, command::check, changelog::check];

/// Judges the tree by every rule.
pub fn run() -> Result<()> {
    let tree = Tree::read(workspace::root())?;
    let faults = judge(&tree);
    if !faults.is_empty() {
        bail!("{} faults\n{}", faults.len(), listed(&faults));
    }
    println!("{} files are tidy", tree.files().len());
    Ok(())
}

fn judge(tree: &Tree) -> Vec<Fault> {
    RULES.iter().flat_map(|rule| rule(tree)).collect()
}

fn listed(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let faults = judge(&Tree::read(workspace::root()).unwrap());
        assert!(faults.is_empty(), "\n{}", listed(&faults));
    }
}
