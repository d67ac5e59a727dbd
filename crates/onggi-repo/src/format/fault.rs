//! The one error of all decoders here: which thing is wrong, and why.

use std::borrow::Cow;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct FormatError {
    /// Which thing: `pack header`, `tree`, `snapshot`...
    pub what: &'static str,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong; one variant per decision the caller can take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The authentication code does not match: other key, or damaged bytes.
    #[error("authentication failed")]
    Authentication,
    /// Authentic, but not the content its name promises.
    #[error("content does not match its id")]
    Hash,
    /// Written by a newer program.
    #[error("made by a newer program: {0}")]
    Newer(Cow<'static, str>),
    /// Cut short, malformed, or beyond a limit.
    #[error("{0}")]
    Invalid(Cow<'static, str>),
}

impl FormatError {
    /// Malformed content.
    pub(crate) fn invalid(what: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { what, reason: Reason::Invalid(reason.into()) }
    }

    /// A failed authentication.
    pub(crate) fn authentication(what: &'static str) -> Self {
        Self { what, reason: Reason::Authentication }
    }

    /// Malformed JSON. The text of the fault is kept, which quotes at most a word of the input.
    pub(crate) fn json(what: &'static str, fault: &serde_json::Error) -> Self {
        Self::invalid(what, format!("not valid JSON: {fault}"))
    }

    /// Whether a newer program wrote it.
    pub fn is_newer(&self) -> bool {
        matches!(self.reason, Reason::Newer(_))
    }
}

/// The answer of a decoder.
pub type Result<T, E = FormatError> = std::result::Result<T, E>;
