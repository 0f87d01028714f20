//! Secrets in what the API says: an API may echo what it was sent.
//!
//! Owns the look for them, in every spelling in which they may come back. Whatever the API says passes
//! here before anything else reads it, so that nobody behind has to think of secrets.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::api::CallbackUrl;

/// What stands where a callback's address or its signature was.
const ADDRESS: &str = "[callback]";

/// Shortest secret that is looked for in texts, in bytes: a shorter one would be found everywhere.
const SHORTEST: usize = 4;

/// Shortest value of a parameter that is looked for by itself, in bytes: that of our HMAC. In an address
/// of somebody else's the last value may be any word, and a task's name must not lose one.
const SHORTEST_SIGNATURE: usize = 64;

/// What must be written nowhere, and what stands there instead.
#[derive(Clone)]
pub(super) struct Secrets(Vec<(SecretString, &'static str)>);

impl Secrets {
    /// `text` alone; nothing where it is too short to look for.
    pub(super) fn of(text: &str, instead: &'static str) -> Self {
        let mut secrets = Self(Vec::new());
        secrets.add(text, instead);
        secrets
    }

    /// Also the address that a submission gave away. Its last parameter is looked for by itself too:
    /// that is what speaks for a task, however the rest is written.
    pub(super) fn and_callback(mut self, callback: &CallbackUrl) -> Self {
        self.add(callback.expose(), ADDRESS);
        if let Some((_, signature)) = callback.expose().rsplit_once('=')
            && signature.len() >= SHORTEST_SIGNATURE
        {
            self.add(signature, ADDRESS);
        }
        self
    }

    fn add(&mut self, text: &str, instead: &'static str) {
        if text.len() >= SHORTEST {
            self.0.extend(spellings(text).into_iter().map(|spelling| (spelling, instead)));
        }
    }

    /// `text` without them.
    pub(super) fn redact(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (spelling, instead)| {
            let spelling = spelling.expose_secret();
            if text.contains(spelling) { text.replace(spelling, instead) } else { text }
        })
    }

    /// A body without them. JSON is redacted in its decoded strings, numbers
    /// and names, where escapes hide nothing, and so is JSON in a string of it (`resultJson`).
    pub(super) fn redact_body(&self, body: &[u8]) -> Vec<u8> {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => self.redact_json(value, true).to_string().into_bytes(),
            Err(_) => self.redact(&String::from_utf8_lossy(body)).into_bytes(),
        }
    }

    fn redact_json(&self, value: Value, nested: bool) -> Value {
        match value {
            Value::Null | Value::Bool(_) => value,
            Value::Number(number) => {
                let text = number.to_string();
                let clean = self.redact(&text);
                if clean == text { Value::Number(number) } else { Value::String(clean) }
            }
            Value::String(text) => Value::String(match serde_json::from_str::<Value>(&text) {
                Ok(inner @ (Value::Object(_) | Value::Array(_))) if nested => {
                    self.redact_json(inner, false).to_string()
                }
                Ok(_) | Err(_) => self.redact(&text),
            }),
            Value::Array(items) => items.into_iter().map(|item| self.redact_json(item, nested)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(name, field)| (self.redact(&name), self.redact_json(field, nested)))
                .collect(),
        }
    }
}

/// A secret as it is; in a URL, with upper case digits or lower; in JSON, with the slash escaped or
/// not.
fn spellings(secret: &str) -> Vec<SecretString> {
    let percent = |encode: fn(u8) -> String| -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        secret
            .bytes()
            .map(|byte| if plain(byte) { char::from(byte).to_string() } else { encode(byte) })
            .collect()
    };
    let json = secret.replace('\\', r"\\").replace('"', "\\\"");
    let mut spellings = vec![
        secret.to_owned(),
        percent(|byte| format!("%{byte:02X}")),
        percent(|byte| format!("%{byte:02x}")),
        json.replace('/', r"\/"),
        json,
    ];
    spellings.dedup();
    spellings.into_iter().map(SecretString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_hidden_whole_and_by_its_signature() {
        let signature = format!("0.1.1.{}", "0f".repeat(32));
        let callback = CallbackUrl::new(format!("https://hooks.example/a?b=(c)&batchveo={signature}"));
        let secrets = Secrets::of("sk-secret", "[key]").and_callback(&callback);
        for (text, clean) in [
            ("at https://hooks.example/a?b=(c)&batchveo=SIGNED for sk-secret", "at [callback] for [key]"),
            (r"https:\/\/hooks.example\/a?b=(c)&batchveo=SIGNED", "[callback]"),
            ("u=https%3A%2F%2Fhooks.example%2Fa%3Fb%3D%28c%29%26batchveo%3DSIGNED&v", "u=[callback]&v"),
            ("/elsewhere?batchveo=SIGNED&b", "/elsewhere?batchveo=[callback]&b"),
            ("https://hooks.example/a?b=", "https://hooks.example/a?b="),
        ] {
            assert_eq!(secrets.redact(&text.replace("SIGNED", &signature)), clean);
        }
    }

    #[test]
    fn words_of_an_address_of_somebody_elses_stay() {
        for plain in ["https://hooks.example/a", "https://hooks.example/a?b=task"] {
            let secrets = Secrets::of("sk-secret", "[key]").and_callback(&CallbackUrl::new(plain.into()));
            assert_eq!(secrets.redact(&format!("task_1 {plain}")), "task_1 [callback]");
        }
    }
}
