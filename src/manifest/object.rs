//! One JSON object to cells, keys in their order.
//!
//! A text is its contents, `null` is blank, anything else stays the JSON it was written as: a
//! parsed and printed number would not be the same text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A value of an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// As a cell shows it.
    pub(super) text: String,
    /// An array or an object.
    pub(super) nested: bool,
}

/// The keys and values of an object, each key once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Object(pub(super) Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut entries = Vec::new();
        let mut keys = std::collections::HashSet::new();
        while let Some((key, raw)) = map.next_entry::<String, &'de RawValue>()? {
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("the key `{key}` is there twice")));
            }
            entries.push((key, value(raw.get()).map_err(A::Error::custom)?));
        }
        Ok(Object(entries))
    }
}

fn value(json: &str) -> Result<Value, serde_json::Error> {
    Ok(match json.as_bytes().first() {
        Some(b'"') => Value { text: serde_json::from_str(json)?, nested: false },
        Some(b'n') => Value { text: String::new(), nested: false },
        first => Value { text: json.to_owned(), nested: matches!(first, Some(b'[' | b'{')) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_text_and_keys_their_order() {
        let line = r#"{"z":"a\nbé","a":1.10,"m":null,"b":true,"l":["x", 1],"o":{"b":1,"a":2},"n":123456789012345678901234}"#;
        let Object(entries) = serde_json::from_str(line).unwrap();
        let shown: Vec<_> =
            entries.iter().map(|(key, value)| (key.as_str(), value.text.as_str(), value.nested)).collect();
        assert_eq!(
            shown,
            [
                ("z", "a\nbé", false),
                ("a", "1.10", false),
                ("m", "", false),
                ("b", "true", false),
                ("l", r#"["x", 1]"#, true),
                ("o", r#"{"b":1,"a":2}"#, true),
                ("n", "123456789012345678901234", false),
            ]
        );
    }

    #[test]
    fn other_json_is_refused() {
        for line in
            ["[]", "1", "\"a\"", "null", "{", "{\"a\":}", "{} {}", r#"{"a":1,"a":2}"#, r#"{"a":"\ud800"}"#]
        {
            assert!(serde_json::from_str::<Object>(line).is_err(), "{line}");
        }
    }
}
