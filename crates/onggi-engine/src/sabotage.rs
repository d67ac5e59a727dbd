//! Deliberate faults of the engine, switched on by `--cfg sabotage="SB16"` at compile time: a harness earns trust by
//! finding each of them. Never in a release; the tidy test forbids it.

/// SB16: an item that could not be restored is not counted.
pub(crate) const RESTORE_ERROR_NOT_COUNTED: bool = cfg!(sabotage = "SB16");
/// SB24: a unit whose freeze failed half-way is not thawed.
pub(crate) const FAILED_FREEZE_NOT_THAWED: bool = cfg!(sabotage = "SB24");
/// SB27: a unit whose capture was thrown away counts as stored.
pub(crate) const DISCARDED_CAPTURE_IS_GREEN: bool = cfg!(sabotage = "SB27");
/// SB28: a duration that cannot be read becomes none at all.
pub(crate) const BAD_DURATION_IS_NONE: bool = cfg!(sabotage = "SB28");
/// SB30: symbolic links are followed at restore.
pub(crate) const SYMLINK_FOLLOWED: bool = cfg!(sabotage = "SB30");
/// SB31: a secret shows in `Debug`.
pub(crate) const SECRET_IN_DEBUG: bool = cfg!(sabotage = "SB31");
/// SB32: a capture that failed is started again without removing what the first one made.
pub(crate) const CAPTURE_REPEATED: bool = cfg!(sabotage = "SB32");
