//! The API key: held, sent, and otherwise never shown.
//!
//! Owns the only copy of the key's text and everything that keeps it out of logs, results and
//! errors. How it is found in what the API says is the business of [`Secrets`].

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::secrets::Secrets;

/// What stands where the key was.
const REDACTED: &str = "[key]";

/// A key of the API. Its text is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct ApiKey {
    text: SecretString,
    /// The forms in which it may come back; none for a key too short to look for.
    secrets: Secrets,
}

/// Why a text cannot be a key. Never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ApiKeyError {
    /// Nothing, or white space alone.
    #[error("the API key is empty: copy it whole from the API's dashboard")]
    Empty,
    /// It could not go into a header.
    #[error(
        "the API key holds a space, a line break or another character that no key holds: \
         copy it again from the API's dashboard, the key alone"
    )]
    Unusable,
}

impl ApiKey {
    /// A key from text, without the white space around it.
    ///
    /// # Errors
    ///
    /// When nothing is left, or what is left is not visible ASCII without spaces.
    pub fn new(text: &str) -> Result<Self, ApiKeyError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ApiKeyError::Empty);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ApiKeyError::Unusable);
        }
        Ok(Self { text: text.into(), secrets: Secrets::of(text, REDACTED) })
    }

    /// The text, for the header it is sent in and nothing else.
    pub(crate) fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// A name for the key that does not tell it: a BLAKE3 hash keyed with `salt`.
    #[must_use]
    pub fn fingerprint(&self, salt: &[u8; 32]) -> [u8; 32] {
        blake3::keyed_hash(salt, self.expose().as_bytes()).into()
    }

    /// `text` with `[key]` wherever the key was: as it is, percent-encoded, or escaped as in JSON. A
    /// key of fewer than four characters is not looked for.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        self.secrets.redact(text)
    }

    /// A body without the key, as [`Secrets::redact_body`] has it.
    pub(crate) fn redact_body(&self, body: &[u8]) -> Vec<u8> {
        self.secrets.redact_body(body)
    }

    /// What must be written nowhere: the key.
    pub(super) const fn secrets(&self) -> &Secrets {
        &self.secrets
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([key])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn keys_that_no_header_can_hold_are_refused_without_being_shown() {
        for (text, error) in [
            ("", ApiKeyError::Empty),
            (" \n", ApiKeyError::Empty),
            ("sk-top secret", ApiKeyError::Unusable),
            ("sk-top\nsecret", ApiKeyError::Unusable),
            ("sk-sécret", ApiKeyError::Unusable),
        ] {
            let refused = ApiKey::new(text).unwrap_err();
            assert_eq!(refused, error);
            assert!(!format!("{refused} {refused:?}").contains("sk-"));
        }
        let key = ApiKey::new("\t sk-secret\r\n").unwrap();
        assert_eq!(key.expose(), "sk-secret");
        assert!(!format!("{key:?} {:?}", key.clone()).contains("secret"));
    }

    #[test]
    fn a_fingerprint_depends_on_key_and_salt() {
        let key = ApiKey::new("sk-secret").unwrap();
        let print = key.fingerprint(&[1; 32]);
        assert_eq!(print, ApiKey::new(" sk-secret ").unwrap().fingerprint(&[1; 32]));
        assert_ne!(print, key.fingerprint(&[2; 32]));
        assert_ne!(print, ApiKey::new("sk-secreT").unwrap().fingerprint(&[1; 32]));
    }

    #[test]
    fn every_spelling_is_redacted() {
        let key = ApiKey::new("sk/a+b=").unwrap();
        for (text, clean) in [
            ("Authorization: Bearer sk/a+b=, sk/a+b=", "Authorization: Bearer [key], [key]"),
            ("?k=sk%2Fa%2Bb%3D&l=sk%2fa%2bb%3d", "?k=[key]&l=[key]"),
            (r#"{"torn": "sk\/a+b="#, r#"{"torn": "[key]"#),
            ("nothing", "nothing"),
        ] {
            assert_eq!(key.redact(text), clean);
        }
        assert_eq!(ApiKey::new("abcd").unwrap().redact("xabcdx"), "x[key]x");
        assert_eq!(ApiKey::new("abc").unwrap().redact("abc"), "abc");
    }

    #[test]
    fn escapes_do_not_hide_a_key() {
        let key = ApiKey::new("sk/secret").unwrap();
        let escaped = r#"{"a":["sk\/secret"],"sk/secret":1,"b":"{\"u\":\"\\u0073k/secret\"}","c":7}"#;
        let clean = String::from_utf8(key.redact_body(escaped.as_bytes())).unwrap();
        assert_eq!(clean, r#"{"[key]":1,"a":["[key]"],"b":"{\"u\":\"[key]\"}","c":7}"#);
        let number = ApiKey::new("12345").unwrap().redact_body(br#"{"id":9123459}"#);
        assert_eq!(number, br#"{"id":"9[key]9"}"#);
        let torn = key.redact_body(b"{\"a\":\"sk/secret\xff");
        assert_eq!(String::from_utf8(torn).unwrap(), "{\"a\":\"[key]\u{fffd}");
    }

    proptest! {
        // Brackets are left out: a key that is part of what replaces it cannot go away.
        #[test]
        fn no_redacted_text_holds_the_key(key in r"[!-Z\\^-~]{4,12}", before in ".{0,9}", after in ".{0,9}") {
            let held = ApiKey::new(&key).unwrap();
            let text = format!("{before}{key}{after}{key}");
            prop_assert!(!held.redact(&text).contains(&key));
            let json = serde_json::json!({"text": text, "inner": serde_json::json!([text]).to_string()});
            let clean: Value = serde_json::from_slice(&held.redact_body(json.to_string().as_bytes())).unwrap();
            prop_assert!(!clean["text"].as_str().unwrap().contains(&key));
            let inner: Value = serde_json::from_str(clean["inner"].as_str().unwrap()).unwrap();
            prop_assert!(!inner[0].as_str().unwrap().contains(&key));
        }
    }
}
