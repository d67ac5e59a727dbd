//! Deliberate faults of the engine, which `cargo xtask sabotage` switches on one by one: the tests must find every one of
//! them. The names are those of the sabotage list, with a letter where two crates have one.

use onggi_storage::sabotage::Fault;

/// An item that could not be restored is not counted.
pub(crate) const RESTORE_ERROR_NOT_COUNTED: Fault = Fault::new("SB16");
/// A unit whose freeze failed half-way is not thawed.
pub(crate) const FAILED_FREEZE_NOT_THAWED: Fault = Fault::new("SB24");
/// A unit whose capture was thrown away counts as stored.
pub(crate) const DISCARDED_CAPTURE_IS_GREEN: Fault = Fault::new("SB27");
/// A duration that cannot be read becomes none at all.
pub(crate) const BAD_DURATION_IS_NONE: Fault = Fault::new("SB28b");
/// Symbolic links are followed at restore.
pub(crate) const SYMLINK_FOLLOWED: Fault = Fault::new("SB30");
/// A secret shows in `Debug`.
pub(crate) const SECRET_IN_DEBUG: Fault = Fault::new("SB31");
/// A capture that failed is started again without removing what the first one made.
pub(crate) const CAPTURE_REPEATED: Fault = Fault::new("SB32b");
