//! The cluster as it answers now: every endpoint is asked how it is, at once and each on a connection of its own.

use futures::future::join_all;

use super::Etcd;
use super::access::Access;
use super::client::Named;
use super::model::ClusterId;
use super::select::{Found, Missing, Rules, Selection, select};
use crate::context::Context;
use crate::source::{Result, SourceError};

/// The newest minor version that snapshots were tested with.
const TESTED_MAX: (u64, u64) = (3, 5);
/// A file that is this many times larger than what it holds is worth a defragmentation.
const SIZE_FACTOR: u64 = 2;
/// Below it nobody minds, in bytes.
const SIZE_MIN: u64 = 256 << 20;
/// Endpoints that are asked at most; clusters have three to seven members.
const ENDPOINTS_MAX: usize = 64;

/// What was reached.
pub(super) struct Cluster {
    pub access: Access,
    pub id: ClusterId,
    pub selection: Selection,
    pub missing: Vec<Missing>,
    /// The members by name, where the cluster was asked for them.
    pub names: Vec<Named>,
}

impl Cluster {
    /// Asks all endpoints, and those that the members name if only a manifest did.
    pub async fn reach(etcd: &Etcd, cx: &Context, last: Option<(ClusterId, String)>) -> Result<Self> {
        cx.check()?;
        let access = Access::gather(etcd).await?;
        let (mut found, mut missing, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let mut asked = access.endpoints.clone();
        let mut wanted = asked.clone();
        while !wanted.is_empty() {
            wanted.truncate(ENDPOINTS_MAX);
            let answers = join_all(wanted.iter().map(|endpoint| ask(etcd, cx, &access, endpoint))).await;
            for (endpoint, answer) in wanted.drain(..).zip(answers) {
                match answer {
                    Ok((one, named)) => {
                        found.push(one);
                        names = if names.is_empty() { named } else { names };
                    }
                    Err(stopped @ SourceError::Stopped(_)) => return Err(stopped),
                    Err(error) => missing.push(Missing { endpoint, error }),
                }
            }
            if access.discovers {
                wanted = further(&names, &found, &asked);
                asked.extend(wanted.iter().cloned());
            }
        }
        let rules = Rules {
            lag_max: etcd.config.lag_max,
            allow_no_quorum: etcd.config.allow_no_quorum.unwrap_or(etcd.surroundings.attended),
            allow_corrupt: etcd.config.allow_corrupt,
            last,
        };
        let selection = select(found, &missing, &rules)?;
        let id = selection.members.first().map(|found| found.status.cluster_id).unwrap_or_default();
        Ok(Self { access, id, selection, missing, names })
    }

    /// The name of a member; its id where nobody says.
    pub fn name(&self, member: ClusterId) -> String {
        let named = self.names.iter().find(|named| named.id == member && !named.name.is_empty());
        named.map_or_else(|| member.to_string(), |named| named.name.clone())
    }

    /// What an operator should know of a cluster that can be captured.
    pub fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        for Found { endpoint, status } in &self.selection.members {
            if !is_tested(&status.version) {
                let version = &status.version;
                advice.push(format!("{endpoint} runs etcd {version}, newer than any that restores were tested with"));
            }
            if status.db_size >= SIZE_MIN && status.db_size > SIZE_FACTOR.saturating_mul(status.db_size_in_use) {
                let (size, used) = (status.db_size >> 20, status.db_size_in_use >> 20);
                advice
                    .push(format!("{endpoint} has a file of {size} MiB for {used} MiB: a defragmentation would help"));
            }
        }
        advice
    }
}

/// Whether a version is one that snapshots and restores were tested with.
pub(super) fn is_tested(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u64>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) <= TESTED_MAX,
        _ => false,
    }
}

async fn ask(etcd: &Etcd, cx: &Context, access: &Access, endpoint: &str) -> Result<(Found, Vec<Named>)> {
    let member = etcd.dial.dial(cx, access, endpoint).await?;
    let status = member.status(cx).await?;
    let names = member.members(cx).await?;
    Ok((Found { endpoint: endpoint.to_owned(), status }, names))
}

/// An address of each member that is neither reached nor asked.
fn further(names: &[Named], found: &[Found], asked: &[String]) -> Vec<String> {
    let is_new = |named: &&Named| !found.iter().any(|found| found.status.member_id == named.id);
    let address = |named: &Named| named.client_urls.first().map(|url| url.trim_end_matches('/').to_owned());
    names.iter().filter(is_new).filter_map(address).filter(|url| !asked.contains(url)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_beyond_the_tested_are_told() {
        for (version, expected) in
            [("3.4.23", true), ("3.5.16", true), ("3.5.0-rc.1", true), ("3.6.0", false), ("4.0", false), ("", false)]
        {
            assert_eq!(is_tested(version), expected, "{version}");
        }
    }
}
