//! The file as a tree in which every key and value knows its place. Keys given twice, too large, too deep or
//! alias-ridden files end here.

use super::fault::{Faults, Place};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Options, Spanned};
use std::{fmt, sync::Arc};

/// The largest file that is read, in bytes.
pub(crate) const FILE_BYTES_MAX: usize = 4 << 20;
/// How deep maps and lists may nest.
const DEPTH_MAX: usize = 32;
/// Nodes of a file, those repeated by aliases included.
const NODES_MAX: usize = 200_000;

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub value: Value,
    pub place: Place,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone)]
pub(super) struct Key {
    pub text: String,
    pub place: Place,
}

/// Reads one file; what is wrong with it goes to `faults`, and `None` means that no tree could be made of it.
pub(super) fn parse(file: &Arc<str>, bytes: &[u8], faults: &mut Faults) -> Option<Node> {
    let start = Place { file: Arc::clone(file), line: 1, column: 1 };
    if bytes.len() > FILE_BYTES_MAX {
        let text = format!("the file has more than {FILE_BYTES_MAX} bytes");
        faults.wrong(&start, "", text, None);
        return None;
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        faults.wrong(&start, "", "the file is not UTF-8", Some("save it as UTF-8".into()));
        return None;
    };
    match serde_saphyr::from_str_with_options::<Spanned<Loose>>(text, options(DuplicateKeyPolicy::LastWins)) {
        Ok(root) => {
            let node = convert(root, file);
            let before = faults.is_wrong();
            refuse_twice(&node, "", faults);
            if faults.is_wrong() == before {
                // The lenient reading shows all repeated keys at once, save some beside numeric ones: the strict one
                // misses none but stops at the first.
                strictly(file, text, faults);
            }
            Some(node)
        }
        Err(error) => {
            faults.wrong(&place_of(&error, file), "", message(&error), None);
            None
        }
    }
}

fn strictly(file: &Arc<str>, text: &str, faults: &mut Faults) {
    if let Err(error) = serde_saphyr::from_str_with_options::<Loose>(text, options(DuplicateKeyPolicy::Error)) {
        faults.wrong(&place_of(&error, file), "", message(&error), None);
    }
}

fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        strict_booleans: true,
        with_snippet: false,
        reject_unsupported_tags: true,
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_nodes: NODES_MAX },
    }
}

fn place_of(error: &serde_saphyr::Error, file: &Arc<str>) -> Place {
    let (line, column) = error.location().map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
    Place { file: Arc::clone(file), line, column }
}

/// The parser's message without its excerpt, of which a secret could be a part, and without the place, named already.
fn message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    text.split(", set DuplicateKeyPolicy").next().unwrap_or(text).to_owned()
}

/// A key twice in one map is an error at its second place.
fn refuse_twice(node: &Node, path: &str, faults: &mut Faults) {
    match &node.value {
        Value::Map(entries) => {
            for (index, (key, value)) in entries.iter().enumerate() {
                let path = join(path, &key.text);
                if let Some((first, _)) = entries[..index].iter().find(|(other, _)| other.text == key.text) {
                    twice(&path, &first.place, &key.place, faults);
                }
                refuse_twice(value, &path, faults);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                refuse_twice(item, &format!("{path}[{index}]"), faults);
            }
        }
        _ => {}
    }
}

fn twice(path: &str, first: &Place, second: &Place, faults: &mut Faults) {
    let remedy = format!("remove one; the first is at {first}");
    faults.wrong(second, path, "the key is given twice", Some(remedy));
}

