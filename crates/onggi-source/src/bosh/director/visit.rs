//! A user on the instances of a deployment, for as long as it is needed.
//!
//! Whatever way a visit ends, the user goes: at best by [`Visit::leave`], at worst when the visit is dropped. An instance
//! counts as visited before it is known whether the user was made there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::model::{Host, Instance, SetupResult, SshOrder, SshParameters, SshTarget, parse};
use super::wire::Ask;
use super::{Director, DirectorError, Result};
use crate::context::{Context, Problem, Stop};
use crate::percent::escape;

/// How long taking leave may last in all.
const LEAVE: Duration = Duration::from_mins(2);
/// How long it may last when nobody waits for it any more.
const LAST_RESORT: Duration = Duration::from_secs(10);
/// How long the tasks of taking leave are awaited.
const TASKS: Duration = Duration::from_secs(10);
/// Digits of a user's name after the prefix: with it they fill the 20 characters that Windows allows.
const USER_DIGITS: usize = 15;
const USER_PREFIX: &str = "bosh_";

/// Who is to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// The user's name.
    pub user: String,
    /// The key, as a line `ssh-rsa AAAA…`.
    pub public_key: String,
}

/// Whether the Director's tasks of taking leave are awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// They may go on by themselves.
    No,
    /// For a few seconds; one that takes longer is no fault.
    Briefly,
}

/// Instances of one deployment on which a user is.
pub struct Visit {
    director: Arc<Director>,
    deployment: String,
    user: String,
    hosts: Vec<Host>,
    /// Group and id of those where the user may still be.
    open: Mutex<Vec<(String, String)>>,
    has_left: AtomicBool,
    /// For a visit that is dropped.
    cx: Context,
}

impl Guest {
    /// A name that nobody has, and this key.
    pub fn new(cx: &Context, public_key: String) -> Self {
        let digits = format!("{:016x}", cx.world.random());
        Self { user: format!("{USER_PREFIX}{}", &digits[..USER_DIGITS]), public_key }
    }
}

impl Visit {
    /// Makes the user on all instances of the list, one group after the other in its order. If it fails for one, the
    /// user goes from all.
    pub async fn begin(
        cx: &Context,
        director: &Arc<Director>,
        deployment: &str,
        instances: &[Instance],
        guest: &Guest,
    ) -> Result<Self> {
        let mut visit = Self::recall(cx, director, deployment, &[], &guest.user);
        let mut groups: Vec<&str> = Vec::new();
        for instance in instances {
            if !groups.contains(&instance.group.as_str()) {
                groups.push(&instance.group);
            }
        }
        for group in groups {
            let members: Vec<_> = instances.iter().filter(|instance| instance.group == group).collect();
            if let Err(error) = visit.enter(cx, group, &members, guest).await {
                for problem in visit.leave(Wait::No).await {
                    cx.problem(Problem { class: "cleanup", path: None, text: problem.to_string() });
                }
                return Err(error);
            }
        }
        Ok(visit)
    }

    /// A visit of which only the user's name is left; to be ended.
    pub fn recall(
        cx: &Context,
        director: &Arc<Director>,
        deployment: &str,
        instances: &[Instance],
        user: &str,
    ) -> Self {
        let open = instances.iter().map(|instance| (instance.group.clone(), instance.id.clone())).collect();
        Self {
            director: director.clone(),
            deployment: deployment.to_owned(),
            user: user.to_owned(),
            hosts: Vec::new(),
            open: Mutex::new(open),
            has_left: AtomicBool::new(false),
            cx: cx.clone(),
        }
    }

