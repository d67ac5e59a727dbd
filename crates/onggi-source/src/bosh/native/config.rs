//! The keys of kind `bosh`.

use std::path::PathBuf;
use std::time::Duration;

use onggi_node::pattern::{Asked, Case, Pattern, Patterns};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{ConfigFault, Outline};
use crate::path::TreePath;
use crate::quantity::Period;
use crate::secret::{SecretKey, SecretReference};

/// How long jobs may be held unless the configuration says otherwise.
const LOCK_TIME_MAX: Duration = Duration::from_mins(30);
/// Deployments at once.
const DEPLOYMENTS_DEFAULT: u16 = 2;
/// How long undoing may take once a run was cancelled.
const CANCEL_GRACE: Duration = Duration::from_mins(2);
/// How long a dead-man waits for a sign of life, and at least.
const DEADMAN: Duration = Duration::from_mins(3);
const DEADMAN_MIN: Duration = Duration::from_secs(4);
/// How long artifacts of a drain that broke stay on the instances.
const KEEP: Duration = Duration::from_hours(6);
/// Artifacts at once, as the contract of backup scripts has it.
pub(super) const ARTIFACTS_DEFAULT: u16 = 10;

/// A BOSH Director, or what it deploys, backed up by the scripts of its jobs.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BoshConfig {
    /// Whether it is the Director itself or its deployments.
    pub mode: Mode,
    /// How the Director's machine is reached; with `mode: director`.
    #[serde(default)]
    pub connect: Option<Connect>,
    /// How the Director is asked; with `mode: deployment`.
    #[serde(default)]
    pub director: Option<Api>,
    /// Which deployments: all unless said otherwise.
    #[serde(default)]
    pub include: Included,
    /// What is left out.
    #[serde(default)]
    pub exclude: Excluded,
    /// Whether a deployment without backup scripts is passed over; else it is refused.
    #[serde(default = "yes")]
    pub skip_without_scripts: bool,
    /// Whether the Director's manifest is stored, with all the secrets in it.
    #[serde(default)]
    pub with_manifest: bool,
    /// How long jobs may be held by their locks; default 30m. At its end scripts get a signal and jobs are unlocked.
    #[serde(default)]
    pub lock_time_max: Option<Period>,
    /// Whether a process on each instance unlocks its jobs when this onggi gives no sign of life any more: because it was
    /// killed, or cannot be reached from there. `true` is three minutes; a length of time of at least 4s says another one.
    #[serde(default)]
    pub lock_deadman: Deadman,
    /// How long unlocking and removing may take once a run was cancelled; default 2m. What is left then is settled by the
    /// next run.
    #[serde(default)]
    pub cancel_grace: Option<Period>,
    /// What a run does with what a dead one left.
    #[serde(default)]
    pub auto_cleanup: AutoCleanup,
    /// How artifacts are carried away.
    #[serde(default)]
    pub drain: Drain,
    /// How many deployments are backed up at once.
    #[serde(default = "deployments_default")]
    pub parallel_deployments_max: u16,
}

fn yes() -> bool {
    true
}

fn deployments_default() -> u16 {
    DEPLOYMENTS_DEFAULT
}

/// What is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "BoshMode")]
pub enum Mode {
    /// The Director: its own database, its blobs, its secrets.
    Director,
    /// What it deploys; each deployment is a unit.
    Deployment,
}

/// How the Director's machine is reached.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "BoshConnect")]
pub struct Connect {
    /// Name or address, with a port unless it is 22.
    pub host: String,
    /// Who logs in; must become root by `sudo` without a password.
    pub user: String,
    /// The private key: a secret reference.
    pub key: SecretKey,
    /// How the machine proves who it is.
    #[serde(default)]
    pub trust: Trust,
    /// Its public key, with `trust: pinned`: `ssh-rsa AAAA…` or `SHA256:…`.
    #[serde(default)]
    pub host_key: Option<String>,
}

/// How the Director's machine proves who it is. There is no way to do without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "BoshTrust")]
pub enum Trust {
    /// By the key in `host-key`.
    #[default]
    Pinned,
    /// By a key in `~/.ssh/known_hosts`, or one that was approved with `onggi hosts trust`.
    Approve,
}

