//! File names as Go's `strconv.Quote` writes them, without the outer quotes. Every byte string has exactly one form and
//! comes back from it.

use super::fault::{FormatError, Result};
use std::borrow::Cow;

/// The quoted form of a name's bytes.
pub(super) fn quote(name: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(name) {
        Ok(text) if text.chars().all(|c| c != '"' && c != '\\' && is_printable(c)) => Cow::Borrowed(text),
        _ => Cow::Owned(quote_slowly(name)),
    }
}

fn quote_slowly(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    for chunk in name.utf8_chunks() {
        chunk.valid().chars().for_each(|c| quote_char(c, &mut out));
        chunk.invalid().iter().for_each(|&byte| escape(&mut out, 'x', 2, byte.into()));
    }
    out
}

fn quote_char(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        _ if is_printable(c) => out.push(c),
        '\0'..=' ' | '\x7f' => escape(out, 'x', 2, c.into()),
        '\0'..='\u{ffff}' => escape(out, 'u', 4, c.into()),
        _ => escape(out, 'U', 8, c.into()),
    }
}

fn escape(out: &mut String, letter: char, digits: u32, number: u32) {
    out.extend(['\\', letter]);
    let nibbles = (0..digits).rev().map(|digit| (number >> (4 * digit)) & 15);
    out.extend(nibbles.filter_map(|nibble| char::from_digit(nibble, 16)));
}

/// Go's `IsPrint`: a letter, mark, number, punctuation, symbol, or the ASCII space.
///
/// The standard library holds the same table for `escape_debug`: it escapes exactly the other categories (Cc, Cf, Cs, Co,
/// Cn, Zl, Zp, Zs but the space). In a string it treats combining marks differently only at the start, so one letter
/// goes before the tested character. This spares a crate or a table of 700 ranges.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    let mut buffer = [b'a'; 5];
    let length = 1 + c.encode_utf8(&mut buffer[1..]).len();
    let text = std::str::from_utf8(&buffer[..length]).expect("an ASCII letter and one character");
    text.escape_debug().nth(1) == Some(c)
}

/// The bytes of a quoted name.
pub(super) fn unquote(text: &str) -> Result<Cow<'_, [u8]>> {
    let Some(first) = text.find('\\') else { return Ok(Cow::Borrowed(text.as_bytes())) };
    let mut out = text.as_bytes()[..first].to_vec();
    let mut rest = &text[first..];
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = unescape(&rest[at + 1..], &mut out)
            .ok_or_else(|| FormatError::invalid("tree", "a name has a bad escape"))?;
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(Cow::Owned(out))
}

/// Takes one escape, after its backslash, and returns what follows it.
fn unescape<'a>(text: &'a str, out: &mut Vec<u8>) -> Option<&'a str> {
    let letter = *text.as_bytes().first()?;
    let simple = match letter {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' | b'\'' => letter,
        b'x' => return byte(text.get(1..3)?, 16, out).and(text.get(3..)),
        b'0'..=b'7' => return byte(text.get(..3)?, 8, out).and(text.get(3..)),
        b'u' => return character(text.get(1..5)?, out).and(text.get(5..)),
        b'U' => return character(text.get(1..9)?, out).and(text.get(9..)),
        _ => return None,
    };
    out.push(simple);
    text.get(1..)
}

fn byte(digits: &str, radix: u32, out: &mut Vec<u8>) -> Option<()> {
    out.push(u8::try_from(number(digits, radix)?).ok()?);
    Some(())
}

fn character(digits: &str, out: &mut Vec<u8>) -> Option<()> {
    let c = char::from_u32(number(digits, 16)?)?;
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}

fn number(digits: &str, radix: u32) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| u32::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(name: &[u8], quoted: &str) {
        assert_eq!(quote(name), quoted);
        assert_eq!(&*unquote(quoted).unwrap(), name);
    }

    #[test]
    fn names_are_quoted_as_go_does() {
        check(b"plain name.txt", "plain name.txt");
        check(b"bad\xffname", "bad\\xffname");
        check(b"quo\"te\\back", "quo\\\"te\\\\back");
        check(b"a<b>&c'", "a<b>&c'");
        check(b"\x07\x08\x0c\n\r\t\x0b\x00\x1f\x7f", "\\a\\b\\f\\n\\r\\t\\v\\x00\\x1f\\x7f");
        check("h\u{e9}llo-\u{65e5}\u{672c}".as_bytes(), "h\u{e9}llo-\u{65e5}\u{672c}");
        check("ls\u{2028}ps".as_bytes(), "ls\\u2028ps");
        check("\u{a0}\u{ad}\u{feff}\u{3000}\u{200b}".as_bytes(), "\\u00a0\\u00ad\\ufeff\\u3000\\u200b");
        check("\u{80}\u{e000}\u{10ffff}\u{e0001}".as_bytes(), "\\u0080\\ue000\\U0010ffff\\U000e0001");
        check("e\u{301}\u{301}\u{fffd}\u{1f600}\u{e0100}".as_bytes(), "e\u{301}\u{301}\u{fffd}\u{1f600}\u{e0100}");
        check(b"\xed\xa0\x80\xe2\x80", "\\xed\\xa0\\x80\\xe2\\x80");
    }

    #[test]
    fn octal_and_other_escapes_are_read() {
        assert_eq!(&*unquote("\\377\\000\\'").unwrap(), b"\xff\0'");
        for bad in
            ["\\", "\\x", "\\x1", "\\xg0", "\\400", "\\08", "\\ud800", "\\U00110000", "\\q", "\\x+1", "\\x1\u{e9}"]
        {
            assert!(unquote(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in any::<Vec<u8>>(), text in any::<String>()) {
            for name in [name.as_slice(), text.as_bytes()] {
                let quoted = quote(name);
                prop_assert_eq!(&*unquote(&quoted).unwrap(), name);
            }
        }

        #[test]
        fn arbitrary_texts_never_panic(text in "[\\\\xuU0-9a-f\u{e9}]{0,12}") {
            let _ = unquote(&text);
        }
    }
}
