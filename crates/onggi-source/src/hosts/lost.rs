//! What the host says is wrong, in the words of the report.

use std::io;

use onggi_node::{Lost, Time};

use crate::context::Problem;
use crate::path::TreePath;

/// The stable word.
pub(super) fn class(lost: Lost) -> &'static str {
    match lost {
        Lost::REFUSED => "denied",
        Lost::REPLACED => "changed",
        Lost::TOO_MANY => "too-many",
        Lost::TOO_DEEP => "too-deep",
        Lost::TOO_SLOW => "slow",
        Lost::LOOP => "loop",
        Lost(code) => match code {
            2 => "vanished",
            1 | 13 => "denied",
            20 | 40 => "changed", // another kind of thing has taken the name
            107 | 110 | 112 | 113 | 116 => "stale-mount",
            _ => "io",
        },
    }
}

/// What went wrong, for people.
pub(super) fn text(lost: Lost) -> String {
    match lost {
        Lost::REFUSED => "the host's own list does not allow it".to_owned(),
        Lost::REPLACED => "something else lies there now".to_owned(),
        Lost::TOO_MANY => "it has more names than the program's memory holds".to_owned(),
        Lost::TOO_DEEP => "its path is too long".to_owned(),
        Lost::TOO_SLOW => "it took too long".to_owned(),
        Lost::LOOP => "the directory is mounted again below itself".to_owned(),
        Lost(code) => {
            let text = io::Error::from_raw_os_error(code.cast_signed()).to_string();
            let end = text.find(" (os error").unwrap_or(text.len());
            text[..end].to_lowercase()
        }
    }
}

/// As a problem of an item.
pub(super) fn problem(lost: Lost, path: &TreePath) -> Problem {
    Problem { class: class(lost), path: Some(path.clone()), text: text(lost) }
}

/// Clamped to what can be told.
pub(super) fn timestamp(time: Time) -> jiff::Timestamp {
    let clamped = if time.seconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::new(time.seconds, time.nanoseconds.cast_signed()).unwrap_or(clamped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_system_have_stable_words() {
        for (code, expected) in [(2, "vanished"), (13, "denied"), (5, "io"), (116, "stale-mount"), (100_002, "changed")]
        {
            assert_eq!(class(Lost(code)), expected);
        }
        assert_eq!(text(Lost(13)), "permission denied");
    }
}
