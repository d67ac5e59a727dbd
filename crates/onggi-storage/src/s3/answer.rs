//! Pure: what a service's refusal means. Turns statuses, S3 error codes and connection errors into the decisions of
//! [`StorageError`].

use crate::{Handle, StorageError};
use http::{HeaderMap, StatusCode};
use std::{error::Error, fmt, sync::Arc};

/// Why a call to the service gave nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Failure {
    /// It answered, and the answer is no.
    #[error(transparent)]
    Answer(Answer),
    /// No whole answer arrived.
    #[error("connection failed")]
    Transport(#[source] Arc<reqwest::Error>),
    /// Nothing moved for too long.
    #[error("nothing moved for {0} seconds")]
    Stalled(u64),
    /// The answer has more bytes than asked for.
    #[error("answer is longer than it may be")]
    TooLong,
    /// A listing was asked for and something else came, as from a proxy's log-in page.
    #[error("answer is not a listing")]
    NotAList,
    /// The answer makes no sense.
    #[error("answer is malformed")]
    Malformed(#[source] Arc<opendal::Error>),
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The S3 error code, empty if there is none.
    pub(super) code: String,
    message: String,
    advice: Option<String>,
    retry_after_seconds: Option<u64>,
}

impl Error for Answer {}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service answers {}", self.status.as_u16())?;
        for text in [&self.code, &self.message].into_iter().filter(|text| !text.is_empty()) {
            write!(f, " {text}")?;
        }
        self.advice.as_ref().map_or(Ok(()), |advice| write!(f, " ({advice})"))
    }
}

impl Answer {
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, text: &str) -> Self {
        let code = element(text, "Code").unwrap_or_default();
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let region = header("x-amz-bucket-region").map(Into::into).or_else(|| element(text, "Region"));
        Self {
            status,
            advice: advice(status, &code, region.as_deref(), header("location")),
            message: element(text, "Message").unwrap_or_default(),
            retry_after_seconds: header("retry-after").and_then(|after| seconds_until(after.trim(), header("date"))),
            code,
        }
    }

    /// A conditional write met an existing file, or another write of the same name.
    pub(super) fn is_conflict(&self) -> bool {
        self.status == StatusCode::PRECONDITION_FAILED || self.status == StatusCode::CONFLICT
    }

    /// The service does not know conditional writes.
    pub(super) fn is_unknown_condition(&self) -> bool {
        self.status == StatusCode::NOT_IMPLEMENTED || self.code == "NotImplemented" || self.code == "InvalidArgument"
    }

    fn is_held_by_lock(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        self.code == "ObjectLocked" || message.contains("worm protected") || message.contains("object lock")
    }

    fn is_full(&self) -> bool {
        const CODES: [&str; 4] =
            ["QuotaExceeded", "QuotaExceededException", "XMinioStorageFull", "InsufficientStorage"];
        self.status == StatusCode::INSUFFICIENT_STORAGE || CODES.contains(&self.code.as_str())
    }

    fn is_busy(&self) -> bool {
        const CODES: [&str; 4] = ["SlowDown", "TooManyRequests", "RequestLimitExceeded", "OperationAborted"];
        matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            || CODES.contains(&self.code.as_str())
    }

    /// The bytes were damaged or cut on their way, or the service stumbled: the same call may succeed.
    fn is_passing(&self) -> bool {
        const CODES: [&str; 6] = [
            "BadDigest",
            "InvalidDigest",
            "IncompleteBody",
            "RequestTimeout",
            "XAmzContentSHA256Mismatch",
            "XAmzContentChecksumMismatch",
        ];
        self.status.is_server_error()
            || self.status == StatusCode::REQUEST_TIMEOUT
            || self.status.as_u16() == 499
            || CODES.contains(&self.code.as_str())
    }

    fn into_storage(self, handle: Option<&Handle>, place: &str) -> StorageError {
        match handle {
            _ if self.code == "NoSuchBucket" => StorageError::NoPlace(place.into()),
            Some(handle) if self.status == StatusCode::NOT_FOUND => StorageError::NotFound(handle.clone()),
            None if self.status == StatusCode::NOT_FOUND => StorageError::NoPlace(place.into()),
            Some(handle) if self.is_held_by_lock() => StorageError::Immutable(handle.clone()),
            _ if self.is_full() => StorageError::Full(self.into()),
            _ if self.is_busy() => StorageError::Busy(self.retry_after_seconds, self.into()),
            _ if self.is_passing() => StorageError::Faulty(self.into()),
            // What is left is a refusal that no repetition changes.
            _ => StorageError::Denied(self.into()),
        }
    }
}

impl Failure {
    pub(super) fn transport(error: reqwest::Error) -> Self {
        Self::Transport(Arc::new(error))
    }

    /// Whether the service may have done it nevertheless.
    pub(super) fn is_ambiguous(&self) -> bool {
        match self {
            Self::Answer(answer) => answer.is_passing() || answer.is_busy(),
            Self::Transport(error) => !error.is_connect(),
            Self::Stalled(_) | Self::TooLong | Self::NotAList | Self::Malformed(_) => true,
        }
    }

    /// The decision for the caller; `handle` is the file in question, `place` the storage's name.
    pub(super) fn into_storage(self, handle: Option<&Handle>, place: &str) -> StorageError {
        match self {
            Self::Answer(answer) => answer.into_storage(handle, place),
            Self::Transport(error) if is_identity(&error) => StorageError::Identity(Box::new(Self::Transport(error))),
            Self::Transport(_) | Self::Stalled(_) => StorageError::Unreachable(Box::new(self)),
            Self::TooLong | Self::NotAList | Self::Malformed(_) => StorageError::Faulty(Box::new(self)),
        }
    }
}

