//! A submission's body, read as strictly as the API documents it.
//!
//! The rules are written out here a second time, apart from `generation`, on purpose: a mistake in
//! the client's rules must meet a 400, not a simulator that makes the same mistake. Unknown fields
//! are ignored, as the live service seems to do; `null` is the same as absent.

use std::fmt;

use serde::de::IntoDeserializer;
use serde::de::value::{Error as WordError, StrDeserializer};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::fate::{FailCode, Marker};
use crate::generation::{
    AspectRatio, Draft, Generation, GenerationType, LONGEST_PROMPT, MOST_FRAMES, MOST_REFERENCES, Mode,
    Provider,
};

/// Longest body the simulator reads, in bytes: a prompt of 10,000 characters is at most 120 kB even
/// when each is escaped.
pub const LONGEST_BODY: usize = 1024 * 1024;

/// What a request asks for, as a number: the same for the same `input` and `provider`, whatever the
/// order of fields or the spelling of JSON, and so the name under which purchases are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestHash(pub(super) u64);

impl fmt::Display for RequestHash {
    /// 16 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for RequestHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The number under which the simulator counts purchases of `generation`.
#[must_use]
pub fn request_hash(generation: &Generation) -> RequestHash {
    hash(generation.draft())
}

/// An empty watermark is none. Every part goes in with its length, so that no two requests run
/// together.
fn hash(draft: &Draft) -> RequestHash {
    let seed = draft.seed.map(|seed| seed.to_string()).unwrap_or_default();
    let parts = [
        draft.generation_type.as_str(),
        draft.mode.as_str(),
        draft.aspect_ratio.as_str(),
        draft.provider.map_or("", Provider::as_str),
        &seed,
        draft.watermark.as_deref().unwrap_or_default(),
        &draft.prompt,
    ];
    let mut hasher = blake3::Hasher::new();
    for part in parts.into_iter().chain(draft.image_urls.iter().map(String::as_str)) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    RequestHash(u64::from_le_bytes(first))
}

/// A submission that breaks no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) hash: RequestHash,
    pub(super) mode: Mode,
    pub(super) marker: Option<Marker>,
}

/// What a submission says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Submission {
    pub(super) request: Request,
    /// Who wants to be told of the end of its task.
    pub(super) callback_url: Option<String>,
}

/// Reads a submission.
///
/// # Errors
///
/// The first rule it breaks, in words for `data.error`; never any text of the body.
pub(super) fn read(body: &[u8]) -> Result<Submission, String> {
    if body.len() > LONGEST_BODY {
        return Err("Request body exceeds 1 MiB".into());
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| "Request body is not valid JSON")?;
    let top = Fields::of("", &body)?;
    let callback_url = callback_url(&top)?.map(str::to_owned);
    let provider = top.word("provider")?;
    let input = Fields::of("input.", top.required("input")?)?;
    let draft = Draft {
        mode: input.required_word("mode")?,
        prompt: input.required_text("prompt")?.to_owned(),
        generation_type: input.required_word("generationType")?,
        image_urls: input.texts("image_urls")?,
        aspect_ratio: input.word("aspect_ratio")?.unwrap_or(AspectRatio::Landscape),
        watermark: input.text("watermark")?.map(str::to_owned),
        seed: input.whole_number("seed")?,
        provider,
    };
    input.boolean("enableTranslation")?;
    check_rules(&draft)?;
    let marker = Marker::find(&draft.prompt)?;
    let request = Request { hash: hash(&draft), mode: draft.mode, marker };
    Ok(Submission { request, callback_url })
}

/// The address to call back, if the submission asks for that; one that is there without is ignored.
fn callback_url<'a>(top: &Fields<'a>) -> Result<Option<&'a str>, String> {
    match (top.text("request_type")?, top.text("callback_url")?) {
        (Some("callback"), None) => Err("Missing required field: callback_url".into()),
        (Some("callback"), Some(url)) if !url.starts_with("https://") && !url.starts_with("http://") => {
            Err("Invalid value for callback_url: not a URL".into())
        }
        (None | Some("async"), _) => Ok(None),
        (Some("callback"), url @ Some(_)) => Ok(url),
        (Some(_), _) => Err("Invalid value for request_type".into()),
    }
}

