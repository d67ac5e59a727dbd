//! Gives up rights: a thread that touches files keeps the right to read, and nothing else, for good.

use std::os::fd::OwnedFd;
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus,
};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::policy::Policy;

/// The newest set of rights that is known; older kernels keep what they know of it.
const RIGHTS: ABI = ABI::V5;

/// Keeps the calling thread from writing, and with a list of the node from reading elsewhere. Answers whether the kernel
/// enforces it.
pub(super) fn confine(policy: &Policy) -> bool {
    drop_capabilities();
    restrict(policy).unwrap_or(false)
}

/// Of root's rights only that to read everything.
fn drop_capabilities() {
    let Ok(now) = rustix::thread::capabilities(None) else { return };
    let kept = now.permitted & CapabilitySet::DAC_READ_SEARCH;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    let _ = rustix::thread::set_capabilities(None, sets); // then it runs with what it had
}

fn restrict(policy: &Policy) -> Result<bool, landlock::RulesetError> {
    let mut roots = policy.roots();
    if !policy.is_closed() {
        roots.push(b"/".to_vec());
    }
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RIGHTS))?
        .create()?;
    for root in roots {
        // one that is not there gives no right
        if let Ok(fd) = PathFd::new(String::from_utf8_lossy(&root).as_ref()) {
            let allowed = AccessFs::ReadFile | AccessFs::ReadDir;
            rules = rules.add_rule(PathBeneath::new(fd, allowed))?;
        }
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// Keeps the calling thread from writing anywhere but below a directory, where the kernel can enforce it.
pub(super) fn to_writing_below(root: &OwnedFd, path: &Path) {
    let restrict = || -> Result<(), landlock::RulesetError> {
        let everywhere = AccessFs::ReadFile | AccessFs::ReadDir;
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(RIGHTS))?
            .create()?
            .add_rule(PathBeneath::new(root, AccessFs::from_all(RIGHTS)))?;
        let rules = match PathFd::new("/") {
            Ok(top) if path != Path::new("/") => rules.add_rule(PathBeneath::new(top, everywhere))?,
            _ => rules,
        };
        rules.restrict_self().map(drop)
    };
    let _ = restrict(); // a second wall; the first is that no path is resolved outside
}

/// Whether files may be read that the user may not.
pub(super) fn reads_all() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::DAC_READ_SEARCH))
}