/// `storages.local`, or `storages` at the root.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Node {
    /// The entry of a map.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(entry, _)| entry.text == key).map(|(_, node)| node)
    }

    /// The entries of a map; none of anything else.
    pub fn entries(&self) -> &[(Key, Self)] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Self] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// Takes an entry out of a map.
    pub fn take(&mut self, key: &str) -> Option<Self> {
        let Value::Map(entries) = &mut self.value else { return None };
        let index = entries.iter().position(|(entry, _)| entry.text == key)?;
        Some(entries.remove(index).1)
    }

    /// The node at `storages.local.path` or `sources.hub.paths[1]`, or the nearest one above it that exists.
    pub fn nearest(&self, path: &str) -> &Self {
        let mut node = self;
        for step in path.split(['.', '[']).map(|step| step.trim_end_matches(']')) {
            let next = match &node.value {
                Value::List(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
                _ => node.get(step),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// Adds the keys of another file. What is a map in both grows; a key with two values is an error.
    pub fn merge(&mut self, other: Self, path: &str, faults: &mut Faults) {
        let Value::Map(entries) = &mut self.value else {
            return twice(path, &self.place, &other.place, faults);
        };
        let Value::Map(more) = other.value else {
            return twice(path, &self.place, &other.place, faults);
        };
        for (key, node) in more {
            match entries.iter_mut().find(|(entry, _)| entry.text == key.text) {
                Some((_, old)) => old.merge(node, &join(path, &key.text), faults),
                None => entries.push((key, node)),
            }
        }
    }

    /// The same without places.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => serde_json::Value::Object(
                entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect(),
            ),
        }
    }

    /// What kind of value it is, for messages.
    pub fn word(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// What the parser sees, before the file's name is known to each place.
#[derive(Debug)]
enum Loose {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Loose>>),
    Map(Vec<(Spanned<String>, Spanned<Loose>)>),
}

fn convert(loose: Spanned<Loose>, file: &Arc<str>) -> Node {
    let at = |location: serde_saphyr::Location| Place {
        file: Arc::clone(file),
        line: location.line().max(1),
        column: location.column().max(1),
    };
    let place = at(loose.referenced);
    let value = match loose.value {
        Loose::Null => Value::Null,
        Loose::Bool(value) => Value::Bool(value),
        Loose::Integer(value) => Value::Integer(value),
        Loose::Float(value) => Value::Float(value),
        Loose::Text(text) => Value::Text(text),
        Loose::List(items) => Value::List(items.into_iter().map(|item| convert(item, file)).collect()),
        Loose::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| (Key { text: key.value, place: at(key.referenced) }, convert(value, file)))
                .collect(),
        ),
    };
    Node { value, place }
}

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Loose, E> {
        Ok(Loose::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Loose, E> {
        Ok(Loose::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Loose, E> {
        Ok(i64::try_from(value).map_or(Loose::Float(value as f64), Loose::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Loose, E> {
        Ok(Loose::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Loose, E> {
        Ok(Loose::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Loose, E> {
        Ok(Loose::Null)
    }

    fn visit_none<E>(self) -> Result<Loose, E> {
        Ok(Loose::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Loose, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Loose::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Loose::Map(entries))
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    #[track_caller]
    fn check(yaml: &[u8], expected: &[&str]) {
        let mut faults = Faults::default();
        parse(&"f".into(), yaml, &mut faults);
        let seen: Vec<_> = faults.into_sorted().iter().map(ToString::to_string).collect();
        assert_eq!(seen.len(), expected.len(), "{seen:#?}");
        for (seen, expected) in seen.iter().zip(expected) {
            assert!(seen.contains(expected), "{seen}\nlacks {expected}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_accepted() {
        check("\u{feff}version: 1\n".as_bytes(), &[]);
    }

    #[test]
    fn every_key_given_twice_is_named_with_both_places() {
        let yaml = b"sources:\n  hub: 1\n  hub: 2\na:\n  - {x: 1, x: 2}\nsources: 3\n";
        check(
            yaml,
            &[
                "f:3:3: sources.hub: the key is given twice; remove one; the first is at f:2:3",
                "f:5:12: a[0].x",
                "f:6:1: sources",
            ],
        );
    }

    #[test]
    fn a_numeric_key_hides_no_repetition() {
        check(b"1: a\nb: 1\nb: 2\n", &["f:3:1: duplicate mapping key"]);
    }

    #[test]
    fn broken_files_are_refused_with_their_place() {
        check(b"a: [1\n", &["f:1:4: unclosed bracket"]);
        check(b"a: 1\n---\nb: 2\n", &["f:3:1: multiple YAML documents"]);
        check(b"a: \xff\n", &["not UTF-8"]);
        check(&vec![b'#'; FILE_BYTES_MAX + 1], &["more than 4194304 bytes"]);
    }

    #[test]
    fn depth_and_aliases_are_bounded() {
        check(format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000)).as_bytes(), &["f:1:"]);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let _ = writeln!(bomb, "a{level}: &a{level} [{}]", vec![format!("*a{}", level - 1); 10].join(", "));
        }
        check(bomb.as_bytes(), &["f:"]);
    }

    #[test]
    fn words_for_yes_are_text() {
        let node = parse(&"f".into(), b"a: no\nb: true\n", &mut Faults::default()).unwrap();
        assert_eq!(node.get("a").unwrap().text(), Some("no"));
        assert!(matches!(node.get("b").unwrap().value, Value::Bool(true)));
    }
}
