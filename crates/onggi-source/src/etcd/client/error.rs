//! What went wrong on the wire, in words that name the remedy.

use std::error::Error;

use tonic::{Code, Status};

use crate::source::SourceError;

/// What TLS says of a connection, and what it means here.
const TLS: [(&str, &str); 6] = [
    ("UnknownIssuer", "its certificate is of another authority than `tls.ca`"),
    ("NotValidForName", "its certificate does not name this address among its alternative names"),
    ("invalid peer certificate: Expired", "its certificate has expired"),
    ("CertificateRequired", "it wants a client certificate, and `tls.cert` names none"),
    ("CertificateExpired", "it refuses the client certificate, which has expired"),
    ("received fatal alert", "it refuses the client certificate"),
];

/// A connection that could not be made or was lost.
pub(super) fn of_transport(error: &(dyn Error + 'static)) -> SourceError {
    let mut causes = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    // The deepest cause says what happened; those above only that something did.
    let all = causes.join(": ");
    let deepest = causes.pop().unwrap_or_default();
    match TLS.iter().find(|(word, _)| all.contains(word)) {
        Some((_, meaning)) => SourceError::Denied(format!("{meaning} ({deepest})")),
        None => SourceError::Unreachable(deepest),
    }
}

/// An answer that is a refusal, or none.
pub(super) fn of_status(status: &Status) -> SourceError {
    if let Some(cause) = status.source() {
        return of_transport(cause);
    }
    let text = status.message();
    match status.code() {
        Code::PermissionDenied => SourceError::Denied(format!("{text}; the user needs the role root")),
        Code::Unauthenticated => SourceError::Denied(text.to_owned()),
        Code::InvalidArgument if text.contains("authentication failed") || text.contains("user name is empty") => {
            let remedy = "set `auth` in the configuration: the cluster has authentication enabled";
            SourceError::Denied(format!("{text}; {remedy}"))
        }
        // What 3.4 says of a call without a user.
        _ if text.contains("user not found") => {
            SourceError::Denied(format!("{text}; set `auth`: the cluster has authentication enabled"))
        }
        Code::ResourceExhausted => SourceError::Busy(text.to_owned()),
        _ => SourceError::Unreachable(text.to_owned()),
    }
}
