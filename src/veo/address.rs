//! Where the API is.
//!
//! Owns what a base URL may be. The rule: the key goes to the host a person named, encrypted, or
//! not off this machine.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

/// The base URL of an API, without `/api/v1` and without a slash at its end.
///
/// ```
/// # use batchveo::veo::BaseUrl;
/// let base: BaseUrl = "https://API.example/api/v1/".parse()?;
/// assert_eq!(base.to_string(), "https://api.example");
/// # Ok::<(), batchveo::veo::BaseUrlError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    text: String,
    loopback: bool,
}

/// Why a text cannot be a base URL, and what to write. A URL that may hold a secret is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BaseUrlError {
    /// Not a URL.
    #[error("the base URL is not a URL ({0}): write something like https://api.example")]
    Malformed(String),
    /// A scheme that is not http.
    #[error("a base URL that begins with `{0}:`: write one that begins with https://")]
    Scheme(String),
    /// The key would travel in the clear.
    #[error(
        "plain http to `{0}` would send the API key in the clear: write https:// \
         (http is taken for 127.0.0.1, [::1] and localhost alone)"
    )]
    InTheClear(String),
    /// A user name or a password.
    #[error("the base URL holds a user name or a password: remove it; the API key is all the API takes")]
    UserInfo,
    /// A query or a fragment.
    #[error("the base URL goes on after a `?` or `#`: remove that part")]
    Trailing,
}

impl BaseUrl {
    /// The vendor's.
    #[must_use]
    pub fn default_vendor() -> Self {
        Self { text: "https://api.apixo.ai".into(), loopback: false }
    }

    /// Whether it is on this machine, by its address or by the name `localhost`.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// The URL of an endpoint, such as `statusTask/veo-3-1`.
    pub(super) fn endpoint(&self, path: &str) -> Result<Url, BaseUrlError> {
        Url::parse(&format!("{}/api/v1/{path}", self.text))
            .map_err(|error| BaseUrlError::Malformed(error.to_string()))
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    /// With or without `/api/v1` and slashes at its end.
    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let url = Url::parse(text.trim()).map_err(|error| BaseUrlError::Malformed(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BaseUrlError::Scheme(url.scheme().into()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BaseUrlError::UserInfo);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BaseUrlError::Trailing);
        }
        let loopback = is_loopback(&url);
        if url.scheme() == "http" && !loopback {
            return Err(BaseUrlError::InTheClear(url.host_str().unwrap_or_default().into()));
        }
        let text = url.as_str().trim_end_matches('/');
        let text = text.strip_suffix("/api/v1").unwrap_or(text).trim_end_matches('/');
        Ok(Self { text: text.into(), loopback })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether `url` is on this machine, by its address or by the name `localhost`. The parser has brought every spelling of an address (`127.1`, `0x7f000001`) into one form.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_are_one() {
        for (text, normal, loopback) in [
            ("https://api.apixo.ai", "https://api.apixo.ai", false),
            (" https://API.apixo.ai:443/ ", "https://api.apixo.ai", false),
            ("https://api.apixo.ai/api/v1", "https://api.apixo.ai", false),
            ("https://api.apixo.ai/api/v1//", "https://api.apixo.ai", false),
            ("https://gateway.example/veo/api/v1/", "https://gateway.example/veo", false),
            ("http://127.0.0.1:8787", "http://127.0.0.1:8787", true),
            ("http://127.9:80/api/v1", "http://127.0.0.9", true),
            ("http://[::1]:8787/", "http://[::1]:8787", true),
            ("http://LOCALHOST:1", "http://localhost:1", true),
            ("https://localhost", "https://localhost", true),
        ] {
            let base: BaseUrl = text.parse().unwrap();
            assert_eq!((base.to_string().as_str(), base.is_loopback()), (normal, loopback), "{text}");
            assert_eq!(base.to_string().parse(), Ok(base), "{text}");
        }
        assert_eq!("https://api.apixo.ai/api/v1".parse(), Ok(BaseUrl::default_vendor()));
    }

    #[test]
    fn addresses_that_would_give_the_key_away_are_refused() {
        for (text, word) in [
            ("api.apixo.ai", "not a URL"),
            ("", "not a URL"),
            ("ftp://api.apixo.ai", "https://"),
            ("localhost:8787", "begins with `localhost:`"),
            ("http://api.apixo.ai", "in the clear"),
            ("http://localhost.example", "in the clear"),
            ("http://127.0.0.1.example", "in the clear"),
            ("http://0.0.0.0:1", "in the clear"),
            ("https://me:hunter2@api.apixo.ai", "remove it"),
            ("https://api.apixo.ai?key=hunter2", "remove that part"),
            ("https://api.apixo.ai/#hunter2", "remove that part"),
        ] {
            let error = text.parse::<BaseUrl>().unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
