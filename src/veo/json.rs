//! JSON as it stands in an answer: its texts are borrowed, not copied.
//!
//! A look at a task is answered in some two hundred bytes, twenty times for each video. Reading the
//! fields of one needs no tree of maps and strings; over HTTP one is still made before, to take the
//! secrets out of it (`secrets`), so that this saves most where there are none: in memory. An object of
//! an answer has a handful of fields, so they are searched, not sorted. Where a name comes twice the last
//! counts, as with `serde_json`'s own values.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// Any JSON.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool,
    Number(Number),
    Text(Cow<'a, str>),
    Array(Vec<Self>),
    Object(Vec<(Cow<'a, str>, Self)>),
}

impl<'a> Json<'a> {
    /// What cannot be read is no JSON at all.
    pub(super) fn read(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// A field of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => {
                fields.iter().rev().find_map(|(key, value)| (key == name).then_some(value))
            }
            Self::Null | Self::Bool | Self::Number(_) | Self::Text(_) | Self::Array(_) => None,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool | Self::Number(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }

    pub(super) fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            Self::Null | Self::Bool | Self::Number(_) | Self::Text(_) | Self::Object(_) => &[],
        }
    }

    pub(super) const fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Json<'de>, E> {
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json<'de>, A::Error> {
        let mut object = Vec::new();
        while let Some((Name(name), value)) = fields.next_entry()? {
            object.push((name, value));
        }
        Ok(Json::Object(object))
    }
}

/// The name of a field; a `Cow` by itself is never borrowed.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(AnyName)
    }
}

struct AnyName;

impl<'de> Visitor<'de> for AnyName {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use serde_json::Value;

