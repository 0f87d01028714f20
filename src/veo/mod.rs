//! The Veo 3.1 task API over HTTP.
//!
//! Owns the connection: one call is one request, with no retry and no redirect of its own, since
//! both would pass the limits unseen and a repeated submission may be paid for twice. What an
//! answer says is read in `wire` and judged in `classify`; the key is kept by [`ApiKey`], and `secrets`
//! go out of an answer before anything reads it.
//!
//! Choices: HTTP/1.1 only, because one HTTP/2 connection holds requests back behind the gate when
//! the service is slow. Environment proxies are not used: a proxy adds a place where requests wait
//! after their permit. The one repeat that can happen is below HTTP: a request of which not a byte
//! was written, because its pooled connection had just been closed, goes out on a new connection.

mod address;
mod classify;
mod json;
mod key;
mod secrets;
mod wire;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, Url, redirect, retry};

use crate::api::{Balance, CallbackUrl, Polled, Submitted, VideoApi};
use crate::generation::Generation;
use crate::job::TaskId;

use secrets::Secrets;

pub(crate) use address::is_loopback;
pub use address::{BaseUrl, BaseUrlError};
pub use classify::Silence;
pub use key::{ApiKey, ApiKeyError};
pub use wire::{Reply, encode_submission, read_balance, read_callback, read_status, read_submission};

/// Longest body that is read, in bytes. The longest documented answer has some hundred.
const LONGEST_BODY: usize = 1 << 20;

/// Longest wait that a `Retry-After` can ask for; a longer one is an outage, and probed as one.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// How long an idle connection is kept: longer than the polls of a small batch are apart, shorter
/// than the 60 s after which common load balancers close it. A submission that meets that moment
/// would be in doubt.
const IDLE_CONNECTION: Duration = Duration::from_secs(50);

/// After a time-out, how long an answer that has arrived may still take to come through to the caller.
/// A process that was stopped (a signal, a suspended laptop) finds its timers run out and the answers
/// in the socket at the same moment, and some turns of the runtime lie between socket and caller.
const SECOND_CHANCE: Duration = Duration::from_secs(1);

/// Longest piece of a body in the trace log, in characters.
const LONGEST_LOGGED: usize = 500;

/// How long to wait for what, in real time whatever the run's clock does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, name look-up and TLS included. Short, because a permit to send grows stale.
    pub connect: Duration,
    /// For the whole of a submission. Long, because one that is given up on is in doubt.
    pub submit: Duration,
    /// For the whole of a look at a task.
    pub status: Duration,
    /// For the whole of a look at the balance.
    pub balance: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            submit: Duration::from_mins(1),
            status: Duration::from_secs(30),
            balance: Duration::from_secs(10),
        }
    }
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// TLS could not be set up.
    #[error("cannot set up HTTPS: {0}; are the system's certificates installed?")]
    Setup(String),
    /// An endpoint's address could not be made.
    #[error(transparent)]
    Address(#[from] BaseUrlError),
}

/// A client of the API. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    base: BaseUrl,
    http: reqwest::Client,
    authorization: HeaderValue,
    key: ApiKey,
    generate: Url,
    status: Url,
    balance: Url,
    timeouts: Timeouts,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &format_args!("{}", self.base))
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that sends `key` to `base` and nowhere else. Sends nothing yet.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn new(base: BaseUrl, key: ApiKey, timeouts: Timeouts) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("batchveo/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .retry(retry::never())
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(timeouts.connect)
            .pool_idle_timeout(IDLE_CONNECTION)
            .build()
            .map_err(|error| ClientError::Setup(chain(&error)))?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
            .map_err(|error| ClientError::Setup(error.to_string()))?;
        // Every layer below prints this as "Sensitive".
        authorization.set_sensitive(true);
        Ok(Self {
            http,
            authorization,
            key,
            generate: base.endpoint("generateTask/veo-3-1")?,
            status: base.endpoint("statusTask/veo-3-1")?,
            balance: base.endpoint("apikeys/current-balance")?,
            base,
            timeouts,
        })
    }

    /// Sends one request and waits `timeout` for the whole of its answer, without `secrets`. `Err` holds
    /// why there is none, in redacted words.
    ///
    /// The HTTP client has a time-out of its own, which is not used: it looks at its timer before it
    /// looks for the answer, and would call a paid submission lost because this process slept.
    async fn exchange(
        &self,
        request: RequestBuilder,
        timeout: Duration,
        secrets: &Secrets,
    ) -> Result<Reply, (Silence, String)> {
        answer_within(timeout, self.answer(request, secrets)).await.unwrap_or_else(|| {
            let what = format!("no answer within {} s", timeout.as_secs_f64());
            Err(silence(Silence::TimedOut, &what, secrets))
        })
    }

    async fn answer(&self, request: RequestBuilder, secrets: &Secrets) -> Result<Reply, (Silence, String)> {
        let request = request.header(AUTHORIZATION, self.authorization.clone());
        let mut response = request.send().await.map_err(|error| failed(error, secrets))?;
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let body = match read_body(&mut response).await {
            Ok(body) => body,
            Err((half, error)) => match Silence::of_half_an_answer(status.as_u16()) {
                Some(_) => return Err(failed(error, secrets)),
                None => half,
            },
        };
        let reply = Reply { status: status.as_u16(), retry_after, body: secrets.redact_body(&body) };
        tracing::debug!(status = reply.status, bytes = reply.body.len(), "answer");
        tracing::trace!(body = %Snippet(&reply.body), "answer");
        Ok(reply)
    }
}

