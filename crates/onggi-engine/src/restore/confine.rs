//! The second wall around a restore: the kernel refuses what a thread writes outside of one directory, whatever the first
//! wall, the walk below a descriptor, might miss.

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible as _, PathBeneath, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, RulesetStatus,
};
use rustix::fd::OwnedFd;

/// The newest set of rights that is known; older kernels keep what they know of it.
const RIGHTS: ABI = ABI::V5;

/// Keeps the calling thread, for good, from making, changing or removing entries outside of the directory. Answers whether
/// the kernel enforces it. Reading stays free, and so do files that are open already.
pub(super) fn to(directory: &OwnedFd) -> bool {
    restrict(directory).unwrap_or(false)
}

fn restrict(directory: &OwnedFd) -> Result<bool, RulesetError> {
    let rights = AccessFs::from_write(RIGHTS);
    let rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(rights)?.create()?;
    let restricted = rules.add_rule(PathBeneath::new(directory, rights))?.restrict_self()?;
    Ok(restricted.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and look at files")]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags};
    use std::{fs, io::ErrorKind};

    #[test]
    fn a_confined_thread_writes_below_its_directory_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        fs::create_dir_all(inside.join("a")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("old"), "old").unwrap();
        let directory = rustix::fs::open(&inside, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let thread = std::thread::spawn(move || {
            if !to(&directory) {
                assert!(std::env::var_os("CI").is_none(), "this kernel has no Landlock");
                eprintln!("SKIPPED: this kernel has no Landlock");
                return;
            }
            fs::write(inside.join("new"), "new").unwrap();
            fs::rename(inside.join("new"), inside.join("a/moved")).unwrap();
            fs::hard_link(inside.join("a/moved"), inside.join("linked")).unwrap();
            std::os::unix::fs::symlink("a", inside.join("link")).unwrap();
            fs::remove_file(inside.join("linked")).unwrap();
            assert_eq!(fs::read(outside.join("old")).unwrap(), b"old");
            let refused = [
                fs::write(outside.join("new"), "new"),
                fs::write(outside.join("old"), "new"),
                fs::create_dir(outside.join("directory")),
                fs::remove_file(outside.join("old")),
                fs::rename(inside.join("a/moved"), outside.join("moved")),
                std::os::unix::fs::symlink("a", outside.join("link")),
            ];
            for refusal in refused {
                let kind = refusal.unwrap_err().kind();
                assert!(matches!(kind, ErrorKind::PermissionDenied | ErrorKind::CrossesDevices), "{kind:?}");
            }
        });
        thread.join().unwrap();
    }
}
