//! Checks the tree against the JSON schema of the raw types and reports everything at once: unknown keys with the
//! nearest known one, missing keys, wrong types, unknown kinds.

use super::{
    fault::{Faults, known_here},
    raw::RawConfig,
    tree::{Node, Value, join},
};
use serde_json::{Map, Value as Json};

/// The schema of the configuration file.
pub fn schema() -> Json {
    let mut schema = schemars::schema_for!(RawConfig).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), "onggi configuration".into());
    }
    schema
}

/// Reports what does not fit.
pub(super) fn check(root: &Node, faults: &mut Faults) {
    let schema = schema();
    let definitions = schema.get("$defs").and_then(Json::as_object).cloned().unwrap_or_default();
    Checker { definitions: &definitions, faults }.check(root, &schema, "");
}

struct Checker<'a> {
    definitions: &'a Map<String, Json>,
    faults: &'a mut Faults,
}

impl Checker<'_> {
    fn check(&mut self, node: &Node, schema: &Json, path: &str) {
        let schema = self.resolved(schema).clone();
        let Some(schema) = schema.as_object() else { return };
        if let Some(alternatives) = alternatives(schema) {
            return self.check_alternatives(node, &alternatives, path);
        }
        let Some(expected) = types(schema) else { return };
        if matches!(node.value, Value::Null) {
            let remedy = Some("write a value or remove the key".to_owned());
            return self.faults.wrong(&node.place, path, "the key has no value", remedy);
        }
        if !expected.iter().any(|word| is_of(&node.value, word)) {
            return self.wrong_type(node, &expected, path);
        }
        match &node.value {
            Value::Map(_) => self.check_map(node, schema, path),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let any = Json::Bool(true);
                    self.check(item, schema.get("items").unwrap_or(&any), &format!("{path}[{index}]"));
                }
            }
            Value::Integer(number) => self.check_range(node, *number, schema, path),
            _ => {}
        }
    }

    /// Follows `$ref`.
    fn resolved<'s>(&'s self, schema: &'s Json) -> &'s Json {
        let name = schema.get("$ref").and_then(Json::as_str).and_then(|text| text.strip_prefix("#/$defs/"));
        name.and_then(|name| self.definitions.get(name)).map_or(schema, |found| self.resolved(found))
    }

    /// A map with a `kind`, or one of several types.
    fn check_alternatives(&mut self, node: &Node, alternatives: &[Json], path: &str) {
        let resolved: Vec<Json> = alternatives.iter().map(|one| self.resolved(one).clone()).collect();
        let kinds: Vec<&str> = resolved.iter().filter_map(kind_of).collect();
        if !kinds.is_empty() {
            return self.check_kinds(node, &resolved, &kinds, path);
        }
        let fitting = resolved.iter().find(|one| {
            let nested = one.as_object().and_then(self::alternatives);
            let all = nested.unwrap_or_else(|| vec![(*one).clone()]);
            all.iter()
                .filter_map(|one| self.resolved(one).as_object().and_then(types))
                .flatten()
                .any(|word| is_of(&node.value, &word))
        });
        if let Some(schema) = fitting {
            return self.check(node, schema, path);
        }
        let expected = resolved.iter().filter_map(|one| one.as_object().and_then(types)).flatten();
        let expected: Vec<String> = expected.collect();
        self.wrong_type(node, &expected, path);
    }

    fn check_kinds(&mut self, node: &Node, alternatives: &[Json], kinds: &[&str], path: &str) {
        if !matches!(node.value, Value::Map(_)) {
            return self.wrong_type(node, &["object".to_owned()], path);
        }
        let list = kinds.join(", ");
        let Some(kind) = node.get("kind") else {
            let remedy = format!("add kind, one of: {list}");
            return self.faults.wrong(&node.place, join(path, "kind"), "the key is missing", Some(remedy));
        };
        let text = kind.text().unwrap_or_default();
        if let Some(schema) = alternatives.iter().find(|one| kind_of(one) == Some(text)) {
            return self.check(node, schema, path);
        }
        let remedy = known_here(text, kinds);
        self.faults.wrong(&kind.place, join(path, "kind"), format!("unknown kind {text:?}"), Some(remedy));
    }

    fn check_map(&mut self, node: &Node, schema: &Map<String, Json>, path: &str) {
        let none = Map::new();
        let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&none);
        let others =
            schema.get("additionalProperties").filter(|others| others.is_object() || **others == Json::Bool(true));
        for (key, value) in node.entries() {
            let path = join(path, &key.text);
            match (properties.get(&key.text), others) {
                (Some(schema), _) | (None, Some(schema)) => self.check(value, schema, &path),
                (None, None) => {
                    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                    self.faults.wrong(&key.place, path, "unknown key", Some(known_here(&key.text, &known)));
                }
            }
        }
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        for key in required.filter(|key| node.get(key).is_none()) {
            let about = properties.get(key).and_then(|schema| schema.get("description")).and_then(Json::as_str);
            let remedy =
                about.map_or(format!("add {key}"), |about| format!("add {key}: {}", about.trim_end_matches('.')));
            self.faults.wrong(&node.place, join(path, key), "the key is missing", Some(remedy));
        }
    }

    fn check_range(&mut self, node: &Node, number: i64, schema: &Map<String, Json>, path: &str) {
        let bound = |name| schema.get(name).and_then(Json::as_i64);
        let (low, high) = (bound("minimum").unwrap_or(i64::MIN), bound("maximum").unwrap_or(i64::MAX));
        if !(low..=high).contains(&number) {
            self.faults.wrong(&node.place, path, format!("{number} is not between {low} and {high}"), None);
        }
    }

    fn wrong_type(&mut self, node: &Node, expected: &[String], path: &str) {
        let words: Vec<&str> = expected.iter().filter_map(|word| word_of(word)).collect();
        let wants_text = expected.iter().any(|word| word == "string");
        let is_scalar = matches!(node.value, Value::Integer(_) | Value::Float(_) | Value::Bool(_));
        let remedy = match () {
            () if wants_text && is_scalar => Some("put it in quotes".to_owned()),
            () if expected.iter().any(|word| word == "boolean") => Some("write true or false".to_owned()),
            () => None,
        };
        let text = format!("here stands {}, expected is {}", node.word(), words.join(" or "));
        self.faults.wrong(&node.place, path, text, remedy);
    }
}

