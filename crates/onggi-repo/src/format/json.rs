//! JSON exactly as Go's `encoding/json` writes it: no spaces, keys in the given order, `<`, `>`, `&`, U+2028 and
//! U+2029 escaped. Trees written here are then byte-equal to restic's, and their directories deduplicate.

use serde_json::Value;
use std::fmt::{Display, Write as _};

/// The keys of an object that this version does not know, kept when the object is written again.
pub type Unknown = serde_json::Map<String, Value>;

/// Writes one object; keys come in the order of the calls.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    separator: u8,
}

impl<'a> Object<'a> {
    pub(super) fn open(out: &'a mut Vec<u8>) -> Self {
        Self { out, separator: b'{' }
    }

    /// Starts a field of the format, whose name needs no escape; the caller writes its value to the buffer.
    pub(super) fn key(&mut self, key: &'static str) -> &mut Vec<u8> {
        self.out.extend_from_slice(&[self.separator, b'"']);
        self.separator = b',';
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    pub(super) fn string(&mut self, key: &'static str, text: impl AsRef<[u8]>) {
        write_string(self.key(key), text.as_ref());
    }

    /// A field left out when empty.
    pub(super) fn string_if_any(&mut self, key: &'static str, text: &str) {
        if !text.is_empty() {
            self.string(key, text);
        }
    }

    /// A value whose text needs no escape: an id, a time.
    pub(super) fn plain(&mut self, key: &'static str, value: impl Display) {
        write_plain(self.key(key), value);
    }

    pub(super) fn number(&mut self, key: &'static str, number: u64) {
        write_number(self.key(key), number);
    }

    /// A field left out when zero.
    pub(super) fn number_if_any(&mut self, key: &'static str, number: u64) {
        if number != 0 {
            self.number(key, number);
        }
    }

    pub(super) fn list<T>(&mut self, key: &'static str, items: &[T], write: impl FnMut(&mut Vec<u8>, &T)) {
        write_list(self.key(key), items, write);
    }

    pub(super) fn unknown(&mut self, unknown: &Unknown) {
        for (key, value) in unknown {
            self.out.push(self.separator);
            self.separator = b',';
            write_string(self.out, key.as_bytes());
            self.out.push(b':');
            write_value(self.out, value);
        }
    }

    pub(super) fn close(self) {
        if self.separator == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }
}

pub(super) fn write_list<T>(out: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

pub(super) fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

pub(super) fn write_plain(out: &mut Vec<u8>, value: impl Display) {
    out.push(b'"');
    write_display(out, value);
    out.push(b'"');
}

fn write_display(out: &mut Vec<u8>, value: impl Display) {
    struct Sink<'a>(&'a mut Vec<u8>);
    impl std::fmt::Write for Sink<'_> {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    write!(Sink(out), "{value}").expect("a vector takes everything");
}

/// Writes bytes as a string; each byte that is not UTF-8 becomes `\ufffd`.
pub(super) fn write_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    if let Ok(text) = std::str::from_utf8(bytes) {
        write_text(out, text);
        return out.push(b'"');
    }
    for chunk in bytes.utf8_chunks() {
        write_text(out, chunk.valid());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x08 => b"\\b",
            0x0c => b"\\f",
            b'<' => b"\\u003c",
            b'>' => b"\\u003e",
            b'&' => b"\\u0026",
            0..0x20 => &[b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), b"0123456789abcdef"[usize::from(byte & 15)]],
            // U+2028 and U+2029 are e2 80 a8 and e2 80 a9.
            0xa8 if bytes[..at].ends_with(b"\xe2\x80") => b"\\u2028",
            0xa9 if bytes[..at].ends_with(b"\xe2\x80") => b"\\u2029",
            _ => continue,
        };
        let length = if byte >= 0x80 { 3 } else { 1 };
        out.extend_from_slice(&bytes[written..at + 1 - length]);
        out.extend_from_slice(escape);
        written = at + 1;
    }
    out.extend_from_slice(&bytes[written..]);
}

pub(super) fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(value) => write_display(out, value),
        Value::Number(number) => write_display(out, number),
        Value::String(text) => write_string(out, text.as_bytes()),
        Value::Array(items) => write_list(out, items, write_value),
        Value::Object(fields) => {
            let mut object = Object::open(out);
            object.unknown(fields);
            object.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let mut out = Vec::new();
        write_string(&mut out, bytes);
        assert_eq!(String::from_utf8(out).unwrap(), format!("\"{expected}\""));
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        check(b"", "");
        check(b"a<b>&c", "a\\u003cb\\u003e\\u0026c");
        check(b"\"\\\n\r\t\x08\x0c", "\\\"\\\\\\n\\r\\t\\b\\f");
        check(b"\x00\x1f\x7f", "\\u0000\\u001f\x7f");
        check("ls\u{2028}ps\u{2029}".as_bytes(), "ls\\u2028ps\\u2029");
        check("\u{2027}\u{a8}h\u{e9}llo-\u{65e5}".as_bytes(), "\u{2027}\u{a8}h\u{e9}llo-\u{65e5}");
        check(b"bad\xff", "bad\\ufffd");
        check(b"\xe2\x80", "\\ufffd\\ufffd");
    }

    #[test]
    fn an_object_keeps_the_order_of_its_fields() {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.number("b", 2);
        object.number_if_any("none", 0);
        object.string("a", "x");
        let unknown = serde_json::from_str(r#"{"z":[1,{"<":null}],"y":true}"#).unwrap();
        object.unknown(&unknown);
        object.close();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"b":2,"a":"x","z":[1,{"\u003c":null}],"y":true}"#);
        let mut out = Vec::new();
        Object::open(&mut out).close();
        assert_eq!(out, b"{}");
    }

    proptest! {
        #[test]
        fn every_text_is_read_back(text in any::<String>()) {
            let mut out = Vec::new();
            write_string(&mut out, text.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