/// How a Director is asked.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "BoshApi")]
pub struct Api {
    /// `https://10.0.0.6:25555`
    pub url: String,
    /// The UAA client, or the user.
    pub client: String,
    /// Its secret: a secret reference.
    pub client_secret: SecretKey,
    /// File with the certificate of its authority; those that this machine trusts if absent.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// Which deployments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "BoshIncluded")]
pub struct Included {
    /// Names, with `*` for anything.
    #[serde(default)]
    pub deployments: Vec<String>,
}

/// What is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "BoshExcluded")]
pub struct Excluded {
    /// Deployments, with `*` for anything.
    #[serde(default)]
    pub deployments: Vec<String>,
    /// Jobs, as `group/job` with `*` for anything: none of their scripts runs.
    #[serde(default)]
    pub jobs: Vec<String>,
}

/// Whether instances unlock jobs themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "it is true, false or a length of time such as 3m")]
#[schemars(rename = "BoshDeadman")]
pub enum Deadman {
    /// They do, after three minutes; or not.
    Switch(bool),
    /// After so long without a sign of life.
    After(Period),
}

impl Default for Deadman {
    fn default() -> Self {
        Self::Switch(false)
    }
}

/// What a run does with what a dead one left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "BoshAutoCleanup")]
pub enum AutoCleanup {
    /// Settles what this onggi left: carries whole artifacts away, else unlocks and removes.
    #[default]
    Own,
    /// Touches nothing; `onggi bosh cleanup` and `onggi bosh resume` do.
    Never,
}

/// How artifacts are carried away.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "BoshDrain")]
pub struct Drain {
    /// How many artifacts of a unit travel at once.
    pub parallel_max: u16,
    /// Whether a file with the path, size and time of the last backup's is taken over unread.
    pub incremental: Incremental,
    /// What the instances prove with SHA-256 of their own.
    pub verify: Verify,
    /// How long artifacts that could not be carried away stay on the instances, for the next run to go on; default 6h.
    pub keep: Option<Period>,
}

impl Default for Drain {
    fn default() -> Self {
        let (incremental, verify) = (Incremental::default(), Verify::default());
        Self { parallel_max: ARTIFACTS_DEFAULT, incremental, verify, keep: None }
    }
}

/// Whether unchanged files are taken over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "BoshIncremental")]
pub enum Incremental {
    /// They are.
    #[default]
    Auto,
    /// Everything is carried away each time.
    Never,
}

/// What instances prove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "BoshVerify")]
pub enum Verify {
    /// What was carried away.
    #[default]
    Remote,
    /// Also what was taken over.
    Paranoid,
}

impl BoshConfig {
    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        match self.mode {
            Mode::Director => {
                if self.connect.is_none() {
                    faults.push(ConfigFault::new(
                        "connect",
                        "it is missing",
                        "say how the Director's machine is reached",
                    ));
                }
                if self.director.is_some() {
                    faults.push(ConfigFault::new("director", "nobody is asked", "set mode: deployment, or remove it"));
                }
            }
            Mode::Deployment => {
                if self.director.is_none() {
                    faults.push(ConfigFault::new("director", "it is missing", "say how the Director is asked"));
                }
                if self.connect.is_some() {
                    faults.push(ConfigFault::new(
                        "connect",
                        "the Director lets us in",
                        "set mode: director, or remove it",
                    ));
                }
            }
        }
        if let Some(connect) = &self.connect {
            faults.extend(connect.key.fault("connect.key"));
            if connect.trust == Trust::Pinned && connect.host_key.is_none() {
                let remedy = "write its public key here, or set trust: approve";
                faults.push(ConfigFault::new("connect.host-key", "it is missing", remedy));
            }
        }
        faults.extend(self.director.as_ref().and_then(|api| api.client_secret.fault("director.client-secret")));
        if self.lock_deadman().is_some_and(|after| after < DEADMAN_MIN) {
            let remedy = "write 4s or more, or true for 3m";
            faults.push(ConfigFault::new("lock-deadman", "a run cannot give signs of life that often", remedy));
        }
        if self.drain.parallel_max == 0 {
            let remedy = "write 1 or more, or remove it for 10";
            faults.push(ConfigFault::new("drain.parallel-max", "nothing travels at all", remedy));
        }
        let lists = [
            ("include.deployments", &self.include.deployments),
            ("exclude.deployments", &self.exclude.deployments),
            ("exclude.jobs", &self.exclude.jobs),
        ];
        for (key, list) in lists {
            let bad = list.iter().enumerate().filter(|(_, text)| Pattern::parse(text.as_bytes(), Case::Exact).is_err());
            let fault = |(number, text): (usize, &String)| {
                ConfigFault::new(format!("{key}[{number}]"), format!("{text:?} is no pattern"), "write a name, or cf-*")
            };
            faults.extend(bad.map(fault));
        }
        faults
    }