    /// Where the user is.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    async fn enter(&mut self, cx: &Context, group: &str, members: &[&Instance], guest: &Guest) -> Result<()> {
        for instance in members {
            self.note(group, &instance.id);
        }
        let params = SshParameters::Setup { user: &guest.user, public_key: &guest.public_key };
        let ask = self.order("setup", group, Vec::new(), params)?;
        let results = self.director.run_task(cx, &ask).await?;
        let results: Vec<SetupResult> = parse(results.trim().as_bytes())?;
        for result in results {
            self.note(group, &result.id);
            if result.status != "success" {
                let instance = format!("{group}/{}", result.id);
                return Err(DirectorError::Setup { instance, status: result.status });
            }
            self.hosts.push(host(group, members, result, &guest.user));
        }
        Ok(())
    }

    /// Takes the user away from every instance; answers what went wrong. Where it succeeded it is not done again.
    pub async fn leave(&self, wait: Wait) -> Vec<DirectorError> {
        self.leave_within(&self.cx.for_cleanup(LEAVE), wait).await
    }

    async fn leave_within(&self, cx: &Context, wait: Wait) -> Vec<DirectorError> {
        self.has_left.store(true, Ordering::Relaxed);
        let (mut faults, mut tasks) = (Vec::new(), Vec::new());
        let open = self.opened().clone();
        for (group, id) in open {
            match self.expel(cx, &group, &id).await {
                Ok(task) => tasks.extend(task),
                Err(error) => faults.push(error),
            }
        }
        if wait == Wait::Briefly {
            let cx = cx.within(TASKS, Stop::TimeLimit);
            for task in tasks {
                match self.director.await_task(&cx, task).await {
                    Ok(()) => {}
                    Err(DirectorError::Stopped(_)) => break,
                    Err(error) => faults.push(error),
                }
            }
        }
        faults
    }

    /// Has the user taken away from one instance, and answers the task that does it. It is not awaited. Without the
    /// deployment there are no instances and no users.
    pub async fn expel(&self, cx: &Context, group: &str, id: &str) -> Result<Option<u64>> {
        let params = SshParameters::Cleanup { user_regex: format!("^{}", self.user) };
        let named = if id.is_empty() { Vec::new() } else { vec![id] };
        let ask = self.order("cleanup", group, named, params)?.idempotent();
        let started = match self.director.start_task(cx, &ask).await {
            Err(error) if error.is_not_found() => None,
            started => Some(started?),
        };
        self.opened().retain(|(other, its)| (other.as_str(), its.as_str()) != (group, id));
        Ok(started)
    }

    fn order(&self, command: &'static str, group: &str, ids: Vec<&str>, params: SshParameters<'_>) -> Result<Ask> {
        let target = SshTarget { group, indexes: ids.clone(), ids };
        let order = SshOrder { command, deployment_name: &self.deployment, target, params };
        Ask::post(format!("/deployments/{}/ssh", escape(&self.deployment)), &order)
    }

    fn note(&self, group: &str, id: &str) {
        let (mut open, place) = (self.opened(), (group.to_owned(), id.to_owned()));
        if !open.contains(&place) {
            open.push(place);
        }
    }

    fn opened(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the agent says, with what only the list of instances knows.
fn host(group: &str, members: &[&Instance], result: SetupResult, user: &str) -> Host {
    let known = members.iter().find(|instance| instance.ips.contains(&result.ip));
    let known = known.or_else(|| members.iter().find(|instance| !result.id.is_empty() && instance.id == result.id));
    let index = result.index.or_else(|| known.and_then(|instance| instance.index));
    Host {
        group: group.to_owned(),
        index: index.map(|index| index.to_string()).unwrap_or_default(),
        id: result.id,
        bootstrap: known.is_some_and(|instance| instance.bootstrap),
        address: result.ip,
        user: user.to_owned(),
        host_key: result.host_public_key,
    }
}

impl Drop for Visit {
    /// For the ways out on which nobody took leave, a panic among them. In a thread of its own, because this one may be
    /// the runtime's, which must not wait for itself.
    fn drop(&mut self) {
        if self.has_left.load(Ordering::Relaxed) || self.opened().is_empty() {
            return;
        }
        let cx = self.cx.for_cleanup(LAST_RESORT);
        let work = || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(self.leave_within(&cx, Wait::No));
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(work);
        });
    }
}
