//! What can be said of a restore into a BOSH platform.

use onggi_source::bosh::native::RestoreOptions;

/// Flags of BOSH.
#[derive(Debug, Default, clap::Args)]
#[group(id = "bosh-flags")]
#[command(next_help_heading = "With --to source, of BOSH")]
pub struct Flags {
    /// Restore only this job; all are locked and unlocked all the same.
    #[arg(long, value_name = "JOB", requires = "to")]
    pub job: Vec<String>,
    /// What is stored of one instance goes to another one: `db/0=db/1`.
    #[arg(long, value_name = "FROM=TO", requires = "to", value_parser = pair)]
    pub instance: Vec<(String, String)>,
}

impl Flags {
    /// As the adapter takes them.
    pub fn options(&self) -> RestoreOptions {
        let instances = self.instance.iter().map(|(from, to)| (to.clone(), from.clone())).collect();
        RestoreOptions { jobs: self.job.clone(), instances }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let is_instance =
        |text: &str| text.split_once('/').is_some_and(|(group, index)| !group.is_empty() && !index.is_empty());
    match text.split_once('=') {
        Some((from, to)) if is_instance(from) && is_instance(to) => Ok((from.to_owned(), to.to_owned())),
        _ => Err("write GROUP/INDEX=GROUP/INDEX".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_instances_are_a_pair_and_nothing_else_is() {
        assert_eq!(pair("db/0=data base/1"), Ok(("db/0".into(), "data base/1".into())));
        for text in ["", "db/0", "db=db/1", "db/0=", "/0=db/1"] {
            assert!(pair(text).is_err(), "{text}");
        }
    }
}
