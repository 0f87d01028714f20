//! Which hosts may be called for videos, images and callbacks, and the only client that calls them.
//!
//! Links come from an answer or from a sheet, and so may name anything this machine can reach: a
//! router, a database, the credentials that a cloud hands to its machines. An address that is not
//! of the public internet is therefore refused, unless the API itself is there or the user allows
//! it. The address is judged when a connection is made, in the resolver, so that no name can be one
//! address when it is looked at and another when it is called; literal addresses and every hop of a
//! redirect are judged by their URL.
//!
//! Nothing secret is sent: no API key, no cookies, no referer. The proxies of the environment are
//! not used, as for the API itself: a proxy resolves names on its own, and the check would judge
//! nothing.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{RequestBuilder, Url, redirect, retry};

use crate::veo::BaseUrl;

/// How many redirects are followed; storage services need one or two.
pub const MOST_REDIRECTS: usize = 5;

/// How long an idle connection is kept, as for the API.
const IDLE_CONNECTION: Duration = Duration::from_secs(50);

/// Why an address is not of the public internet. The ranges are those of IANA's special-purpose
/// registries, and the addresses at which clouds answer their machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    /// This machine.
    Loopback,
    /// This network segment; most clouds' metadata are there.
    LinkLocal,
    /// A network of its own: private IPv4, unique-local and site-local IPv6.
    Private,
    /// Shared by the customers of a provider (100.64.0.0/10).
    Shared,
    /// A group of machines.
    Multicast,
    /// No address.
    Unspecified,
    /// Where a cloud tells its machines what is not for others.
    Metadata,
    /// Set aside, for documents, tests, tunnels or later.
    Reserved,
}

impl Special {
    /// What is special about `address`; `None` if it is an ordinary one. An IPv4 address inside an
    /// IPv6 one (mapped, translated, 6to4) is judged as itself.
    #[must_use]
    pub fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    const fn of_v4(address: Ipv4Addr) -> Option<Self> {
        Some(match address.octets() {
            [169, 254, 169, 254 | 253 | 123] | [169, 254, 170, 2 | 23]
            // Oracle's older cloud, Alibaba's, Azure's host.
            | [192, 0, 0, 192] | [100, 100, 100, 200] | [168, 63, 129, 16] => Self::Metadata,
            [0, 0, 0, 0] => Self::Unspecified,
            [127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Self::Private,
            [100, 64..=127, ..] => Self::Shared,
            [224..=239, ..] => Self::Multicast,
            [0 | 240..=255, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..]
            | [198, 51, 100, _] | [203, 0, 113, _] => Self::Reserved,
            _ => return None,
        })
    }

    fn of_v6(address: Ipv6Addr) -> Option<Self> {
        let embedded = |high: u16, low: u16| {
            let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0] => Some(Self::Unspecified),
            [0, 0, 0, 0, 0, 0, 0, 1] => Some(Self::Loopback),
            // Mapped, translated (RFC 2765 and NAT64), 6to4.
            [0, 0, 0, 0, 0, 0xffff, high, low]
            | [0, 0, 0, 0, 0xffff, 0, high, low]
            | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
            | [0x2002, high, low, ..] => embedded(high, low),
            // Compatible (RFC 4291): nobody's any more, and so reserved even around a public one.
            [0, 0, 0, 0, 0, 0, high, low] => embedded(high, low).or(Some(Self::Reserved)),
            [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254 | 0x23] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => {
                Some(Self::Metadata)
            }
            [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Some(Self::Private),
            [0xfe80..=0xfebf, ..] => Some(Self::LinkLocal),
            [0xff00..=0xffff, ..] => Some(Self::Multicast),
            // Protocols of the IETF (Teredo among them), documents.
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some(Self::Reserved),
            // What is given out to networks.
            [0x2000..=0x3fff, ..] => None,
            _ => Some(Self::Reserved),
        }
    }

    /// For a sentence: "10.0.0.1, …".
    const fn words(self) -> &'static str {
        match self {
            Self::Loopback => "this machine itself",
            Self::LinkLocal => "a link-local address",
            Self::Private => "a private address",
            Self::Shared => "an address shared inside a provider's network",
            Self::Multicast => "a multicast address",
            Self::Unspecified => "no address of a host",
            Self::Metadata => "where a cloud answers its own machines",
            Self::Reserved => "a reserved address",
        }
    }
}

