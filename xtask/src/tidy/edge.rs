//! Which crate may name which. A new edge is a decision, made here in the commit that adds it.

use super::tree::{Fault, File, Tree};

/// Crate, and the crates of this tree it may depend on.
const EDGES: &[(&str, &[&str])] = &[
    ("onggi-ssh", &[]),
    ("onggi-node", &[]),
    ("onggi-storage", &["onggi-ssh"]),
    ("onggi-source", &["onggi-node", "onggi-ssh"]),
    ("onggi-repo", &["onggi-storage"]),
    ("onggi-engine", &["onggi-repo", "onggi-source", "onggi-storage"]),
    ("onggi", &["onggi-engine", "onggi-repo", "onggi-source", "onggi-ssh", "onggi-storage"]),
    ("onggi-lab", &["onggi-engine", "onggi-node", "onggi-repo", "onggi-source", "onggi-ssh", "onggi-storage"]),
    ("onggi-fuzz", &["onggi-lab"]),
    ("xtask", &[]),
];

/// What the pure folder must not name: it is bytes in, bytes out.
const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "getrandom",
    "rand_chacha",
    "Clock",
];

/// Crate edges, and the purity of the formats.
pub fn check(tree: &Tree) -> Vec<Fault> {
    let manifests = tree.files().iter().filter(|file| file.is("/Cargo.toml"));
    manifests.flat_map(edges).chain(tree.matching("crates/onggi-repo/src/format/", ".rs").flat_map(purity)).collect()
}

fn edges(manifest: &File) -> Vec<Fault> {
    let Ok(value) = toml::from_str::<toml::Value>(&manifest.text) else {
        return vec![manifest.fault(1, "is not TOML")];
    };
    let name = value.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    let name = name.unwrap_or_default();
    let Some((_, allowed)) = EDGES.iter().find(|(from, _)| *from == name) else {
        return vec![manifest.fault(1, format!("crate `{name}` is not in the table of xtask/src/tidy/edge.rs"))];
    };
    let tables = ["dependencies", "build-dependencies"].iter().filter_map(|table| value.get(table)?.as_table());
    let named = tables.flat_map(|table| table.keys()).filter(|key| EDGES.iter().any(|(crate_, _)| crate_ == key));
    let new = named.filter(|key| !allowed.contains(&key.as_str()));
    new.map(|key| manifest.fault(line_of(manifest, key), format!("{name} must not depend on {key}"))).collect()
}

fn line_of(file: &File, start: &str) -> usize {
    file.lines().find(|(_, line)| line.starts_with(start)).map_or(1, |(number, _)| number)
}

fn purity(file: &File) -> Vec<Fault> {
    let code = file.lines().take_while(|(_, line)| *line != "#[cfg(test)]");
    let code = code.filter(|(_, line)| !line.trim_start().starts_with("//"));
    let found = code.filter_map(|(number, line)| IMPURE.iter().find(|word| line.contains(**word)).map(|w| (number, w)));
    found.map(|(number, word)| file.fault(number, format!("formats are pure and do not name `{word}`"))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::check as rule;

    #[test]
    fn a_source_that_names_the_repository_is_a_fault() {
        let manifest = "[package]\nname = \"onggi-source\"\n[dependencies]\nonggi-repo.workspace = true\n";
        let expected = "crates/onggi-source/Cargo.toml:4: onggi-source must not depend on onggi-repo";
        tree::check(rule, &[("crates/onggi-source/Cargo.toml", manifest)], &[expected]);
    }

    #[test]
    fn tests_may_name_more() {
        let manifest = "[package]\nname = \"onggi-source\"\n[dev-dependencies]\nonggi-lab.workspace = true\n";
        tree::check(rule, &[("crates/onggi-source/Cargo.toml", manifest)], &[]);
    }

    #[test]
    fn an_unknown_crate_is_a_fault() {
        let expected = "crates/x/Cargo.toml:1: crate `x` is not in the table of xtask/src/tidy/edge.rs";
        tree::check(rule, &[("crates/x/Cargo.toml", "[package]\nname = \"x\"\n")], &[expected]);
    }

    #[test]
    fn formats_name_no_clock() {
        let text = "//! Clock in a comment is fine.\nuse tokio::fs;\n#[cfg(test)]\nuse tokio::fs;\n";
        let expected = "crates/onggi-repo/src/format/x.rs:2: formats are pure and do not name `tokio`";
        tree::check(rule, &[("crates/onggi-repo/src/format/x.rs", text)], &[expected]);
    }
}
