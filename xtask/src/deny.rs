//! `cargo xtask deny`: licenses, banned and doubled crates, sources and the crate budget, judged without network.
//!
//! The rules are deny.toml, which cargo-deny reads too. Advisories need a database; without one this says so, loudly.

mod license;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use crate::workspace;

/// The most crates the shipped program may pull (dependencies of the default build, for Linux on x86-64).
const CRATES_MAX: usize = 430;
const INDEX: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Judges what the tree pulls in.
pub fn run() -> Result<()> {
    let rules = Rules::read()?;
    let packages = packages(&rules.targets)?;
    let mut faults = rules.judge(&packages);
    let shipped = shipped()?;
    if shipped > CRATES_MAX {
        faults.push(format!("the program pulls {shipped} crates, more than {CRATES_MAX}"));
    }
    if !faults.is_empty() {
        bail!("{} faults\n  {}", faults.len(), faults.join("\n  "));
    }
    println!("{} crates in the lock file, {shipped} of {CRATES_MAX} in the program: accepted", packages.len());
    advisories()
}

/// One crate from outside.
struct Package {
    name: String,
    version: String,
    license: String,
    source: String,
}

fn packages(targets: &[String]) -> Result<Vec<Package>> {
    let metadata = workspace::metadata(targets)?;
    let all = metadata["packages"].as_array().context("cargo names packages")?;
    let text = |package: &Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    Ok(all
        .iter()
        .filter(|package| package["source"].is_string())
        .map(|package| Package {
            name: text(package, "name"),
            version: text(package, "version"),
            license: text(package, "license"),
            source: text(package, "source"),
        })
        .collect())
}

/// How many crates the default build of the program compiles.
fn shipped() -> Result<usize> {
    let output = workspace::cargo("tree")
        .args(["--package", "onggi", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .output()?;
    let listing = String::from_utf8(output.stdout).context("cargo tree answers in UTF-8")?;
    let names: BTreeSet<Vec<&str>> = listing.lines().map(|line| line.split(' ').take(2).collect()).collect();
    Ok(names.len())
}

/// A crate, of any version or of some.
struct Spec {
    name: String,
    version: Option<String>,
    reason: String,
}

impl Spec {
    fn read(value: &toml::Value) -> Result<Self> {
        let text = value["crate"].as_str().context("a rule names a crate")?;
        let (name, version) = text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
        let reason = value.get("reason").and_then(toml::Value::as_str).context("a rule has a reason")?;
        Ok(Self { name: name.to_owned(), version: version.map(str::to_owned), reason: reason.to_owned() })
    }

    /// `name@<1.2.3` means older ones, `name@1.2` those that begin so.
    fn covers(&self, package: &Package) -> bool {
        self.name == package.name
            && match self.version.as_deref() {
                None => true,
                Some(bound) => match bound.strip_prefix('<') {
                    Some(bound) => numbers(&package.version) < numbers(bound),
                    None => numbers(&package.version).starts_with(&numbers(bound)),
                },
            }
    }
}

fn numbers(version: &str) -> Vec<u64> {
    let release = version.split(['-', '+']).next().unwrap_or_default();
    release.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

struct Rules {
    targets: Vec<String>,
    licenses: Vec<String>,
    banned: Vec<Spec>,
    doubled: Vec<Spec>,
}

impl Rules {
    fn read() -> Result<Self> {
        let path = workspace::root().join("deny.toml");
        Self::parse(&std::fs::read_to_string(path).context("read deny.toml")?)
    }

    fn parse(text: &str) -> Result<Self> {
        let value: toml::Value = toml::from_str(text).context("parse deny.toml")?;
        let list = |table: &str, key: &str| value[table][key].as_array().cloned().unwrap_or_default();
        let specs = |key| list("bans", key).iter().map(Spec::read).collect::<Result<Vec<_>>>();
        let names = |table: &str, key: &str| {
            let names = list(table, key);
            names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        Ok(Self {
            targets: names("graph", "targets"),
            licenses: names("licenses", "allow"),
            banned: specs("deny")?,
            doubled: specs("skip")?,
        })
    }

    fn judge(&self, packages: &[Package]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut versions: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
        for package in packages {
            let Package { name, version, license, source } = package;
            if source != INDEX {
                faults.push(format!("{name} {version} comes from {source}"));
            }
            if !license::accepted(license, &self.licenses) {
                faults.push(format!("{name} {version} has the license `{license}`"));
            }
            for rule in self.banned.iter().filter(|rule| rule.covers(package)) {
                faults.push(format!("{name} {version} is banned: {}", rule.reason));
            }
            if !self.doubled.iter().any(|rule| rule.covers(package)) {
                versions.entry(name).or_default().push(package);
            }
        }
        for (name, several) in versions.iter().filter(|(_, several)| several.len() > 1) {
            let list: Vec<_> = several.iter().map(|package| package.version.as_str()).collect();
            faults.push(format!("{name} is there more than once: {}", list.join(", ")));
        }
        for rule in self.doubled.iter().filter(|rule| !packages.iter().any(|package| rule.covers(package))) {
            faults.push(format!("deny.toml skips {}, which is gone ({})", rule.name, rule.reason));
        }
        faults
    }
}

/// Advisories are judged by cargo-deny over a copy of the database; without either, nothing is claimed.
fn advisories() -> Result<()> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let database = home.is_some_and(|home| home.join("advisory-dbs").is_dir() || home.join("advisory-db").is_dir());
    if workspace::installed("cargo-deny") && database {
        return workspace::run(Command::new("cargo-deny").current_dir(workspace::root()).args([
            "check",
            "--disable-fetch",
            "advisories",
        ]));
    }
    eprintln!("NOT CHECKED: advisories. This needs cargo-deny and a copy of rustsec/advisory-db on this machine.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        [graph]
        targets = []
        [licenses]
        allow = ["MIT", "ISC"]
        [bans]
        deny = [{ crate = "h2@<0.4.16", reason = "hangs" }, { crate = "atty", reason = "unmaintained" }]
        skip = [{ crate = "syn@2", reason = "half moved" }]
    "#;

    #[test]
    fn a_clean_list_has_no_faults() {
        check("syn 2.0.1 MIT; syn 3.0.0 MIT; h2 0.4.16 MIT", "");
    }

    #[test]
    fn a_second_version_is_a_fault_unless_it_is_skipped() {
        check("syn 2.0.1 MIT; log 0.4.1 MIT; log 0.5.0 ISC", "log is there more than once: 0.4.1, 0.5.0");
    }

    #[test]
    fn bans_may_name_a_bound() {
        check(
            "syn 2.0.1 MIT; h2 0.4.9 MIT; atty 1.0.0 MIT",
            "h2 0.4.9 is banned: hangs|atty 1.0.0 is banned: unmaintained",
        );
    }

    #[test]
    fn a_skip_that_nothing_needs_is_a_fault() {
        check("h2 0.5.0 MIT", "deny.toml skips syn, which is gone (half moved)");
    }

    #[test]
    fn a_foreign_license_is_a_fault() {
        check("syn 2.0.1 GPL-3.0", "syn 2.0.1 has the license `GPL-3.0`");
    }

    #[track_caller]
    fn check(packages: &str, expected: &str) {
        let packages: Vec<_> = packages
            .split("; ")
            .map(|line| {
                let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
                Package {
                    name: words[0].clone(),
                    version: words[1].clone(),
                    license: words[2].clone(),
                    source: INDEX.into(),
                }
            })
            .collect();
        assert_eq!(Rules::parse(RULES).unwrap().judge(&packages).join("|"), expected);
    }
}
