//! Names as parts of addresses, and back: `a/b` is `a%2Fb`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All but what RFC 3986 leaves as it is, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as a part of a path or a query.
pub(crate) fn escape(name: &str) -> String {
    utf8_percent_encode(name, RESERVED).to_string()
}

/// What is behind escapes; those that are none stay as they are.
pub(crate) fn unescape(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_and_separates_nothing() {
        assert_eq!(escape("cf-dep/..?"), "cf-dep%2F..%3F");
        assert_eq!(escape("a_b~ é&="), "a_b~%20%C3%A9%26%3D");
        assert_eq!(unescape(&escape("a/b é%")), "a/b é%");
        assert_eq!(unescape("%2Fhome%2Fa b%zz"), "/home/a b%zz");
    }
}
