//! Where the API calls back, one address for each attempt.
//!
//! Owns the user's URL and the parameter that is added to it. The rule: **who knows one attempt's
//! address can speak for that attempt alone.** The path is the user's and a proxy may rewrite it, so
//! only the parameter counts. Numbers of samples change when a changed sheet is read in; the parameter
//! therefore says by which numbering it counts.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::Url;
use sha2::Sha256;

use crate::api::CallbackUrl;
use crate::job::{Attempt, SampleId};
use crate::veo::is_loopback;

/// Longest address that is sent, in characters: what everything on the way is known to take.
pub const LONGEST_URL: usize = 2_048;

/// Longest parameter with the sign before it: two numbers of 20 digits, one of 10, and the HMAC.
const LONGEST_PARAMETER: usize = 1 + PARAMETER.len() + 1 + 20 + 1 + 20 + 1 + 10 + 1 + 64;

/// Longest URL that leaves room for it.
const LONGEST_WRITTEN: usize = LONGEST_URL - LONGEST_PARAMETER;

/// The name of the parameter.
const PARAMETER: &str = "batchveo";

/// What the HMAC is made for, so that no other use of the secret can stand in for it.
const PURPOSE: &[u8] = b"batchveo callback 1";

/// The URL at which a person has the API call back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// As it was written.
    text: String,
    url: Url,
}

/// Why a text cannot be an address for callbacks, and what to write. What may hold a secret is not
/// shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a URL.
    #[error("the callback URL is not a URL ({0}): write something like https://hooks.example/veo")]
    Malformed(String),
    /// A scheme that is not http.
    #[error("a callback URL that begins with `{0}:`: the API calls https:// alone")]
    Scheme(String),
    /// The whole address would travel in the clear.
    #[error(
        "plain http to `{0}` would tell anybody on the way how to speak for the API: write https:// \
         (http is taken for 127.0.0.1, [::1] and localhost alone)"
    )]
    InTheClear(String),
    /// A user name or a password.
    #[error(
        "the callback URL holds a user name or a password: remove it, each task's address has a key of its own"
    )]
    UserInfo,
    /// A fragment.
    #[error("the callback URL goes on after a `#`, which is never sent: remove that part")]
    Fragment,
    /// Our parameter is there already.
    #[error("the callback URL has a parameter `{PARAMETER}` already, which is ours: remove it")]
    Taken,
    /// No room for our parameter.
    #[error("the callback URL is {0} characters long: shorten it to {LONGEST_WRITTEN}")]
    TooLong(usize),
}

impl Address {
    /// Whether it is plain http, which then is to this machine.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }

    /// The host, to be shown: the rest may be a secret.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let url = Url::parse(text).map_err(|error| AddressError::Malformed(error.to_string()))?;
        // The parser leaves these out, and what is sent unchanged would hold them.
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(AddressError::Malformed("it holds white space".into()));
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(AddressError::Scheme(url.scheme().into()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(AddressError::Fragment);
        }
        if url.query_pairs().any(|(name, _)| name == PARAMETER) {
            return Err(AddressError::Taken);
        }
        if url.scheme() == "http" && !is_loopback(&url) {
            return Err(AddressError::InTheClear(url.host_str().unwrap_or_default().into()));
        }
        let length = text.chars().count().max(url.as_str().len());
        if length > LONGEST_WRITTEN {
            return Err(AddressError::TooLong(length));
        }
        Ok(Self { text: text.into(), url })
    }
}

/// Makes and knows the parameter of each attempt.
#[derive(Clone)]
pub struct Signer {
    mac: Hmac<Sha256>,
    numbering: u64,
}

/// What a parameter says that we have made ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signed {
    /// By which numbering the sample is named.
    pub(super) numbering: u64,
    pub(super) sample: SampleId,
    pub(super) attempt: Attempt,
}

impl Signer {
    /// One that signs with `secret` for samples that are numbered for the `numbering`th time.
    ///
    /// # Panics
    ///
    /// Never: an HMAC takes a secret of any length.
    #[must_use]
    pub fn new(secret: &[u8; 32], numbering: u64) -> Self {
        Self { mac: Hmac::new_from_slice(secret).expect("a secret of any length"), numbering }
    }

    /// How the samples are numbered now.
    #[must_use]
    pub const fn numbering(&self) -> u64 {
        self.numbering
    }

    fn mac(&self, signed: Signed) -> Hmac<Sha256> {
        let Signed { numbering, sample, attempt } = signed;
        let mut mac = self.mac.clone();
        mac.update(PURPOSE);
        mac.update(&numbering.to_le_bytes());
        mac.update(&sample.0.to_le_bytes());
        mac.update(&attempt.0.to_le_bytes());
        mac
    }