    pub(crate) fn secrets(&self) -> Vec<(&'static str, &SecretReference)> {
        let key = self.connect.as_ref().and_then(|connect| connect.key.reference());
        let secret = self.director.as_ref().and_then(|api| api.client_secret.reference());
        [("connect.key", key), ("director.client-secret", secret)]
            .into_iter()
            .filter_map(|(key, reference)| Some((key, reference?)))
            .collect()
    }

    pub(crate) fn outline(&self) -> Outline {
        let apart = match self.mode {
            Mode::Director => 1,
            Mode::Deployment => usize::from(self.parallel_deployments_max.max(1)),
        };
        // The manifest is in the snapshot's root: below it each unit has a root of its own.
        Outline {
            paths: vec!["/bosh".to_owned()],
            root: Some(TreePath::root()),
            apart: Some(apart),
            hold: Some(self.lock_time_max()),
            ..Outline::default()
        }
    }

    pub(super) fn lock_time_max(&self) -> Duration {
        self.lock_time_max.map_or(LOCK_TIME_MAX, |period| period.0)
    }

    /// How long a dead-man waits, if there is one.
    pub(super) fn lock_deadman(&self) -> Option<Duration> {
        match self.lock_deadman {
            Deadman::Switch(false) => None,
            Deadman::Switch(true) => Some(DEADMAN),
            Deadman::After(period) => Some(period.0),
        }
    }

    pub(super) fn cancel_grace(&self) -> Duration {
        self.cancel_grace.map_or(CANCEL_GRACE, |period| period.0)
    }

    pub(super) fn keep(&self) -> Duration {
        self.drain.keep.map_or(KEEP, |period| period.0)
    }

    pub(super) fn takes(&self, deployment: &str) -> bool {
        let include = &self.include.deployments;
        (include.is_empty() || fits(include, deployment)) && !fits(&self.exclude.deployments, deployment)
    }

    pub(super) fn leaves_out(&self, group: &str, job: &str) -> bool {
        fits(&self.exclude.jobs, &format!("{group}/{job}"))
    }
}

fn fits(list: &[String], name: &str) -> bool {
    let mut patterns = Patterns::default();
    for text in list {
        // One that is none was refused.
        if let Ok(pattern) = Pattern::parse(text.as_bytes(), Case::Exact) {
            patterns.push(pattern);
        }
    }
    patterns.exclude(name.as_bytes(), Asked::Above)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_of_nothing_at_once_and_a_dead_man_without_patience_are_refused() {
        let keys = "mode: director\nconnect: {host: d, user: u, key: \"env:K\", host-key: \"SHA256:x\"}\ndrain: ";
        let faults = |drain: &str| {
            let config: BoshConfig = serde_saphyr::from_str(&format!("{keys}{drain}")).unwrap();
            config.faults().into_iter().map(|fault| fault.key).collect::<Vec<_>>()
        };
        assert_eq!(faults("{parallel-max: 0}"), ["drain.parallel-max"]);
        assert_eq!(faults("{verify: paranoid}"), Vec::<String>::new());
        let deadman = |text: &str| {
            let config: BoshConfig = serde_saphyr::from_str(&format!("{keys}{{}}\nlock-deadman: {text}")).unwrap();
            (config.lock_deadman().map(|after| after.as_secs()), config.faults().len())
        };
        assert_eq!([deadman("false"), deadman("true"), deadman("10s")], [(None, 0), (Some(180), 0), (Some(10), 0)]);
        assert_eq!(deadman("3s"), (Some(3), 1));
    }
}
