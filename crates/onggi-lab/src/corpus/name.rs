//! Names that break programs: every byte, no text, too long, made to look like something else.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Names for one folder. All are legal on Linux; no two are equal.
pub fn hostile() -> Vec<OsString> {
    let mut names: Vec<Vec<u8>> = PRINTED.iter().map(|name| name.as_bytes().to_vec()).collect();
    names.extend(RAW.iter().map(|name| name.to_vec()));
    names.push(vec![b'l'; 255]);
    names.push("\u{d55c}".repeat(85).into_bytes());
    names.extend((1..=255).filter(|byte| *byte != b'/' && *byte != b'.').map(|byte| vec![byte]));
    names.into_iter().map(OsString::from_vec).collect()
}

const PRINTED: &[&str] = &[
    "quo\"te\\back",
    "a<b>&c",
    "tab\there",
    "new\nline",
    "ls\u{2028}ps\u{2029}",
    "h\u{e9}llo-\u{65e5}\u{672c}",
    "he\u{301}llo",
    "nbsp\u{a0}and\u{feff}bom",
    "\u{202e}txt.exe",
    "emoji \u{1f9c2}",
    "beyond \u{10ffff}",
    "replacement \u{fffd}",
    "-rf",
    "--help",
    "...",
    ".hidden",
    "trailing space ",
    " leading",
    "star*and?",
    "$(reboot)",
    "`id`",
    "%2e%2e%2f",
    "CON",
    "C:\\windows",
    "\\x41",
    "\\u0041",
    "\u{1b}[31mred\u{1b}[0m",
    "bell\u{7}",
    "del\u{7f}",
    "latest:",
];

const RAW: &[&[u8]] = &[
    b"bad\xffname",
    b"\xc3\x28",
    b"\xed\xa0\x80surrogate",
    b"\xf5\x80\x80\x80",
    b"\xc0\xaf",
    b"half\xe2\x82",
    b"\\xff",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn all_are_legal_and_differ() {
        let names = hostile();
        assert!(names.iter().all(|name| (1..=255).contains(&name.len()) && !name.as_bytes().contains(&b'/')));
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}
