//! Foreign strings at the rim: file names, host names, tags, messages of others.
//!
//! Nothing that could move the cursor, change colors or reorder text reaches a terminal or a log. A name that needs it
//! is shown in the shell's `$'…'` form, which is unambiguous and can be pasted; all others are shown as they are.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

/// Shows bytes that came from elsewhere.
pub fn escape(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !needs_quotes(text) => Cow::Borrowed(text),
        _ => Cow::Owned(quote(bytes)),
    }
}

/// Shows text that came from elsewhere.
pub fn escape_text(text: &str) -> Cow<'_, str> {
    escape(text.as_bytes())
}

/// Shows prose of another program or library on one line: what is not printable becomes its escape, without quotes.
pub fn escape_prose(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    text.chars().for_each(|char| push_char(&mut out, char, false));
    Cow::Owned(out)
}

fn needs_quotes(text: &str) -> bool {
    text.starts_with("$'") || text.chars().any(is_unsafe)
}

/// Whether a character is not simply shown: controls, and what changes the order or hides in text.
fn is_unsafe(char: char) -> bool {
    char.is_control() || is_invisible(char)
}

/// Characters that reorder, separate lines or show nothing.
fn is_invisible(char: char) -> bool {
    matches!(
        char,
        '\u{061c}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    out.push_str("$'");
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|char| push_char(&mut out, char, true));
        for byte in chunk.invalid() {
            push_hex(&mut out, *byte);
        }
    }
    out.push('\'');
    out
}

fn push_char(out: &mut String, char: char, quoted: bool) {
    match char {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        '\'' if quoted => out.push_str("\\'"),
        '\\' if quoted => out.push_str("\\\\"),
        char if is_unsafe(char) => char.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_hex(out, byte)),
        char => out.push(char),
    }
}

fn push_hex(out: &mut String, byte: u8) {
    write!(out, "\\x{byte:02x}").expect("a string takes everything");
}

/// Prints JSON on one line in which no character can act on a terminal. The meaning stays the same.
pub fn to_json(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Inert);
    value.serialize(&mut serializer).expect("messages have text keys and no failing parts");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// serde's compact form, with unsafe characters as `\u` escapes.
struct Inert;

impl Formatter for Inert {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if !fragment.chars().any(is_unsafe) {
            return writer.write_all(fragment.as_bytes());
        }
        for char in fragment.chars() {
            if is_unsafe(char) {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                write!(writer, "{char}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(escape(bytes), expected);
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        check(b"report.odt", "report.odt");
        check("보고서 2026.hwp".as_bytes(), "보고서 2026.hwp");
        check(b"dev-disk\\x2dby.device", "dev-disk\\x2dby.device");
    }

    #[test]
    fn control_characters_are_shown_in_the_shells_form() {
        check(b"a\nb", r"$'a\nb'");
        check(b"\x1b]0;owned\x07", r"$'\x1b]0;owned\x07'");
        check(b"it's\t\\", r"$'it\'s\t\\'");
    }

    #[test]
    fn invalid_utf8_keeps_its_bytes() {
        check(b"caf\xe9", r"$'caf\xe9'");
    }

    #[test]
    fn text_that_reorders_is_shown_as_bytes() {
        check("a\u{202e}fdp.exe".as_bytes(), r"$'a\xe2\x80\xaefdp.exe'");
        check("\u{9b}31m".as_bytes(), r"$'\xc2\x9b31m'");
    }

    #[test]
    fn a_name_that_looks_quoted_is_quoted() {
        check(b"$'x'", r"$'$\'x\''");
    }

    #[test]
    fn prose_keeps_one_line_and_no_quotes() {
        assert_eq!(escape_prose("it's\n\x1b[31mred"), r"it's\n\x1b[31mred");
    }

    #[test]
    fn json_means_the_same_and_is_inert() {
        let text = "a\u{202e}b\u{9b}c\u{e0001}\n";
        let json = to_json(&text);
        assert_eq!(json, r#""a\u202eb\u009bc\udb40\udc01\n""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
