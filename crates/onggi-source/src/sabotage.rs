//! The switches of the sabotage list that concern sources: deliberate defects that the tests must find.
//!
//! Each is off unless the compiler is called with `--cfg sabotage="SBnn"`; a release never is.

/// An absent source path is ignored.
pub(crate) const SB17_ABSENT_PATH_IGNORED: bool = cfg!(sabotage = "SB17");
/// An empty stream is stored as if that were all.
pub(crate) const SB18_EMPTY_STREAM_ACCEPTED: bool = cfg!(sabotage = "SB18");
/// An unreadable exclude file is ignored.
pub(crate) const SB19_EXCLUDE_FILE_IGNORED: bool = cfg!(sabotage = "SB19");
/// An entry whose metadata cannot be read takes the rest of its directory with it.
pub(crate) const SB26_ENTRY_DROPS_DIRECTORY: bool = cfg!(sabotage = "SB26");
/// A time limit that cannot be read becomes none.
pub(crate) const SB28_LIMIT_BECOMES_NONE: bool = cfg!(sabotage = "SB28");
/// A second attempt starts the command again.
pub(crate) const SB32_COMMAND_STARTED_AGAIN: bool = cfg!(sabotage = "SB32");