fn check_rules(draft: &Draft) -> Result<(), String> {
    if draft.prompt.is_empty() {
        return Err("Missing required field: input.prompt".into());
    }
    if draft.prompt.chars().count() > LONGEST_PROMPT {
        return Err(format!("input.prompt exceeds {LONGEST_PROMPT} characters"));
    }
    let counts = match draft.generation_type {
        GenerationType::Text => 0..=0,
        GenerationType::Frames => 1..=MOST_FRAMES,
        GenerationType::Reference => 1..=MOST_REFERENCES,
    };
    if !counts.contains(&draft.image_urls.len()) {
        let (least, most) = counts.into_inner();
        let name = draft.generation_type.as_str();
        return Err(format!("input.image_urls: {name} takes {least} to {most} images"));
    }
    if draft.generation_type == GenerationType::Reference {
        if draft.mode != Mode::Fast {
            return Err("input.mode: REFERENCE_2_VIDEO is made in fast mode only".into());
        }
        if draft.aspect_ratio != AspectRatio::Landscape {
            return Err("input.aspect_ratio: REFERENCE_2_VIDEO is made at 16:9 only".into());
        }
    }
    Ok(())
}

/// The fields of one JSON object, read with errors that name the field and never its value.
struct Fields<'a> {
    path: &'static str,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn of(path: &'static str, value: &'a Value) -> Result<Self, String> {
        let whole = if path.is_empty() { "Request body" } else { path.trim_end_matches('.') };
        let object = value.as_object().ok_or_else(|| format!("{whole} must be an object"))?;
        Ok(Self { path, object })
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    fn missing(&self, name: &str) -> String {
        format!("Missing required field: {}{name}", self.path)
    }

    fn wrong(&self, name: &str, wanted: &str) -> String {
        format!("Invalid value for {}{name}: {wanted} expected", self.path)
    }

    fn required(&self, name: &str) -> Result<&'a Value, String> {
        self.get(name).ok_or_else(|| self.missing(name))
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, String> {
        self.get(name).map(|value| value.as_str().ok_or_else(|| self.wrong(name, "a string"))).transpose()
    }

    fn required_text(&self, name: &str) -> Result<&'a str, String> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// One of the API's words.
    fn word<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let text: StrDeserializer<'a, WordError> = text.into_deserializer();
        T::deserialize(text).map(Some).map_err(|_| self.wrong(name, "one of the documented words"))
    }

    fn required_word<T: Deserialize<'a>>(&self, name: &str) -> Result<T, String> {
        self.word(name)?.ok_or_else(|| self.missing(name))
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let texts = value.as_array().and_then(|items| {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        texts.ok_or_else(|| self.wrong(name, "an array of strings"))
    }

    fn whole_number(&self, name: &str) -> Result<Option<u64>, String> {
        let wanted = "an integer not below 0";
        self.get(name).map(|value| value.as_u64().ok_or_else(|| self.wrong(name, wanted))).transpose()
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, String> {
        self.get(name).map(|value| value.as_bool().ok_or_else(|| self.wrong(name, "a boolean"))).transpose()
    }
}

impl Marker {
    /// The first marker in `prompt`: `[[fail:CODE]]` fails every task of this request,
    /// `[[fail-once:CODE]]` only the first, `[[refuse:CODE]]` refuses the submission. Other text in
    /// double brackets is none.
    ///
    /// # Errors
    ///
    /// The code is not one of [`FailCode::ALL`]: better refused than quietly without effect.
    fn find(prompt: &str) -> Result<Option<Self>, String> {
        for piece in prompt.split("[[").skip(1) {
            let Some((marker, _)) = piece.split_once("]]") else { continue };
            let Some((verb, code)) = marker.split_once(':') else { continue };
            let make = match verb {
                "fail" => Self::Fail,
                "fail-once" => Self::FailOnce,
                "refuse" => Self::Refuse,
                _ => continue,
            };
            let code =
                FailCode::named(code.trim()).ok_or("input.prompt: unknown code in a simulator marker")?;
            return Ok(Some(make(code)));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn body(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut body = json!({
            "request_type": "async",
            "input": {"mode": "fast", "prompt": "a cat", "generationType": "TEXT_2_VIDEO", "aspect_ratio": "16:9"},
        });
        change(&mut body);
        body.to_string().into_bytes()
    }

    fn images(kind: &str, count: usize) -> Vec<u8> {
        body(|body| {
            body["input"]["generationType"] = kind.into();
            body["input"]["image_urls"] = json!(vec!["https://a.example/1.png"; count]);
        })
    }

    #[test]
    fn every_rule_has_its_400() {
        let set = |field: &str, value: Value| body(|body| body["input"][field] = value);
        let top = |field: &str, value: Value| body(|body| body[field] = value);
        let reference = |field: &str, value: &str| {
            body(|body| {
                body["input"]["generationType"] = "REFERENCE_2_VIDEO".into();
                body["input"]["image_urls"] = json!(["https://a.example/1.png"]);
                body["input"][field] = value.into();
            })
        };
        let table = [
            (b"{".to_vec(), "Request body is not valid JSON"),
            (b"[]".to_vec(), "Request body must be an object"),
            (b"\xff".to_vec(), "Request body is not valid JSON"),
            (vec![b' '; LONGEST_BODY + 1], "Request body exceeds 1 MiB"),
            (b"{}".to_vec(), "Missing required field: input"),
            (top("input", json!("x")), "input must be an object"),
            (top("request_type", json!("sync")), "Invalid value for request_type"),
            (top("request_type", json!("callback")), "Missing required field: callback_url"),
            (
                body(|b| (b["request_type"], b["callback_url"]) = ("callback".into(), "here".into())),
                "Invalid value for callback_url: not a URL",
            ),
            (
                top("provider", json!("cheap")),
                "Invalid value for provider: one of the documented words expected",
            ),
            (set("prompt", Value::Null), "Missing required field: input.prompt"),
            (set("prompt", json!("")), "Missing required field: input.prompt"),
            (set("prompt", json!(7)), "Invalid value for input.prompt: a string expected"),
            (set("prompt", json!("é".repeat(LONGEST_PROMPT + 1))), "input.prompt exceeds 10000 characters"),
            (set("mode", Value::Null), "Missing required field: input.mode"),
            (
                set("mode", json!("Fast")),
                "Invalid value for input.mode: one of the documented words expected",
            ),
            (set("generationType", Value::Null), "Missing required field: input.generationType"),
            (
                set("generationType", json!("text")),
                "Invalid value for input.generationType: one of the documented words expected",
            ),
            (
                set("aspect_ratio", json!("1:1")),
                "Invalid value for input.aspect_ratio: one of the documented words expected",
            ),
            (set("seed", json!(-1)), "Invalid value for input.seed: an integer not below 0 expected"),
            (set("seed", json!(1.5)), "Invalid value for input.seed: an integer not below 0 expected"),
            (set("seed", json!("1")), "Invalid value for input.seed: an integer not below 0 expected"),
            (set("watermark", json!(1)), "Invalid value for input.watermark: a string expected"),
            (
                set("enableTranslation", json!("yes")),
                "Invalid value for input.enableTranslation: a boolean expected",
            ),
            (
                set("image_urls", json!("x")),
                "Invalid value for input.image_urls: an array of strings expected",
            ),
            (images("TEXT_2_VIDEO", 1), "input.image_urls: TEXT_2_VIDEO takes 0 to 0 images"),
            (
                images("FIRST_AND_LAST_FRAMES_2_VIDEO", 0),
                "input.image_urls: FIRST_AND_LAST_FRAMES_2_VIDEO takes 1 to 2 images",
            ),
            (
                images("FIRST_AND_LAST_FRAMES_2_VIDEO", 3),
                "input.image_urls: FIRST_AND_LAST_FRAMES_2_VIDEO takes 1 to 2 images",
            ),
            (images("REFERENCE_2_VIDEO", 0), "input.image_urls: REFERENCE_2_VIDEO takes 1 to 3 images"),
            (images("REFERENCE_2_VIDEO", 4), "input.image_urls: REFERENCE_2_VIDEO takes 1 to 3 images"),
            (reference("mode", "quality"), "input.mode: REFERENCE_2_VIDEO is made in fast mode only"),
            (reference("aspect_ratio", "auto"), "input.aspect_ratio: REFERENCE_2_VIDEO is made at 16:9 only"),
            (
                set("prompt", json!("a [[fail:NO_SUCH_CODE]]")),
                "input.prompt: unknown code in a simulator marker",
            ),
        ];
        for (body, error) in table {
            assert_eq!(read(&body), Err(error.to_owned()));
        }
    }

    #[test]
    fn what_the_rules_allow_is_read() {
        let good = [
            body(|_| {}),
            body(|body| body["input"]["prompt"] = "é".repeat(LONGEST_PROMPT).into()),
            body(|body| {
                body["request_type"] = "callback".into();
                body["callback_url"] = "https://me.example/hook".into();
            }),
            body(|body| body["source"] = "a tag".into()),
            body(|body| body["input"].as_object_mut().unwrap().retain(|name, _| name != "aspect_ratio")),
            images("FIRST_AND_LAST_FRAMES_2_VIDEO", 1),
            images("FIRST_AND_LAST_FRAMES_2_VIDEO", 2),
            images("REFERENCE_2_VIDEO", 3),
        ];
        for body in good {
            assert!(read(&body).is_ok(), "{}", String::from_utf8_lossy(&body));
        }
    }

    #[test]
    fn an_address_counts_only_where_a_callback_is_asked_for() {
        let url = |request_type: Value| {
            let body = body(|body| {
                body["request_type"] = request_type;
                body["callback_url"] = "https://me.example/hook?a=1".into();
            });
            read(&body).unwrap().callback_url
        };
        assert_eq!(url("callback".into()).as_deref(), Some("https://me.example/hook?a=1"));
        assert_eq!((url("async".into()), url(Value::Null)), (None, None));
    }

    #[test]
    fn the_hash_reads_values_and_not_spelling() {
        let of = |body: &[u8]| read(body).unwrap().request.hash;
        let plain = body(|_| {});
        let reordered = br#"{"input":{"generationType":"TEXT_2_VIDEO","prompt":"a c\u0061t","mode":"fast"}}"#;
        assert_eq!(of(&plain), of(reordered));
        let draft: Draft = serde_json::from_value(json!({
            "prompt": "a cat", "type": "TEXT_2_VIDEO", "mode": "fast", "aspect_ratio": "16:9", "watermark": "",
        }))
        .unwrap();
        assert_eq!(request_hash(&draft.check().unwrap()), of(&plain));
        for (field, value) in [
            ("prompt", json!("a cat ")),
            ("mode", json!("quality")),
            ("aspect_ratio", json!("auto")),
            ("seed", json!(0)),
            ("watermark", json!("w")),
        ] {
            assert_ne!(of(&body(|body| body["input"][field] = value)), of(&plain), "{field}");
        }
        assert_ne!(of(&body(|body| body["provider"] = "auto".into())), of(&plain));
    }

    #[test]
    fn markers() {
        let code = |name| FailCode::named(name).unwrap();
        let nsfw = code("NSFW");
        for (prompt, marker) in [
            ("a cat", None),
            ("[[fail:NSFW]] a cat", Some(Marker::Fail(nsfw))),
            ("a cat [[fail-once: GENERATION_FAILED ]]", Some(Marker::FailOnce(code("GENERATION_FAILED")))),
            ("[[refuse:CONTENT_VIOLATION]]", Some(Marker::Refuse(code("CONTENT_VIOLATION")))),
            ("[[a: b]] and [[c]] and [[fail:NSFW]]", Some(Marker::Fail(nsfw))),
            ("[[fail:NSFW", None),
        ] {
            assert_eq!(Marker::find(prompt), Ok(marker), "{prompt}");
        }
    }
}