    /// The same as `serde_json` has it, but for which `bool` it is.
    fn is_same(ours: &Json<'_>, theirs: &Value) -> bool {
        match (ours, theirs) {
            (Json::Null, Value::Null) | (Json::Bool, Value::Bool(_)) => true,
            (Json::Number(ours), Value::Number(theirs)) => ours == theirs,
            (Json::Text(ours), Value::String(theirs)) => ours == theirs,
            (Json::Array(ours), Value::Array(theirs)) => {
                ours.len() == theirs.len()
                    && ours.iter().zip(theirs).all(|(ours, theirs)| is_same(ours, theirs))
            }
            (Json::Object(fields), Value::Object(theirs)) => {
                fields.iter().all(|(name, _)| theirs.contains_key(&**name))
                    && theirs
                        .iter()
                        .all(|(name, theirs)| ours.get(name).is_some_and(|ours| is_same(ours, theirs)))
            }
            _ => false,
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(".{0,4}", inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// What `Json` reads is what `serde_json` reads, or nothing where that reads nothing.
    fn check(text: &[u8]) {
        let shown = String::from_utf8_lossy(&text[..text.len().min(80)]);
        match (Json::read(text), serde_json::from_slice::<Value>(text)) {
            (Some(ours), Ok(theirs)) => assert!(is_same(&ours, &theirs), "{shown}: {ours:?} {theirs:?}"),
            (None, Err(_)) => {}
            (ours, theirs) => panic!("{shown}: {ours:?} {theirs:?}"),
        }
    }

    /// What one reader may take for JSON and another not, or read otherwise; and whether it is JSON.
    const DOUBTFUL: &[(&[u8], bool)] = &[
        (br#"{"a":1,"a":2}"#, true),
        (br#"{"a":1,"b":{"a":3,"a":null},"a":[2]}"#, true),
        (br#"{"a":1,"\u0061":2}"#, true),
        (br#"{"":1,"":2}"#, true),
        (br#""\"\\\/\b\f\n\r\t""#, true),
        (br#""\u0000\u00e9\uFFFF""#, true),
        (br#"{"\u00e9\n":"\u00E9"}"#, true),
        (br#""\ud83d\ude00""#, true),
        (br#""\ud83d""#, false),
        (br#""\ude00\ud83d""#, false),
        (br#""\ud83dx""#, false),
        (br#""\ud83d\u0061""#, false),
        (br#""\ud83d\ud83d""#, false),
        (br#"{"\ud83d":1}"#, false),
        (br#""\u12""#, false),
        (br#""\u12g4""#, false),
        (br#""\x41""#, false),
        (b"\"a\nb\"", false),
        (b"\"a\0b\"", false),
        (b"\"a", false),
        (b"\"a\\", false),
        (b"0", true),
        (b"-0", true),
        (b"-0.0", true),
        (b"01", false),
        (b"+1", false),
        (b"1.", false),
        (b".5", false),
        (b"-", false),
        (b"1e", false),
        (b"1e308", true),
        (b"1e309", false),
        (b"1e999", false),
        (b"-1e999", false),
        (b"1e-999", true),
        (b"18446744073709551615", true),
        (b"18446744073709551616", true),
        (b"-9223372036854775808", true),
        (b"-9223372036854775809", true),
        (b"0.1e1", true),
        (b"NaN", false),
        (b"Infinity", false),
        (b"\"\xff\"", false),
        (b"\"\xc3\"", false),
        (b"\"\xc3\xa9\"", true),
        (b"\"\xed\xa0\xbd\"", false),
        (b"\"\xc0\x80\"", false),
        (b"{\"\xff\":1}", false),
        (b"{\"a\":\"\xff\\n\"}", false),
        (b"\xef\xbb\xbf{}", false),
        (b"{} ", true),
        (b" \t\r\n{}\n", true),
        (b"{}x", false),
        (b"{}{}", false),
        (b"{}\0", false),
        (b"{},", false),
        (b"{\"a\":1,}", false),
        (b"[1,]", false),
        (b"[1 2]", false),
        (b"{\"a\"}", false),
        (b"{1:2}", false),
        (b"{'a':1}", false),
        (b"null", true),
        (b"nul", false),
        (b"nulll", false),
        (b"True", false),
        (b"// a\n1", false),
        (b"", false),
        (b" ", false),
    ];

    fn check_as(text: &[u8], is_json: bool) {
        check(text);
        assert_eq!(Json::read(text).is_some(), is_json, "{}", String::from_utf8_lossy(text));
    }

    #[test]
    fn doubtful_texts_are_read_as_serde_json_reads_them() {
        for (text, is_json) in DOUBTFUL {
            check_as(text, *is_json);
        }
        for (depth, is_json) in [(127, true), (128, false), (100_000, false)] {
            check_as(["[".repeat(depth), "]".repeat(depth)].concat().as_bytes(), is_json);
            check_as([r#"{"a":"#.repeat(depth), "1".into(), "}".repeat(depth)].concat().as_bytes(), is_json);
        }
    }

    /// What is done to JSON to have something that nearly is.
    #[derive(Debug, Clone)]
    enum Change {
        Set(Index, u8),
        Insert(Index, &'static str),
        Remove(Index),
        Cut(Index),
        Repeat(Index, Index),
    }

    const PIECES: [&str; 18] = [
        "\"", "\\", "\\u", "\\ud83d", "\\ude00", "{", "}", "[", "]", ",", ":", "0", "-", ".", "e999", "\n",
        "\0", "null",
    ];

    fn change() -> impl Strategy<Value = Change> {
        let at = any::<Index>;
        prop_oneof![
            (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
            (at(), proptest::sample::select(&PIECES[..])).prop_map(|(at, piece)| Change::Insert(at, piece)),
            at().prop_map(Change::Remove),
            at().prop_map(Change::Cut),
            (at(), at()).prop_map(|(from, to)| Change::Repeat(from, to)),
        ]
    }

    impl Change {
        fn make(&self, text: &mut Vec<u8>) {
            let places = text.len() + 1;
            let old = |at: &Index| at.index(places).min(places.saturating_sub(2));
            match self {
                _ if text.is_empty() => {}
                Self::Set(at, byte) => text[old(at)] = *byte,
                Self::Insert(at, piece) => {
                    drop(text.splice(at.index(places)..at.index(places), piece.bytes()));
                }
                Self::Remove(at) => drop(text.remove(old(at))),
                Self::Cut(at) => text.truncate(at.index(places)),
                Self::Repeat(from, to) => {
                    let (from, to) = (old(from).min(old(to)), old(from).max(old(to)));
                    text.extend_from_within(from..=to);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_nearly_is_json_is_read_as_serde_json_reads_it(
            value in json(),
            changes in proptest::collection::vec(change(), 1..4),
        ) {
            let mut text = value.to_string().into_bytes();
            for change in &changes {
                change.make(&mut text);
                check(&text);
            }
        }

        #[test]
        fn json_is_read_as_serde_json_reads_it(value in json()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                let read: Value = serde_json::from_str(&text).unwrap();
                prop_assert!(is_same(&Json::read(text.as_bytes()).unwrap(), &read), "{}", text);
            }
        }

        #[test]
        fn what_is_no_json_is_none_here_either(text in ".{0,12}", bytes: Vec<u8>) {
            for text in [text.into_bytes(), bytes] {
                prop_assert_eq!(Json::read(&text).is_some(), serde_json::from_slice::<Value>(&text).is_ok());
            }
        }
    }

    #[test]
    fn of_two_fields_of_one_name_the_last_counts_and_plain_texts_are_borrowed() {
        let read = Json::read(br#"{"a":1,"b":"x","a":"\u00e9"}"#).unwrap();
        assert_eq!(read.get("a"), Some(&Json::Text("é".into())));
        assert!(matches!(read.get("b"), Some(Json::Text(Cow::Borrowed("x")))));
        assert_eq!((read.get("c"), Json::Null.get("a"), read.items().len()), (None, None, 0));
    }
}
