//! Why a unit was not stored.

use crate::exit::Exit;
use onggi_repo::RepoError;
use onggi_source::{SourceError, Stop};

/// Why a unit was not stored.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// Its writers could not be stopped.
    #[error("freeze {0}")]
    Freeze(String, #[source] SourceError),
    /// No image of it could be fixed.
    #[error("capture {0}")]
    Capture(String, #[source] SourceError),
    /// Its image could not be read to the end.
    #[error("read {0}")]
    Items(String, #[source] SourceError),
    /// The repository did not take it.
    #[error("store {0}")]
    Store(String, #[source] RepoError),
    /// Another run is at work on it, which says this of itself.
    #[error("{0} is being backed up by another run: {1}")]
    Leased(String, String),
    /// Another member of its group failed, and the group stands or falls as one.
    #[error("{0} is left out with its group: {1}")]
    Group(String, String),
}

impl UnitError {
    /// Its exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Freeze(_, error) if !matches!(error, SourceError::Stopped(_)) => Exit::Freeze,
            Self::Freeze(_, error) | Self::Capture(_, error) | Self::Items(_, error) => Exit::from(error),
            Self::Store(_, error) => Exit::from(error),
            Self::Leased(..) => Exit::Locked,
            Self::Group(..) => Exit::Failed,
        }
    }

    /// Whether there was nothing to store, in good order.
    pub fn is_unchanged(&self) -> bool {
        matches!(self, Self::Capture(_, SourceError::Unchanged) | Self::Items(_, SourceError::Unchanged))
    }

    /// Why it was stopped, if it was.
    pub fn stop(&self) -> Option<Stop> {
        match self {
            Self::Freeze(_, SourceError::Stopped(stop))
            | Self::Capture(_, SourceError::Stopped(stop))
            | Self::Items(_, SourceError::Stopped(stop)) => Some(*stop).filter(|stop| *stop != Stop::Group),
            _ => None,
        }
    }

    /// Whether the image stays at the source: it is whole and can be read later, or what was stored of it is in doubt.
    pub fn leaves_image(&self) -> bool {
        match self {
            Self::Items(_, SourceError::Stopped(stop)) => matches!(stop, Stop::TimeLimit | Stop::Repository),
            Self::Items(_, error) => error.is_transient(),
            Self::Store(_, error) => {
                matches!(error, RepoError::Unverified(_)) || error.is_full() || error.is_transient()
            }
            _ => false,
        }
    }

    /// Whether a new window may bring what this one did not.
    pub fn is_worth_another_window(&self) -> bool {
        match self {
            Self::Freeze(_, error) | Self::Capture(_, error) => {
                error.is_transient() || matches!(error, SourceError::Incomplete(_))
            }
            Self::Items(_, error) => matches!(error, SourceError::Incomplete(_)),
            Self::Group(..) => true,
            Self::Store(..) | Self::Leased(..) => false,
        }
    }
}