/// Why there is no answer. A connect error is looked for first: a time-out while connecting is both,
/// and not a byte was sent.
fn failed(error: reqwest::Error, secrets: &Secrets) -> (Silence, String) {
    let error = error.without_url();
    let (why, what) = if error.is_connect() {
        (Silence::NoConnection, "no connection")
    } else if error.is_timeout() {
        (Silence::TimedOut, "no answer")
    } else {
        (Silence::Broken, "no answer")
    };
    silence(why, &format!("{what}: {}", chain(&error)), secrets)
}

fn silence(silence: Silence, words: &str, secrets: &Secrets) -> (Silence, String) {
    let detail = secrets.redact(words);
    tracing::debug!(?silence, detail, "no answer");
    (silence, detail)
}

/// What `exchange` comes to within `timeout`, or `None`. The exchange is always looked at before the
/// timer, and once more for [`SECOND_CHANCE`] after it.
#[expect(clippy::disallowed_methods, reason = "time-outs are of the network and so of real time")]
async fn answer_within<T>(timeout: Duration, exchange: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(exchange);
    for span in [timeout, SECOND_CHANCE] {
        tokio::select! {
            biased;
            answer = &mut exchange => return Some(answer),
            () = tokio::time::sleep(span) => {}
        }
    }
    None
}

impl VideoApi for Client {
    async fn submit(&self, generation: Generation, callback: Option<CallbackUrl>) -> Submitted {
        tracing::debug!(path = self.generate.path(), "POST");
        let request = self
            .http
            .post(self.generate.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(encode_submission(&generation, callback.as_ref()));
        let secrets = self.key.secrets().clone();
        let secrets = match &callback {
            Some(callback) => secrets.and_callback(callback),
            None => secrets,
        };
        match self.exchange(request, self.timeouts.submit, &secrets).await {
            Ok(reply) => read_submission(&reply),
            Err((silence, detail)) => silence.submission(&detail),
        }
    }

    async fn status(&self, task: TaskId) -> Polled {
        tracing::debug!(path = self.status.path(), task = self.key.redact(task.as_str()), "GET");
        let mut url = self.status.clone();
        url.query_pairs_mut().append_pair("taskId", task.as_str());
        match self.exchange(self.http.get(url), self.timeouts.status, self.key.secrets()).await {
            Ok(reply) => read_status(&reply),
            Err((silence, detail)) => silence.look(&detail),
        }
    }

    async fn balance(&self) -> Balance {
        tracing::debug!(path = self.balance.path(), "GET");
        let request = self.http.get(self.balance.clone());
        match self.exchange(request, self.timeouts.balance, self.key.secrets()).await {
            Ok(reply) => read_balance(&reply),
            Err((silence, detail)) => silence.balance(&detail),
        }
    }
}

/// The body, or its first [`LONGEST_BODY`] bytes; with the error, what came before it.
async fn read_body(response: &mut Response) -> Result<Vec<u8>, (Vec<u8>, reqwest::Error)> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = LONGEST_BODY - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() >= room {
                    return Ok(body);
                }
            }
            Ok(None) => return Ok(body),
            Err(error) => return Err((body, error)),
        }
    }
}

/// How long a `Retry-After` asks to wait: seconds, or a date that is read against the answer's own
/// `Date`, so that this machine's clock does not matter.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let header = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let text: &str = header(RETRY_AFTER)?;
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp());
        date(text)?.duration_since(date(header(DATE)?)?).try_into().unwrap_or_default()
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// An error with its causes; the outer ones alone say little ("error sending request").
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// The beginning of a redacted body, on one line.
struct Snippet<'a>(&'a [u8]);

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(self.0);
        text.chars().take(LONGEST_LOGGED).try_for_each(|c| write!(f, "{}", c.escape_debug()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_layer_can_print_the_key() {
        let key = ApiKey::new("sk-secret").unwrap();
        let client = Client::new(BaseUrl::default_vendor(), key, Timeouts::default()).unwrap();
        assert!(client.authorization.is_sensitive());
        let request =
            client.http.get(client.balance.clone()).header(AUTHORIZATION, client.authorization.clone());
        assert!(!format!("{client:?} {request:?} {:?}", client.authorization).contains("secret"));
    }

    #[test]
    fn waits_are_read_from_seconds_and_dates() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (wait, date, read) in [
            ("7", None, Some(7)),
            (" 0 ", None, Some(0)),
            ("86400", None, Some(3_600)),
            ("99999999999999999999999", None, Some(3_600)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(date), Some(30)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(date), Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", None, None),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some("now"), None),
            ("-1", Some(date), None),
            ("soon", Some(date), None),
            ("", Some(date), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(wait));
            if let Some(date) = date {
                headers.insert(DATE, HeaderValue::from_static(date));
            }
            assert_eq!(retry_after(&headers), read.map(Duration::from_secs), "{wait} {date:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
