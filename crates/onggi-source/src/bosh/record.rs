//! Pure: the file `metadata` of an artifact directory. Keys that are not known are passed over.

use serde::{Deserialize, Deserializer, Serialize};

use super::artifact::Artifact;
use super::tar::Checksums;

/// What an artifact directory says that it holds. The order of lists means nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What belongs to one instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<OfInstance>,
    /// What belongs to all instances of a job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom_artifacts: Vec<Sums>,
    /// When it was made.
    #[serde(default)]
    pub backup_activity: Activity,
}

/// The artifacts of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfInstance {
    /// Its instance group.
    pub name: String,
    /// Its index: a text, also where it stands there as a number.
    #[serde(deserialize_with = "text")]
    pub index: String,
    /// One for each job.
    #[serde(default)]
    pub artifacts: Vec<Sums>,
}

/// One artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// The job, or the name of what belongs to several instances.
    pub name: String,
    /// SHA-256 of each file, by its name in the archive.
    #[serde(default)]
    pub checksums: Checksums,
}

/// For people; a program reads nothing from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// When it began.
    #[serde(default)]
    pub start_time: String,
    /// When it ended, well or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<String>,
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Index {
        Text(String),
        Number(u64),
    }
    Ok(match Index::deserialize(deserializer)? {
        Index::Text(text) => text,
        Index::Number(number) => number.to_string(),
    })
}

impl Record {
    /// Reads the file.
    pub fn parse(text: &str) -> Result<Self, serde_saphyr::Error> {
        serde_saphyr::from_str(text)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        serde_saphyr::to_string(self).expect("texts have a form in YAML")
    }

    /// Adds an artifact that is whole.
    pub(crate) fn add(&mut self, artifact: &Artifact, checksums: Checksums) {
        match artifact {
            Artifact::Custom(name) => self.custom_artifacts.push(Sums { name: name.clone(), checksums }),
            Artifact::Instance { group, index, job } => {
                let sums = Sums { name: job.clone(), checksums };
                match self.instances.iter_mut().find(|other| other.name == *group && other.index == *index) {
                    Some(instance) => instance.artifacts.push(sums),
                    None => self.instances.push(OfInstance {
                        name: group.clone(),
                        index: index.clone(),
                        artifacts: vec![sums],
                    }),
                }
            }
        }
    }

    /// The checksums of an artifact, if it is recorded.
    pub fn checksums(&self, artifact: &Artifact) -> Option<&Checksums> {
        let named = |list: &'_ [Sums], name: &str| list.iter().position(|sums| sums.name == name);
        match artifact {
            Artifact::Custom(name) => {
                named(&self.custom_artifacts, name).map(|at| &self.custom_artifacts[at].checksums)
            }
            Artifact::Instance { group, index, job } => {
                let fits = |instance: &&OfInstance| instance.name == *group && instance.index == *index;
                let instance = self.instances.iter().find(fits)?;
                named(&instance.artifacts, job).map(|at| &instance.artifacts[at].checksums)
            }
        }
    }

    /// All artifacts, those of several instances first.
    pub fn artifacts(&self) -> Vec<(Artifact, &Checksums)> {
        let custom = self.custom_artifacts.iter().map(|sums| (Artifact::Custom(sums.name.clone()), &sums.checksums));
        let own = self.instances.iter().flat_map(|instance| {
            instance.artifacts.iter().map(|sums| {
                let (group, index) = (instance.name.clone(), instance.index.clone());
                (Artifact::Instance { group, index, job: sums.name.clone() }, &sums.checksums)
            })
        });
        custom.chain(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_it_is_read_elsewhere() {
        let mut record = Record::default();
        "2026/11/20 11:11:31 UTC".clone_into(&mut record.backup_activity.start_time);
        let own = |job: &str| Artifact::Instance { group: "db".into(), index: "0".into(), job: job.into() };
        record.add(&own("postgres"), [("./dump.sql".to_owned(), "ab".repeat(32))].into());
        record.add(&own("empty"), Checksums::new());
        record.add(&Artifact::Custom("all".into()), [("./x y".to_owned(), "12".repeat(32))].into());
        record.backup_activity.finish_time = Some("2026/11/20 11:13:02 UTC".into());
        let text = record.text();
        let expected = format!(
            "instances:\n- name: db\n  index: \"0\"\n  artifacts:\n  - name: postgres\n    checksums:\n      \
             ./dump.sql: {}\n  - name: empty\n    checksums: {{}}\ncustom_artifacts:\n- name: all\n  checksums:\n    \
             ./x y: \"{}\"\nbackup_activity:\n  start_time: 2026/11/20 11:11:31 UTC\n  \
             finish_time: 2026/11/20 11:13:02 UTC\n",
            "ab".repeat(32),
            "12".repeat(32)
        );
        assert_eq!(text, expected);
        assert_eq!(Record::parse(&text).unwrap(), record);
    }

    #[test]
    fn a_number_is_an_index_and_unknown_keys_do_no_harm() {
        let text =
            "instances:\n- name: db\n  index: 0\n  artifacts:\n  - {name: a, size: 7}\nonggi: {status: complete}\n";
        let record = Record::parse(text).unwrap();
        assert_eq!(record.instances[0].index, "0");
        let artifact = Artifact::Instance { group: "db".into(), index: "0".into(), job: "a".into() };
        assert_eq!(record.checksums(&artifact), Some(&Checksums::new()));
        assert_eq!(record.checksums(&Artifact::Custom("a".into())), None);
        assert!(Record::parse("- a").is_err());
    }
}
