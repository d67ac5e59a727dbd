//! Pure: what the `metadata` script of a job says, as YAML. Keys that are not known are passed over.

use serde::Deserialize;

/// What a job says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Metadata {
    /// Jobs that may be locked only after this one.
    #[serde(default)]
    pub(crate) backup_should_be_locked_before: Vec<JobName>,
    /// The same when data come back.
    #[serde(default)]
    pub(crate) restore_should_be_locked_before: Vec<JobName>,
    /// The job takes no part.
    #[serde(default)]
    pub(crate) skip_bbr_scripts: bool,
    /// Of an older contract.
    #[serde(default)]
    pub(crate) backup_name: Option<String>,
    /// Of an older contract.
    #[serde(default)]
    pub(crate) restore_name: Option<String>,
}

/// A job of a release, wherever it runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct JobName {
    pub(crate) job_name: String,
    pub(crate) release: String,
}

/// Reads it; the error says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Metadata, String> {
    if text.trim().is_empty() {
        return Ok(Metadata::default());
    }
    let metadata: Metadata = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut names = metadata.backup_should_be_locked_before.iter().chain(&metadata.restore_should_be_locked_before);
    match names.find(|name| name.job_name.is_empty() || name.release.is_empty()) {
        Some(_) => Err("an entry of should_be_locked_before lacks job_name or release".to_owned()),
        None => Ok(metadata),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_not_known_are_passed_over() {
        let text = "---\nbackup_should_be_locked_before:\n- job_name: api\n  release: capi\nfuture: [1, {a: b}]\n";
        let metadata = parse(text).unwrap();
        assert_eq!(metadata.backup_should_be_locked_before[0].job_name, "api");
        assert!(!metadata.skip_bbr_scripts);
        assert!(parse("skip_bbr_scripts: true").unwrap().skip_bbr_scripts);
        assert_eq!(parse("").unwrap(), Metadata::default());
    }

    #[test]
    fn what_is_no_mapping_or_lacks_half_a_name_is_refused() {
        for text in [
            "just words",
            "- a\n- b\n",
            "backup_should_be_locked_before: [{job_name: api}]",
            "restore_should_be_locked_before: [{release: capi}]",
            "backup_should_be_locked_before: [{job_name: '', release: capi}]",
            "a: [",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
