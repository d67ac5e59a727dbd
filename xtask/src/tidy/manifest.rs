//! Manifests: lints and versions come from the top; nothing switches the sabotage on; packages come from one index.

use super::tree::{Fault, File, Tree};

/// Rules for Cargo.toml, Cargo.lock and whatever sets compiler flags.
pub fn check(tree: &Tree) -> Vec<Fault> {
    // fuzz/ is apart from the workspace and cannot inherit.
    let manifests = tree.files().iter().filter(|file| file.is("/Cargo.toml") && !file.path.starts_with("fuzz/"));
    manifests.flat_map(member).chain(tree.files().iter().flat_map(flags)).chain(lock(tree)).collect()
}

fn member(file: &File) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !file.text.contains("[lints]\nworkspace = true\n") {
        faults.push(file.fault(1, "does not take the lints of the workspace"));
    }
    if !file.text.contains("publish = false") {
        faults.push(file.fault(1, "may be published by mistake"));
    }
    faults
}

/// Sabotage is switched on by the one who runs the sabotage, never by a file of the tree that builds the program.
fn flags(file: &File) -> Vec<Fault> {
    let builds = file.is("Cargo.toml")
        || file.is("build.rs")
        || [".cargo/", ".ci/", "deploy/"].iter().any(|folder| file.path.starts_with(folder));
    if !builds {
        return Vec::new();
    }
    let sets = |line: &str| line.contains("sabotage") && !line.contains("check-cfg");
    file.lines().filter(|(_, line)| sets(line)).map(|(number, _)| file.fault(number, "sabotage in a build")).collect()
}

fn lock(tree: &Tree) -> Vec<Fault> {
    let Some(file) = tree.file("Cargo.lock") else {
        return vec![Fault { path: "Cargo.lock".into(), line: 1, text: "is not committed".into() }];
    };
    let foreign = |line: &str| line.starts_with("source = ") && !line.contains("github.com/rust-lang/crates.io-index");
    file.lines().filter(|(_, line)| foreign(line)).map(|(number, _)| file.fault(number, "foreign source")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::check as rule;

    const LOCK: (&str, &str) = ("Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n");

    #[test]
    fn a_crate_takes_the_lints_of_the_workspace() {
        let expected = "crates/x/Cargo.toml:1: does not take the lints of the workspace";
        tree::check(rule, &[("crates/x/Cargo.toml", "publish = false\n"), LOCK], &[expected]);
    }

    #[test]
    fn no_build_is_sabotaged() {
        let expected = ".cargo/config.toml:1: sabotage in a build";
        tree::check(rule, &[(".cargo/config.toml", "rustflags = ['--cfg=sabotage=\"SB01\"']\n"), LOCK], &[expected]);
    }

    #[test]
    fn packages_come_from_one_index() {
        let lock = ("Cargo.lock", "source = \"git+https://example.org/x\"\n");
        tree::check(rule, &[lock], &["Cargo.lock:1: foreign source"]);
    }
}
