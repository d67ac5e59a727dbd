//! What can be said of a restore into a cloud.

use clap::ValueEnum;
use onggi_source::openstack::{Boot, Mode, RestoreOptions};

/// Flags of OpenStack.
#[derive(Debug, Default, clap::Args)]
#[group(id = "openstack-flags")]
#[command(next_help_heading = "With --to source, of OpenStack")]
pub struct Flags {
    /// What is made [default: new].
    #[arg(long, value_name = "WHAT", requires = "to")]
    pub mode: Option<Made>,
    /// Name of the new server [default: the old one and `-restored`].
    #[arg(long, value_name = "NAME", requires = "to")]
    pub server_name: Option<String>,
    /// Restore into this project, by name or id.
    #[arg(long, value_name = "PROJECT", requires = "to")]
    pub project: Option<String>,
    /// Another flavor, by name or id.
    #[arg(long, value_name = "FLAVOR", requires = "to")]
    pub flavor: Option<String>,
    /// The network of all ports, by name or id; `none` for no port.
    #[arg(long, value_name = "NETWORK", requires = "to")]
    pub network: Option<String>,
    /// What the root disk becomes [default: what it was].
    #[arg(long, value_name = "WHAT", requires = "to")]
    pub boot: Option<Root>,
    /// Send disks whole, not as qcow2: for clouds on Ceph.
    #[arg(long, requires = "to")]
    pub raw: bool,
    /// With --mode replace: remove the old server first.
    #[arg(long, requires = "to")]
    pub delete_old: bool,
}

/// What a restore makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Made {
    /// A server beside the old one.
    New,
    /// The old server gets its disk back; it keeps id and addresses.
    InPlace,
    /// A server with the addresses of the old one.
    Replace,
    /// Images only.
    Image,
    /// Volumes only.
    Volume,
}

/// What a root disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Root {
    /// A disk of the hypervisor.
    Image,
    /// A volume.
    Volume,
}

impl Flags {
    /// As the adapter takes them.
    pub fn options(&self) -> RestoreOptions {
        RestoreOptions {
            mode: self.mode.map_or(Mode::New, |made| match made {
                Made::New => Mode::New,
                Made::InPlace => Mode::InPlace,
                Made::Replace => Mode::Replace,
                Made::Image => Mode::Image,
                Made::Volume => Mode::Volume,
            }),
            name: self.server_name.clone(),
            project: self.project.clone(),
            flavor: self.flavor.clone(),
            network: self.network.clone(),
            boot: self.boot.map(|root| if root == Root::Volume { Boot::Volume } else { Boot::Image }),
            raw: self.raw,
            delete_old: self.delete_old,
        }
    }
}
