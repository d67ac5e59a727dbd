//! What a fake Director knows and how it misbehaves.

/// All of it; tests change it while the Director runs.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// How clients enter.
    pub entry: EntryKind,
    /// What is deployed.
    pub deployments: Vec<Deployment>,
    /// How many times a task is under way before it is over.
    pub polls: u32,
    /// Requests that a token lets in; without a number, all.
    pub token_uses: Option<u32>,
    /// Seconds that a token says it lives.
    pub token_seconds: Option<u64>,
    /// The host that redirects name instead of none.
    pub redirect_host: Option<String>,
    /// So many of the next requests are answered with 503.
    pub unavailable: u32,
    /// Tasks that end badly: what they do (`vms`, `setup`, `cleanup`), their state, what the events say.
    pub failing: Vec<(&'static str, &'static str, &'static str)>,
    /// Users are not removed: an order to do so is answered with 500.
    pub refuses_cleanup: bool,
    /// Tasks of others that are under way: what they do, and to which deployment.
    pub under_way: Vec<(&'static str, Option<&'static str>)>,
    /// What agents of these instances answer to a setup.
    pub statuses: Vec<(String, &'static str)>,
}

/// How clients enter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EntryKind {
    /// By name and password.
    #[default]
    Basic,
    /// By a token.
    Uaa,
}

/// One deployment.
#[derive(Debug, Clone, Default)]
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// Its manifest.
    pub manifest: String,
    /// Its instances.
    pub instances: Vec<Instance>,
}

/// One instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance {
    /// Its instance group.
    pub group: String,
    /// Its id.
    pub id: String,
    /// Its number.
    pub index: u32,
    /// Whether it is the bootstrap instance.
    pub bootstrap: bool,
    /// Where SSH listens, with a port unless it is 22.
    pub address: String,
    /// The line of its host key.
    pub host_key: String,
}

impl Instance {
    /// A real instance as the one with this number in group `db`; number 0 is the bootstrap instance.
    pub fn of(instance: &crate::bosh::Instance, id: String, index: usize) -> Self {
        Self {
            group: "db".to_owned(),
            id,
            index: u32::try_from(index).expect("a test has few instances"),
            bootstrap: index == 0,
            address: format!("127.0.0.1:{}", instance.port),
            host_key: instance.host_key(),
        }
    }
}

/// What an agent is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// On which instance.
    pub instance: Instance,
    /// What.
    pub command: Command,
}

/// What an agent does with users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Makes one.
    Setup {
        /// Its name.
        user: String,
        /// Its key.
        public_key: String,
    },
    /// Removes those whose names this expression finds.
    Cleanup {
        /// `^bosh_0123…`
        user_regex: String,
    },
}
