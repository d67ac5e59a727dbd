//! Kinds of sources and sections of the file that this build knows but does not carry out. It says so at each, and
//! still checks the names that they use, so that the file stays right for the build that does.

use super::{
    fault::{Faults, Reach, known_here},
    tree::{Key, Node, Value, join},
};
use onggi_source::{KINDS, KINDS_WITHOUT_ADAPTER};

/// Sections that are checked for shape and names, and carried out by no part of this build.
const WITHOUT_EFFECT: [(&str, &str); 7] = [
    ("policies", "schedule"),
    ("copies", "copy"),
    ("verify", "scheduled verify"),
    ("drills", "drill"),
    ("notify", "notification"),
    ("rules", "notification"),
    ("server", "daemon"),
];

/// Takes the sources of known kinds without an adapter out of the tree; answers their names and kinds.
pub(super) fn take_sources(tree: &mut Node, faults: &mut Faults) -> Vec<(String, String)> {
    let Value::Map(sections) = &mut tree.value else { return Vec::new() };
    let Some((_, sources)) = sections.iter_mut().find(|(key, _)| key.text == "sources") else { return Vec::new() };
    let Value::Map(entries) = &mut sources.value else { return Vec::new() };
    let mut taken = Vec::new();
    entries.retain(|(name, source)| {
        let Some(kind) = source.get("kind") else { return true };
        let Some(word) = kind.text().filter(|word| KINDS_WITHOUT_ADAPTER.contains(word)) else { return true };
        let remedy = Some(format!("this source does not run here; kinds with an adapter: {}", KINDS.join(", ")));
        let text = format!("this build has no adapter for kind {word}");
        faults.add(&kind.place, join(&join("sources", &name.text), "kind"), text, remedy, Reach::Source);
        taken.push((name.text.clone(), word.to_owned()));
        false
    });
    taken
}

/// Checks the names in sections without effect, and says that they have none. `sources` are all names of sources.
pub(super) fn check(tree: &Node, sources: &[String], faults: &mut Faults) {
    for (section, what) in WITHOUT_EFFECT {
        let Some((key, node)) = tree.entries().iter().find(|(key, _)| key.text == section) else { continue };
        let text = format!("this build has no {what}: the section is checked and has no effect");
        faults.add(&key.place, section, text, None, Reach::Notice);
        for (path, entry) in children(node, section) {
            check_names(tree, entry, &path, sources, faults);
        }
    }
}

fn children<'a>(node: &'a Node, section: &str) -> Vec<(String, &'a Node)> {
    let of_map = node.entries().iter().map(|(Key { text, .. }, node)| (join(section, text), node));
    let of_list = node.items().iter().enumerate().map(|(index, node)| (format!("{section}[{index}]"), node));
    of_map.chain(of_list).collect()
}

/// `sources: [a]`, `source: a`, `repository: a`, `from: a`, `to: a` name what must exist.
fn check_names(tree: &Node, entry: &Node, path: &str, sources: &[String], faults: &mut Faults) {
    let repositories: Vec<String> =
        tree.get("repositories").map_or(&[][..], Node::entries).iter().map(|(key, _)| key.text.clone()).collect();
    let channels: Vec<String> =
        tree.get("notify").map_or(&[][..], Node::entries).iter().map(|(key, _)| key.text.clone()).collect();
    let is_of = |section: &str| path.starts_with(section);
    let known_by = |key: &str| match key {
        "sources" | "source" if is_of("policies") || is_of("drills") => Some((sources, "sources")),
        "repository" if is_of("policies") || is_of("verify") => Some((&repositories[..], "repositories")),
        "from" | "to" if is_of("copies") => Some((&repositories[..], "repositories")),
        "to" if is_of("rules") => Some((&channels[..], "notify")),
        _ => None,
    };
    for (key, node) in entry.entries() {
        let Some((known, section)) = known_by(&key.text) else { continue };
        let named = if node.text().is_some() { std::slice::from_ref(node) } else { node.items() };
        for name in named {
            let Some(text) = name.text() else { continue };
            if !known.iter().any(|one| one == text) {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let remedy =
                    if known.is_empty() { format!("add it under {section}") } else { known_here(text, &known) };
                faults.wrong(
                    &name.place,
                    join(path, &key.text),
                    format!("no entry of {section} is named {text:?}"),
                    Some(remedy),
                );
            }
        }
    }
}