/// Whether the handshake failed: a wrong certificate, another protocol, a downgrade. Waiting does not cure it.
fn is_identity(error: &reqwest::Error) -> bool {
    let mut causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |error| cause(*error));
    error.is_connect() && causes.any(<dyn Error>::is::<rustls::Error>)
}

/// The next cause; an I/O error that wraps another does not show it as its source.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn advice(status: StatusCode, code: &str, region: Option<&str>, location: Option<&str>) -> Option<String> {
    const REGION_CODES: [&str; 3] =
        ["AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"];
    match region {
        Some(region) if status.is_redirection() || REGION_CODES.contains(&code) => {
            return Some(format!("the bucket is in region {region}: set region to it"));
        }
        None if REGION_CODES.contains(&code) => {
            return Some("the bucket is in another region: set region to its own".into());
        }
        _ => {}
    }
    match code {
        "RequestTimeTooSkewed" => Some("the clocks of this machine and the service differ".into()),
        _ if status.is_redirection() => {
            Some(format!("redirects are refused; it leads to {}", location.unwrap_or("nowhere")))
        }
        _ => None,
    }
}

/// What `Retry-After` asks for: seconds, or an instant, which is measured from the answer's own date.
fn seconds_until(retry_after: &str, date: Option<&str>) -> Option<u64> {
    let instant = |text| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
    retry_after.parse().ok().or_else(|| {
        let wait = instant(retry_after)?.duration_since(instant(date?)?);
        u64::try_from(wait.as_secs()).ok()
    })
}

/// The text of the first such element. Error answers are flat, and a wrong one costs no more than a vague message, so
/// this is no XML parser.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    Some(plain.iter().fold(content.trim().to_owned(), |text, (entity, sign)| text.replace(entity, sign)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileId, FileType};

    #[test]
    fn a_file_that_is_not_there_is_not_found_and_a_bucket_is_no_place() {
        check(404, "", "", "pack 07070707 does not exist");
        check(404, "<Code>NoSuchKey</Code>", "", "pack 07070707 does not exist");
        check(404, "<Code>NoSuchBucket</Code>", "", "storage place s3:host/bucket does not exist");
    }

    #[test]
    fn refusals_of_identity_and_rights_are_final() {
        let because = "storage refuses access: service answers 403 SignatureDoesNotMatch wrong <key>";
        check(403, "<Code>SignatureDoesNotMatch</Code><Message>wrong &lt;key&gt;</Message>", "", because);
        check(401, "", "", "storage refuses access: service answers 401");
        check(405, "", "", "storage refuses access: service answers 405");
    }

    #[test]
    fn a_wrong_region_names_the_right_one() {
        let advice = "(the bucket is in region eu-north-1: set region to it)";
        let text = "<Code>AuthorizationHeaderMalformed</Code><Region>eu-north-1</Region>";
        check(
            400,
            text,
            "",
            &format!("storage refuses access: service answers 400 AuthorizationHeaderMalformed {advice}"),
        );
        check(
            301,
            "",
            "x-amz-bucket-region: eu-north-1",
            &format!("storage refuses access: service answers 301 {advice}"),
        );
    }

    #[test]
    fn a_redirect_to_another_host_is_refused() {
        let because = "service answers 307 (redirects are refused; it leads to http://other/)";
        check(307, "", "location: http://other/", &format!("storage refuses access: {because}"));
    }

    #[test]
    fn overload_is_busy_with_the_time_asked_for() {
        check(503, "<Code>SlowDown</Code>", "retry-after: 7", "storage is busy (7): service answers 503 SlowDown");
        check(429, "", "", "storage is busy: service answers 429");
    }

    #[test]
    fn stumbles_are_faults() {
        for status in [500, 502, 504, 408, 499] {
            check(status, "", "", &format!("storage failed: service answers {status}"));
        }
        check(400, "<Code>BadDigest</Code>", "", "storage failed: service answers 400 BadDigest");
    }

    #[test]
    fn quota_is_full_and_a_lock_is_immutable() {
        check(403, "<Code>QuotaExceeded</Code>", "", "storage is full: service answers 403 QuotaExceeded");
        check(507, "", "", "storage is full: service answers 507");
        let held = "<Code>AccessDenied</Code><Message>Access Denied because object protected by object lock.</Message>";
        check(403, held, "", "pack 07070707 is locked against deletion");
    }

    #[test]
    fn retry_after_is_seconds_or_an_instant() {
        let date = Some("Tue, 01 Sep 2026 12:00:00 GMT");
        assert_eq!(seconds_until("120", None), Some(120));
        assert_eq!(seconds_until("Tue, 01 Sep 2026 12:00:30 GMT", date), Some(30));
        assert_eq!(seconds_until("Tue, 01 Sep 2026 11:00:00 GMT", date), None);
        assert_eq!(seconds_until("soon", date), None);
    }

    #[track_caller]
    fn check(status: u16, text: &str, header: &str, expected: &str) {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header.split_once(": ") {
            headers.insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        let handle = Handle::new(FileType::Pack, FileId([7; 32]));
        let answer = Answer::new(StatusCode::from_u16(status).unwrap(), &headers, text);
        let error = Failure::Answer(answer).into_storage(Some(&handle), "s3:host/bucket");
        let wait = match error {
            StorageError::Busy(Some(seconds), _) => format!(" ({seconds})"),
            _ => String::new(),
        };
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        let seen = format!("{error}{wait}{cause}");
        assert_eq!(seen, expected);
    }
}
