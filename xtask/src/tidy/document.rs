//! Documents: links lead somewhere, the map of the code is complete and short, pages are reachable.

use super::tree::{Fault, File, Tree};

/// The map must be read in one sitting.
const ARCHITECTURE_LINES_MAX: usize = 300;

/// Links of all Markdown files, and the rules for the map.
pub fn check(tree: &Tree) -> Vec<Fault> {
    let documents: Vec<&File> = tree.files().iter().filter(|file| file.is(".md")).collect();
    let mut faults: Vec<Fault> = documents.iter().flat_map(|file| links(tree, file)).collect();
    faults.extend(tree.file("ARCHITECTURE.md").iter().flat_map(|map| map_faults(tree, map)));
    faults.extend(documents.iter().filter_map(|file| unreachable(&documents, file)));
    faults
}

fn links(tree: &Tree, file: &File) -> Vec<Fault> {
    targets(file).into_iter().filter_map(|(number, target)| dead(tree, file, number, &target)).collect()
}

/// The targets of relative links outside code.
fn targets(file: &File) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (number, line) in file.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for piece in line.split("](").skip(1) {
            let target = piece.split(')').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

fn dead(tree: &Tree, file: &File, number: usize, target: &str) -> Option<Fault> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let path = if path.is_empty() { file.path.clone() } else { resolve(&file.path, path) };
    if !path.is_empty() && !tree.has(&path) {
        return Some(file.fault(number, format!("links to {target}, which is not there")));
    }
    let anchor = anchor?;
    let headings = tree.file(&path)?.text.lines().filter(|line| line.starts_with('#')).map(slug);
    let known: Vec<String> = headings.collect();
    (!known.iter().any(|known| known == anchor)).then(|| file.fault(number, format!("no heading for {target}")))
}

/// A relative path as seen from the top.
fn resolve(from: &str, path: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchor that readers of Markdown give to a heading.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn map_faults(tree: &Tree, map: &File) -> Vec<Fault> {
    let length = map.text.lines().count();
    let mut faults = Vec::new();
    if length > ARCHITECTURE_LINES_MAX {
        faults.push(map.fault(length, format!("has over {ARCHITECTURE_LINES_MAX} lines")));
    }
    let manifests = tree.matching("crates/", "/Cargo.toml");
    let crates = manifests.filter_map(|file| file.path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml"));
    for name in crates.filter(|name| !map.text.contains(&format!("`{name}`"))) {
        faults.push(map.fault(1, format!("has no word on `{name}`")));
    }
    faults
}

/// A page below docs/ that no other page links to.
fn unreachable(documents: &[&File], page: &File) -> Option<Fault> {
    if !page.path.starts_with("docs/") {
        return None;
    }
    let linked = documents.iter().filter(|from| from.path != page.path).any(|from| {
        targets(from).iter().any(|(_, target)| {
            let path = target.split('#').next().unwrap_or_default();
            let path = resolve(&from.path, path);
            path == page.path || format!("{path}/README.md") == page.path
        })
    });
    (!linked).then(|| page.fault(1, "is linked from nowhere"))
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::check as rule;

    #[test]
    fn links_lead_to_files_folders_and_headings() {
        let page = "[b](b.md) [h](b.md#two-words-too) [d](docs) [x](https://x.y/z)\n```\n[no](link)\n```\n";
        tree::check(rule, &[("a.md", page), ("b.md", "## Two words, too\n"), ("docs/x.txt", "")], &[]);
    }

    #[test]
    fn a_dead_link_is_a_fault() {
        tree::check(rule, &[("g/a.md", "\n[b](../b.md)\n")], &["g/a.md:2: links to ../b.md, which is not there"]);
        tree::check(rule, &[("a.md", "# A\n[b](#b)\n")], &["a.md:2: no heading for #b"]);
    }

    #[test]
    fn the_map_names_every_crate() {
        let files = [("ARCHITECTURE.md", "`a`\n"), ("crates/a/Cargo.toml", ""), ("crates/b/Cargo.toml", "")];
        tree::check(rule, &files, &["ARCHITECTURE.md:1: has no word on `b`"]);
    }

    #[test]
    fn a_page_that_nobody_links_to_is_a_fault() {
        tree::check(rule, &[("docs/a.md", "# A\n")], &["docs/a.md:1: is linked from nowhere"]);
        tree::check(rule, &[("README.md", "[docs](docs/a.md)\n"), ("docs/a.md", "# A\n")], &[]);
    }
}
