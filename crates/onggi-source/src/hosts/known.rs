//! Which keys prove that a host is the right one: those that the inventory names, those that an authority signed, those
//! that were approved here.

use std::path::PathBuf;

use super::config::{Connect, Trust};
use super::inventory::Host;
use crate::carrier::ssh::{Call, write_known};
use crate::config::Surroundings;
use crate::source::{Result, SourceError};

/// How a host is called. What the configuration says of keys becomes a file that `ssh` reads.
pub(super) fn call(host: &Host, connect: &Connect, surroundings: &Surroundings) -> Result<Call> {
    let lines: Vec<String> = lines(host, connect);
    let own = surroundings.host_keys().known();
    let folder = own.with_file_name("known");
    let file = folder.join(format!("{}-{}", surroundings.source, host.name));
    write_known(&file, &lines).map_err(|error| SourceError::Refused(format!("write {}: {error}", file.display())))?;
    // a key must be a file, which may also be written as the reference that secrets elsewhere are
    let plain = |path: &PathBuf| path.to_str().and_then(|text| text.strip_prefix("file:")).map(PathBuf::from);
    let absolute = |path: &PathBuf| surroundings.working_directory.join(plain(path).unwrap_or_else(|| path.clone()));
    let further: Vec<PathBuf> = connect.known_hosts.iter().map(absolute).collect();
    Ok(Call {
        address: host.address.clone(),
        port: host.port,
        user: host.user.clone(),
        key: connect.key.as_ref().map(absolute),
        certificate: connect.certificate.as_ref().map(absolute),
        jump: host.jump.clone(),
        names: names(host),
        config: connect.config.as_ref().map(absolute),
        known: match connect.trust {
            Trust::Approve => [own.clone(), file].into_iter().chain(further.clone()).collect(),
            Trust::Pinned | Trust::Ca => vec![file],
        },
        known_of_jump: [own].into_iter().chain(further).collect(),
        // certificates and files of others know addresses, an approved key also the name in the inventory
        alias: (connect.host_ca.is_empty() && connect.known_hosts.is_empty()).then(|| host.name.clone()),
        follows: connect.trust == Trust::Approve,
        system: connect.trust == Trust::Approve,
        seconds: connect.time_limit.0.as_secs().max(1),
    })
}

fn lines(host: &Host, connect: &Connect) -> Vec<String> {
    let pinned = host.host_key.as_ref().filter(|_| connect.trust != Trust::Ca);
    let pinned = pinned.map(|key| format!("{} {}", names(host), one_line(key)));
    let authorities = connect.host_ca.iter().filter(|_| connect.trust != Trust::Pinned);
    pinned.into_iter().chain(authorities.map(|key| format!("@cert-authority * {}", one_line(key)))).collect()
}

/// The names under which a host's key is known.
pub(super) fn names(host: &Host) -> String {
    let address = match host.port {
        Some(port) if port != 22 => format!("[{}]:{port}", host.address),
        _ => host.address.clone(),
    };
    if address == host.name { address } else { format!("{},{address}", host.name) }
}

/// Type and data, without what could begin another line.
fn one_line(key: &str) -> String {
    key.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}