/// Why a URL is not called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostRefused {
    /// Its host is not of the public internet.
    #[error(
        "the host `{host}` is not called: {address} is {}; if it is yours and meant, --allow-private-hosts",
        special.words()
    )]
    Special {
        /// As the URL names it.
        host: String,
        /// Where it is.
        address: IpAddr,
        /// What is wrong with that.
        special: Special,
    },
    /// Its host is another machine, and only this one is called.
    #[error("the host `{host}` is not called: {address} is not this machine")]
    Elsewhere {
        /// As the URL names it.
        host: String,
        /// Where it is.
        address: IpAddr,
    },
    /// Neither http nor https.
    #[error("`{0}:` addresses are not called: only http and https are")]
    Scheme(String),
    /// No host at all.
    #[error("the address names no host")]
    NoHost,
    /// A redirect from https to http.
    #[error("the host `{0}` was redirected to by an encrypted address and is not encrypted itself")]
    Downgrade(String),
    /// A redirect of a redirect of a redirect.
    #[error("redirected more than {MOST_REDIRECTS} times")]
    Redirects,
}

impl HostRefused {
    /// The refusal that made a request fail, if one did: asking again would not help.
    #[must_use]
    pub fn within<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(refused) = error.downcast_ref() {
                return Some(refused);
            }
            cause = error.source();
        }
        None
    }
}

/// How long a [`Client`] waits, in real time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, name look-up and TLS included, each hop.
    pub connect: Duration,
    /// For the next bytes of an answer. The whole may take as long as it takes.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), silence: Duration::from_secs(30) }
    }
}

/// Which hosts may be called.
///
/// ```
/// use batchveo::hosts::Hosts;
///
/// let hosts = Hosts::new(None, false);
/// assert!(hosts.check(&"https://93.184.215.14/video.mp4".parse()?).is_ok());
/// assert!(hosts.check(&"http://169.254.169.254/latest/meta-data/".parse()?).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Hosts {
    /// The API's host: whatever its address, a person has named it.
    api: Option<String>,
    loopback: bool,
    private: bool,
    public: bool,
}

impl Hosts {
    /// The hosts of the public internet, that of `api`, and with an API on this machine all of this
    /// machine; with `allow_private` every host.
    #[must_use]
    pub fn new(api: Option<&BaseUrl>, allow_private: bool) -> Self {
        let host = api.and_then(|api| Url::parse(&api.to_string()).ok()).and_then(|url| host(&url));
        let loopback = api.is_some_and(BaseUrl::is_loopback);
        Self { api: host, loopback, private: allow_private, public: true }
    }

    /// This machine alone.
    #[must_use]
    pub const fn of_this_machine() -> Self {
        Self { api: None, loopback: true, private: false, public: false }
    }