    fn sign(&self, sample: SampleId, attempt: Attempt) -> String {
        let signed = Signed { numbering: self.numbering, sample, attempt };
        let mut word = format!("{}.{}.{}.", self.numbering, sample, attempt.0);
        for byte in self.mac(signed).finalize().into_bytes() {
            word.extend(
                [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')),
            );
        }
        word
    }

    /// What the query of a request says, if we have signed it. Compared in constant time.
    pub(super) fn verify(&self, query: &str) -> Option<Signed> {
        // Through the parser, for a proxy may have written its letters in another way.
        let url = Url::parse(&format!("http://callback.invalid/?{query}")).ok()?;
        let mut words = url.query_pairs().filter(|(name, _)| name == PARAMETER);
        let (_, word) = words.next()?;
        if words.next().is_some() {
            return None;
        }
        let mut parts = word.split('.');
        let numbering = parts.next()?.parse().ok()?;
        let sample = SampleId(parts.next()?.parse().ok()?);
        let attempt = Attempt(parts.next()?.parse().ok()?);
        let mac = unhex(parts.next().filter(|_| parts.next().is_none())?)?;
        let signed = Signed { numbering, sample, attempt };
        self.mac(signed).verify_slice(&mac).is_ok().then_some(signed)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("numbering", &self.numbering).finish_non_exhaustive()
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

/// Where each attempt of a run has the API call back.
#[derive(Debug, Clone)]
pub struct Addresses {
    address: Address,
    signer: Option<Signer>,
}

impl Addresses {
    /// The same for every attempt, unchanged: somebody else listens there.
    #[must_use]
    pub const fn elsewhere(address: Address) -> Self {
        Self { address, signer: None }
    }

    /// One for each attempt, which an [`super::Inbox`] with the same signer knows again.
    #[must_use]
    pub const fn signed(address: Address, signer: Signer) -> Self {
        Self { address, signer: Some(signer) }
    }

    /// Where this attempt has the API call back.
    #[must_use]
    pub fn of(&self, sample: SampleId, attempt: Attempt) -> CallbackUrl {
        let Some(signer) = &self.signer else { return CallbackUrl::new(self.address.text.clone()) };
        let url = self.address.url.as_str();
        let sign = match self.address.url.query() {
            None => "?",
            Some(query) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        };
        CallbackUrl::new(format!("{url}{sign}{PARAMETER}={}", signer.sign(sample, attempt)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: SampleId = SampleId(1_649);
    const ATTEMPT: Attempt = Attempt(2);

    fn url(address: &str, numbering: u64) -> String {
        let signer = Signer::new(&[7; 32], numbering);
        Addresses::signed(address.parse().unwrap(), signer).of(SAMPLE, ATTEMPT).expose().to_owned()
    }

    fn query(url: &str) -> String {
        Url::parse(url).unwrap().query().unwrap_or_default().to_owned()
    }

    #[test]
    fn an_address_is_the_users_with_one_parameter_more() {
        for (address, begins) in [
            ("https://HOOKS.example", "https://hooks.example/?batchveo=3.1649.2."),
            ("https://hooks.example/veo", "https://hooks.example/veo?batchveo=3.1649.2."),
            ("https://hooks.example/veo?", "https://hooks.example/veo?batchveo=3.1649.2."),
            (" https://hooks.example:8443/?a=1 ", "https://hooks.example:8443/?a=1&batchveo=3.1649.2."),
            ("http://127.0.0.1:9000/", "http://127.0.0.1:9000/?batchveo=3.1649.2."),
        ] {
            let url = url(address, 3);
            assert!(url.starts_with(begins), "{url}");
            let signed = Signer::new(&[7; 32], 9).verify(&query(&url));
            assert_eq!(signed, Some(Signed { numbering: 3, sample: SAMPLE, attempt: ATTEMPT }), "{url}");
        }
        let elsewhere = Addresses::elsewhere("https://HOOKS.example/x?y".parse().unwrap());
        assert_eq!(elsewhere.of(SAMPLE, ATTEMPT).expose(), "https://HOOKS.example/x?y");
    }

    #[test]
    fn only_what_was_signed_is_known_again() {
        let signer = Signer::new(&[7; 32], 3);
        let good = query(&url("https://hooks.example/", 3));
        assert!(signer.verify(&good).is_some());
        assert!(signer.verify(&format!("utm=1&{}&z", good.replace('.', "%2e"))).is_some());
        // One letter less, more or another anywhere is not it.
        for at in PARAMETER.len() + 1..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            assert_eq!(signer.verify(&String::from_utf8(bytes).unwrap()), None, "{at}");
        }
        for forged in [
            String::new(),
            "batchveo".into(),
            "batchveo=".into(),
            "batchveo=1.2.3".into(),
            format!("{good}0"),
            good[..good.len() - 1].into(),
            format!("{good}.0"),
            format!("{good}&{good}"),
            good.replace("1649", "99999999999999999999"),
            good.replace("batchveo", "Batchveo"),
        ] {
            assert_eq!(signer.verify(&forged), None, "{forged}");
        }
        assert_eq!(Signer::new(&[8; 32], 3).verify(&good), None, "another secret");
        let shown = format!("{signer:?}");
        assert!(!shown.contains('7'), "{shown}");
    }

    #[test]
    fn addresses_that_would_give_callbacks_away_are_refused() {
        let long = format!("https://hooks.example/{}", "x".repeat(LONGEST_WRITTEN));
        for (text, word) in [
            ("hooks.example", "not a URL"),
            ("", "not a URL"),
            ("https://hooks.example/a b", "white space"),
            ("https://hooks.example/a\tb", "white space"),
            ("ftp://hooks.example", "https://"),
            ("http://hooks.example", "plain http"),
            ("http://10.0.0.1/", "plain http"),
            ("https://me:hunter2@hooks.example", "remove it"),
            ("https://hooks.example/#hunter2", "remove that part"),
            ("https://hooks.example/?batchveo=hunter2", "already"),
            (&long, "shorten it to 1921"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn the_longest_address_has_room_for_the_longest_parameter() {
        let text = format!("https://hooks.example/{}", "x".repeat(LONGEST_WRITTEN - 22));
        let signer = Signer::new(&[0; 32], u64::MAX);
        let addresses = Addresses::signed(text.parse().unwrap(), signer);
        let longest = addresses.of(SampleId(i64::MIN), Attempt(u32::MAX));
        assert_eq!(longest.expose().len(), LONGEST_URL);
    }
}
