//! What the node says of itself.

use std::time::SystemTime;

use onggi_node::{Hello, PROTOCOL, Time};

use super::confine;
use super::policy::Policy;

/// The longest text of one of the system's small files.
const TEXT_BYTES_MAX: usize = 256;

pub(super) fn hello(policy: &Policy, confined: bool) -> Hello {
    let name = rustix::system::uname();
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Hello {
        version: env!("CARGO_PKG_VERSION").into(),
        protocol: PROTOCOL,
        machine: small("/etc/machine-id"),
        boot: small("/proc/sys/kernel/random/boot_id"),
        kernel: name.release().to_bytes().to_vec(),
        arch: name.machine().to_bytes().to_vec(),
        uid: rustix::process::geteuid().as_raw(),
        reads_all: confine::reads_all(),
        roots: policy.roots(),
        dumps: policy.dumps(),
        takes_commands: !policy.is_closed(),
        clock: Time { seconds: since.as_secs().cast_signed(), nanoseconds: since.subsec_nanos() },
        confined,
    }
}

fn small(path: &str) -> Vec<u8> {
    let mut text = std::fs::read(path).unwrap_or_default();
    text.truncate(TEXT_BYTES_MAX);
    text.trim_ascii().to_vec()
}