/// The schemas of which one must fit, if there are several.
fn alternatives(schema: &Map<String, Json>) -> Option<Vec<Json>> {
    let list = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
    Some(list.iter().filter(|one| one.get("type").and_then(Json::as_str) != Some("null")).cloned().collect())
}

/// The types that a schema allows; none if it allows all.
fn types(schema: &Map<String, Json>) -> Option<Vec<String>> {
    match schema.get("type")? {
        Json::String(one) => Some(vec![one.clone()]),
        Json::Array(several) => Some(
            several.iter().filter_map(Json::as_str).filter(|word| *word != "null").map(ToOwned::to_owned).collect(),
        ),
        _ => None,
    }
}

fn kind_of(schema: &Json) -> Option<&str> {
    schema.get("properties")?.get("kind")?.get("const")?.as_str()
}

fn is_of(value: &Value, word: &str) -> bool {
    match value {
        Value::Null => word == "null",
        Value::Bool(_) => word == "boolean",
        Value::Integer(_) => word == "integer" || word == "number",
        Value::Float(_) => word == "number",
        Value::Text(_) => word == "string",
        Value::List(_) => word == "array",
        Value::Map(_) => word == "object",
    }
}

fn word_of(word: &str) -> Option<&'static str> {
    Some(match word {
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "text",
        "array" => "a list",
        "object" => "a map",
        _ => return None,
    })
}