    /// Whether `url` may be called, as far as it says itself. What its name resolves to is judged
    /// when [`Client`] connects.
    ///
    /// # Errors
    ///
    /// Another scheme than http and https, no host, or an address that is not allowed.
    pub fn check(&self, url: &Url) -> Result<(), HostRefused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(HostRefused::Scheme(url.scheme().into()));
        }
        let host = host(url).ok_or(HostRefused::NoHost)?;
        match host.parse() {
            Ok(address) => self.admit(&host, address),
            Err(_) => Ok(()),
        }
    }

    /// A client that calls allowed hosts alone. Needs a Tokio runtime when it is used.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn client(&self, patience: Patience) -> reqwest::Result<Client> {
        self.client_that(self.redirects(), patience)
    }

    /// The same, but a redirect is an answer like any other: for what is sent, and not fetched.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn messenger(&self, patience: Patience) -> reqwest::Result<Client> {
        self.client_that(redirect::Policy::none(), patience)
    }

    fn client_that(&self, redirects: redirect::Policy, patience: Patience) -> reqwest::Result<Client> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("batchveo/", env!("CARGO_PKG_VERSION")))
            // Many streams through one connection would share its window.
            .http1_only()
            .retry(retry::never())
            .redirect(redirects)
            .dns_resolver(Judge(Arc::new(self.clone())))
            .no_proxy()
            .referer(false)
            .connect_timeout(patience.connect)
            .read_timeout(patience.silence)
            .pool_idle_timeout(IDLE_CONNECTION)
            .build()?;
        Ok(Client { http, hosts: self.clone() })
    }

    fn admit(&self, host: &str, address: IpAddr) -> Result<(), HostRefused> {
        let Some(special) = Special::of(address) else {
            return if self.public {
                Ok(())
            } else {
                Err(HostRefused::Elsewhere { host: host.into(), address })
            };
        };
        let named = self.api.as_deref() == Some(host);
        if self.private || named || (self.loopback && special == Special::Loopback) {
            return Ok(());
        }
        Err(HostRefused::Special { host: host.into(), address, special })
    }

    fn redirects(&self) -> redirect::Policy {
        let hosts = self.clone();
        redirect::Policy::custom(move |attempt| match hosts.hop(attempt.previous(), attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(refused) => attempt.error(refused),
        })
    }

    fn hop(&self, previous: &[Url], next: &Url) -> Result<(), HostRefused> {
        if previous.len() > MOST_REDIRECTS {
            return Err(HostRefused::Redirects);
        }
        self.check(next)?;
        let encrypted = previous.last().is_some_and(|url| url.scheme() == "https");
        let host = host(next).unwrap_or_default();
        let here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        if encrypted && next.scheme() == "http" && !here {
            return Err(HostRefused::Downgrade(host));
        }
        Ok(())
    }
}

/// Calls allowed hosts. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    hosts: Hosts,
}

impl Client {
    /// A GET of `url`, to be sent. That it fails for the host is found with [`HostRefused::within`];
    /// a redirect to what is no address for HTTP is not followed, and its own answer (3xx) comes.
    ///
    /// # Errors
    ///
    /// When [`Hosts::check`] refuses `url`.
    pub fn get(&self, url: Url) -> Result<RequestBuilder, HostRefused> {
        self.hosts.check(&url)?;
        Ok(self.http.get(url))
    }

    /// A POST to `url`, to be sent; otherwise as [`Client::get`].
    ///
    /// # Errors
    ///
    /// When [`Hosts::check`] refuses `url`.
    pub fn post(&self, url: Url) -> Result<RequestBuilder, HostRefused> {
        self.hosts.check(&url)?;
        Ok(self.http.post(url))
    }
}

/// Resolves names to the addresses that are allowed. A name with none is refused; one that also has
/// forbidden ones is called at the others.
struct Judge(Arc<Hosts>);

impl Resolve for Judge {
    fn resolve(&self, name: Name) -> Resolving {
        let hosts = Arc::clone(&self.0);
        Box::pin(async move {
            let host = plain(name.as_str());
            let (mut allowed, mut refused) = (Vec::<SocketAddr>::new(), None);
            // Port 0: the connector puts in the URL's.
            for address in tokio::net::lookup_host((name.as_str(), 0)).await? {
                match hosts.admit(&host, address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(error) => refused = Some(error),
                }
            }
            match refused {
                Some(error) if allowed.is_empty() => Err(error.into()),
                Some(_) | None => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// The host of `url` as a name or an address without brackets.
fn host(url: &Url) -> Option<String> {
    url.host_str().filter(|host| !host.is_empty()).map(plain)
}

/// Two spellings of one host are one: case, the brackets of IPv6, a dot at the end.
fn plain(host: &str) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
