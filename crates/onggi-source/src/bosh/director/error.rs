//! Why a Director does not do what it is asked, and the decision that it means for the caller.

use crate::context::Stop;
use crate::source::SourceError;

/// A call on a Director failed. One variant per decision of the caller.
#[derive(Debug, thiserror::Error)]
pub enum DirectorError {
    /// What is configured cannot be used; nothing was asked.
    #[error("{0}")]
    Configuration(String),
    /// Again later.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// It does not prove who it is; waiting does not cure it.
    #[error("{0} is not trusted: {1}")]
    Untrusted(String, String),
    /// It does not let us in.
    #[error("access is denied: {0}")]
    Denied(String),
    /// It answered, and will not do it.
    #[error("Director responded with non-successful status code '{status}' response '{text}'")]
    Status {
        /// As HTTP counts.
        status: u16,
        /// The first of what it said.
        text: String,
    },
    /// It began, and the task came to a bad end.
    #[error("expected task '{id}' to succeed but state is '{state}'{reason}")]
    Task {
        /// The task's number.
        id: u64,
        /// What the Director calls its end.
        state: String,
        /// What it says of the cause: empty, or begins with a colon.
        reason: String,
    },
    /// Its answer is none that is understood.
    #[error("the Director's answer makes no sense: {0}")]
    Malformed(String),
    /// An instance did not take the user.
    #[error("SSH access to {instance} was not set up: its status is '{status}'")]
    Setup {
        /// `group/id`.
        instance: String,
        /// What the instance's agent says.
        status: String,
    },
    /// Our own doing: unwind.
    #[error(transparent)]
    Stopped(#[from] Stop),
}

impl DirectorError {
    /// Whether what was asked about is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }
}

impl From<DirectorError> for SourceError {
    fn from(error: DirectorError) -> Self {
        let text = error.to_string();
        match error {
            DirectorError::Stopped(stop) => Self::Stopped(stop),
            DirectorError::Denied(text) => Self::Denied(text),
            DirectorError::Status { status: 404, .. } => Self::Gone,
            DirectorError::Configuration(_)
            | DirectorError::Untrusted(..)
            | DirectorError::Status { status: 401 | 403, .. } => Self::Denied(text),
            DirectorError::Unreachable(..)
            | DirectorError::Status { .. }
            | DirectorError::Task { .. }
            | DirectorError::Malformed(_)
            | DirectorError::Setup { .. } => Self::Unreachable(text),
        }
    }
}
