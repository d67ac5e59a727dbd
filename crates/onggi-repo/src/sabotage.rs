//! Deliberate faults of the repository, which `cargo xtask sabotage` switches on one by one: the tests must find every one
//! of them. The names are those of the sabotage list.

use onggi_storage::sabotage::Fault;

/// The snapshot is written before the last index file.
pub(crate) const SNAPSHOT_BEFORE_INDEX: Fault = Fault::new("SB04");
/// An error of an upload is dropped.
pub(crate) const UPLOAD_ERROR_DROPPED: Fault = Fault::new("SB05");
/// Packs are removed before the new index is there.
pub(crate) const PACKS_BEFORE_INDEX: Fault = Fault::new("SB07");
/// Half of a pack's entries are lost when an index file is rewritten.
pub(crate) const ENTRIES_LOST: Fault = Fault::new("SB08");
/// Compressed bytes are announced as plain when a pack is written anew.
pub(crate) const COMPRESSED_AS_PLAIN: Fault = Fault::new("SB09");
/// A snapshot is written although a content was interrupted.
pub(crate) const INTERRUPTION_IGNORED: Fault = Fault::new("SB10");
/// An unknown keep rule keeps nothing, and no rule at all is a policy.
pub(crate) const UNKNOWN_RULE_IGNORED: Fault = Fault::new("SB11");
/// Retention goes by the time that the writer claims.
pub(crate) const CLAIMED_TIME_TRUSTED: Fault = Fault::new("SB12");
/// A lock's age goes by the time that its owner claims and the clock of this machine.
pub(crate) const AGE_BY_LOCAL_CLOCK: Fault = Fault::new("SB13");
/// A lock's age is the difference of two clocks.
pub(crate) const AGE_BY_TWO_CLOCKS: Fault = Fault::new("SB14");
/// A file that did not change keeps the owner and mode of the parent.
pub(crate) const OLD_METADATA_KEPT: Fault = Fault::new("SB15");
/// A buffer is used again while it is being uploaded.
pub(crate) const BUFFER_REUSED: Fault = Fault::new("SB20");
/// A short key file is cut without asking.
pub(crate) const SHORT_KEY_UNCHECKED: Fault = Fault::new("SB21");
/// A blob in a pack that is marked for removal counts as stored.
pub(crate) const MARKED_PACK_USED: Fault = Fault::new("SB22");
/// Nothing makes sure before the commit that what the snapshot needs is still there.
pub(crate) const NO_FENCE: Fault = Fault::new("SB29");
