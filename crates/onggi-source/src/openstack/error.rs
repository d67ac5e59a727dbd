//! Why a cloud does not do what it is asked, and the decision that it means for the caller.

use crate::context::Stop;
use crate::source::SourceError;

/// The result of a call on a cloud.
pub(super) type Result<T, E = CloudError> = std::result::Result<T, E>;

/// A call on a cloud failed. One variant per decision of the caller.
#[derive(Debug, thiserror::Error)]
pub(super) enum CloudError {
    /// What is configured cannot be used; nothing was asked.
    #[error("{0}")]
    Configuration(String),
    /// The cloud's catalog does not have the service.
    #[error("{0}")]
    Unoffered(String),
    /// Again later.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// It does not let us in.
    #[error("{0}")]
    Denied(String),
    /// It answered, and will not do it.
    #[error("{act}: status {status}: {text}")]
    Status {
        /// As HTTP counts.
        status: u16,
        /// What was asked for.
        act: String,
        /// The first of what it said.
        text: String,
    },
    /// Its answer is none that is understood.
    #[error("{0}: the answer makes no sense: {1}")]
    Malformed(String, String),
    /// Our own doing: unwind.
    #[error(transparent)]
    Stopped(#[from] Stop),
}

impl CloudError {
    /// The status of an answer, if there was one.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether what was asked about is not there.
    pub(super) fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether the cloud says for good that this is not ours to see or to have, so that the rest goes on without it.
    pub(super) fn is_withheld(&self) -> bool {
        matches!(self.status(), Some(400 | 403 | 404 | 405 | 406 | 501)) || matches!(self, Self::Unoffered(_))
    }
}

impl From<CloudError> for SourceError {
    fn from(error: CloudError) -> Self {
        let text = error.to_string();
        match error {
            CloudError::Stopped(stop) => Self::Stopped(stop),
            CloudError::Configuration(_) => Self::Configuration(text),
            CloudError::Unoffered(_) | CloudError::Denied(_) | CloudError::Status { status: 401, .. } => {
                Self::Denied(text)
            }
            CloudError::Unreachable(..) | CloudError::Status { status: 429 | 500..=599, .. } => Self::Unreachable(text),
            CloudError::Status { status: 409, .. } => Self::Busy(text),
            CloudError::Status { status: 413, .. } => Self::Full(text),
            // Of one server, not of all: the others go on.
            CloudError::Status { status: 400 | 403, .. } => Self::Refused(text),
            CloudError::Status { .. } | CloudError::Malformed(..) => Self::Incomplete(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_wrong_is_no_refusal_of_the_cloud() {
        let wrong = CloudError::Configuration("no clouds.yaml has the cloud demo".to_owned());
        assert!(!wrong.is_withheld());
        assert!(matches!(SourceError::from(wrong), SourceError::Configuration(_)));
    }

    #[test]
    fn a_service_that_is_not_offered_is_done_without() {
        let missing = CloudError::Unoffered("the catalog has no address for Network".to_owned());
        assert!(missing.is_withheld());
        assert!(matches!(SourceError::from(missing), SourceError::Denied(_)));
    }
}
