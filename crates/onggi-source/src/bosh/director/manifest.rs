//! Pure: what a deployment's manifest says of jobs, in both of its forms; all else in it is passed over.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{DirectorError, Result};
use crate::bosh::Releases;

/// Where jobs come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jobs {
    /// By group and job: the release, and whether one backup is restored on all instances.
    known: BTreeMap<(String, String), (String, bool)>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Written {
    instance_groups: Vec<Group>,
    /// The name of groups in the old form.
    jobs: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    #[serde(default)]
    jobs: Vec<Job>,
    /// The name of jobs in the old form.
    #[serde(default)]
    templates: Vec<Job>,
    #[serde(default)]
    properties: Option<Properties>,
}

#[derive(Deserialize)]
struct Job {
    name: String,
    #[serde(default)]
    release: String,
    #[serde(default)]
    properties: Option<Properties>,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(default)]
    bbr: Option<Bbr>,
}

#[derive(Deserialize)]
struct Bbr {
    #[serde(default)]
    backup_one_restore_all: bool,
}

impl Jobs {
    /// Reads a manifest.
    pub fn parse(manifest: &str) -> Result<Self> {
        // Not a word of it: it is full of secrets.
        let bad = |_| DirectorError::Malformed("the manifest is none".to_owned());
        let written: Option<Written> = serde_saphyr::from_str(manifest).map_err(bad)?;
        let Written { instance_groups, jobs } = written.unwrap_or_default();
        let mut known = BTreeMap::new();
        for group in instance_groups.into_iter().chain(jobs) {
            let of_group = is_shared(group.properties.as_ref());
            for job in group.jobs.into_iter().chain(group.templates) {
                let shared = of_group || is_shared(job.properties.as_ref());
                known.insert((group.name.clone(), job.name), (job.release, shared));
            }
        }
        Ok(Self { known })
    }

    fn get(&self, group: &str, job: &str) -> Option<&(String, bool)> {
        self.known.get(&(group.to_owned(), job.to_owned()))
    }
}

fn is_shared(properties: Option<&Properties>) -> bool {
    properties.and_then(|properties| properties.bbr.as_ref()).is_some_and(|bbr| bbr.backup_one_restore_all)
}

impl Releases for Jobs {
    fn release(&self, group: &str, job: &str) -> Option<String> {
        self.get(group, job).map(|(release, _)| release.clone())
    }

    fn is_shared(&self, group: &str, job: &str) -> bool {
        self.get(group, job).is_some_and(|(_, shared)| *shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let new = "name: cf\ninstance_groups:\n- name: db\n  jobs:\n  - {name: redis, release: r, properties: {bbr: \
                   {backup_one_restore_all: true}, port: 1}}\n  - {name: other, release: s}\n";
        let jobs = Jobs::parse(new).unwrap();
        assert_eq!((jobs.release("db", "redis").as_deref(), jobs.is_shared("db", "redis")), (Some("r"), true));
        assert_eq!((jobs.release("db", "other").as_deref(), jobs.is_shared("db", "other")), (Some("s"), false));
        assert_eq!(jobs.release("x", "redis"), None);
        let old = "jobs:\n- name: db\n  templates: [{name: redis, release: r}]\n  properties: {bbr: {backup_one_restore_all: true}}\n";
        assert!(Jobs::parse(old).unwrap().is_shared("db", "redis"));
        assert_eq!(Jobs::parse("").unwrap(), Jobs::default());
    }

    #[test]
    fn what_is_none_is_not_repeated() {
        let error = Jobs::parse("password: [hunter2").unwrap_err().to_string();
        assert!(!error.contains("hunter2"));
    }
}
