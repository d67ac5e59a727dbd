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

/// What etcd says to a user that may not, and what to do.
const REFUSALS: [(&str, &str); 5] = [
    ("permission denied", "the user needs the role root"),
    ("authentication failed", "check `auth`"),
    ("authentication is not enabled", "remove `auth`: the cluster has no users"),
    ("user name is empty", "set `auth`: the cluster has authentication enabled"),
    ("user not found", "set `auth`: the cluster has authentication enabled"),
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
    // Codes differ between versions and calls, the words do not.
    if let Some((_, remedy)) = REFUSALS.iter().find(|(word, _)| text.contains(word)) {
        return SourceError::Denied(format!("{text}; {remedy}"));
    }
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => SourceError::Denied(text.to_owned()),
        Code::ResourceExhausted => SourceError::Busy(text.to_owned()),
        _ => SourceError::Unreachable(text.to_owned()),
    }
}
