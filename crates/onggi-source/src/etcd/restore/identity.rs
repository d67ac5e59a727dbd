//! Who the members of a restored cluster are. Ids follow from addresses and the token alone, so that members restored on
//! different machines agree, and a new token makes ids that no member of the old cluster has.

use serde::Serialize;
use sha1::{Digest as _, Sha1};

/// One member to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberIdentity {
    /// Its id.
    pub id: u64,
    /// Its name in `--initial-cluster`.
    pub name: String,
    /// Where its peers reach it, sorted.
    pub peer_urls: Vec<String>,
}

/// All members to be, by ascending id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterIdentity {
    /// The cluster's id.
    pub id: u64,
    /// Its members.
    pub members: Vec<MemberIdentity>,
}

/// Why there is no such cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCluster {
    /// The text names nobody.
    #[error("no member is named")]
    Empty,
    /// A part is not `name=url`.
    #[error("{0:?} is not NAME=URL")]
    Part(String),
    /// An address is none.
    #[error("{0:?} is not an address such as https://10.0.0.1:2380")]
    Address(String),
    /// Two members would be the same.
    #[error("members {0} and {1} have the same addresses")]
    Same(String, String),
}

/// What the data directory and the table of members say of a member.
#[derive(Serialize)]
struct Described<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    name: &'a str,
}

impl MemberIdentity {
    fn new(name: &str, mut peer_urls: Vec<String>, token: &str) -> Self {
        peer_urls.sort();
        let text = peer_urls.concat() + token;
        Self { id: first_8(&Sha1::digest(text.as_bytes())), name: name.to_owned(), peer_urls }
    }

    /// The JSON by which etcd describes it.
    pub fn json(&self) -> Vec<u8> {
        let described = Described { id: self.id, peer_urls: &self.peer_urls, name: &self.name };
        serde_json::to_vec(&described).expect("plain data")
    }

    /// The key by which etcd names it: hexadecimal digits without leading zeros.
    pub fn key(&self) -> String {
        format!("{:x}", self.id)
    }
}

impl ClusterIdentity {
    /// Reads `--initial-cluster`: `m1=https://10.0.0.1:2380,m2=…`; a name that is given twice has several addresses.
    pub fn parse(initial_cluster: &str, token: &str) -> Result<Self, BadCluster> {
        let mut named: Vec<(&str, Vec<String>)> = Vec::new();
        for part in initial_cluster.split(',').filter(|part| !part.is_empty()) {
            let (name, url) = part.split_once('=').ok_or_else(|| BadCluster::Part(part.to_owned()))?;
            if name.is_empty() {
                return Err(BadCluster::Part(part.to_owned()));
            }
            check_address(url)?;
            match named.iter_mut().find(|(known, _)| *known == name) {
                Some((_, urls)) => urls.push(url.to_owned()),
                None => named.push((name, vec![url.to_owned()])),
            }
        }
        let members = named.into_iter().map(|(name, urls)| MemberIdentity::new(name, urls, token));
        Self::of(members.collect())
    }

    fn of(mut members: Vec<MemberIdentity>) -> Result<Self, BadCluster> {
        if members.is_empty() {
            return Err(BadCluster::Empty);
        }
        members.sort_by_key(|member| member.id);
        if let Some([one, other]) = members.array_windows().find(|[one, other]| one.id == other.id) {
            return Err(BadCluster::Same(one.name.clone(), other.name.clone()));
        }
        let ids: Vec<u8> = members.iter().flat_map(|member| member.id.to_be_bytes()).collect();
        Ok(Self { id: first_8(&Sha1::digest(&ids)), members })
    }

    /// The member of this name.
    pub fn member(&self, name: &str) -> Option<&MemberIdentity> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Ids, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.members.iter().map(|member| member.id)
    }
}

/// etcd accepts a scheme and a host with a port, no path.
fn check_address(url: &str) -> Result<(), BadCluster> {
    let rest = ["http://", "https://", "unix://", "unixs://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let is_good = rest.is_some_and(|rest| {
        let port = rest.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        port.is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
    });
    if is_good { Ok(()) } else { Err(BadCluster::Address(url.to_owned())) }
}

fn first_8(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}
