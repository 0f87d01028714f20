//! A bucket of an S3-compatible service as a place for videos.
//!
//! Credentials, region and endpoint come from the `AWS_…` variables of the environment, as
//! `object_store` reads them, and go to that service alone. A video that fits into one part is put in
//! one request, which never replaces anything. A longer one is uploaded in parts to a key of its own
//! below `.batchveo/` and copied to its name inside the service when it is whole: nothing unfinished is
//! ever under a name, and whatever a killed process left is told by its key and cleared away. No more of
//! a video is in memory than one part.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::buffered::BufWriter;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{
    Attribute, Attributes, ClientConfigKey, GetOptions, MultipartId, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, RetryConfig,
};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Response, redirect};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::bucket_draft::Draft;
use super::place::{Content, DraftId, Found, PlaceError, SOME_ROOM};
use super::s3_words::{encoded, hex, is_denied, is_refused, shortened, told, uploads_in};
use crate::names::DRAFTS;

/// Where the hash of a video is noted, as metadata of the object.
const SHA256: &str = "sha256";

/// How often a request is tried again at once, and for how long; a draft that fails is tried again
/// later by whoever writes it.
const RETRIES: usize = 3;
const RETRIED_FOR: Duration = Duration::from_secs(60);

/// How long a request may take, a part's included: a line slower than 28 kB/s has no use for buckets.
const REQUEST: Duration = Duration::from_secs(300);

/// How long a signature is good.
const SIGNED_FOR: Duration = Duration::from_secs(600);

/// How much of an object is kept in memory before it is uploaded in parts.
const REPLACED_AT_ONCE: usize = 8 * 1024 * 1024;

/// How often unfinished uploads are listed, each time after those listed were aborted.
const SWEEPS: usize = 100;

/// What an object of this name says it is.
fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("mov") => "video/quicktime",
        Some("webm") => "video/webm",
        Some("json") => "application/json",
        Some("mp4" | "m4v") => "video/mp4",
        Some(_) | None => "application/octet-stream",
    }
}

/// A bucket, or what is below a prefix in it.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub(super) store: AmazonS3,
    /// For the requests that `object_store` does not know, with a signature of its making.
    http: reqwest::Client,
    name: String,
    prefix: Path,
    address: String,
}

/// An object below the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name, without the prefix.
    pub path: String,
    /// Its length.
    pub bytes: u64,
}

impl Bucket {
    /// The bucket and prefix that `address`, such as `s3://bucket/prefix`, names. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Unusable`] if it names none, or the environment says what cannot be.
    pub fn open(address: &str) -> Result<Self, PlaceError> {
        let variables = std::env::vars_os();
        Self::with_variables(
            address,
            variables.filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok())),
        )
    }

    /// The same with these variables of the environment. Those that do not begin with `AWS_`, and those
    /// that `object_store` does not know, say nothing.
    ///
    /// # Errors
    ///
    /// As [`Bucket::open`] does.
    pub fn with_variables(
        address: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, PlaceError> {
        let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
        let usual = AmazonS3Builder::new().with_config(timeout, format!("{} seconds", REQUEST.as_secs()));
        let settings = variables.into_iter().filter(|(name, _)| name.starts_with("AWS_")).fold(
            usual,
            |settings, (name, value)| match name.to_ascii_lowercase().parse() {
                Ok(key) => settings.with_config(key, value),
                Err(_) => settings,
            },
        );
        let unusable = |why: String| PlaceError::Unusable { place: address.to_owned(), why };
        let rest = address.strip_prefix("s3://").unwrap_or_default();
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() || name.contains(['?', '#', '@', ':', ' ']) {
            return Err(unusable("a bucket is named like s3://bucket/prefix".to_owned()));
        }
        let prefix = Path::parse(prefix).map_err(|error| unusable(error.to_string()))?;
        let asked = |key| settings.get_config_value(&key);
        let endpoint = asked(AmazonS3ConfigKey::S3Endpoint).or_else(|| asked(AmazonS3ConfigKey::Endpoint));
        let allows = asked(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
        let allows =
            allows.is_some_and(|word| matches!(word.to_lowercase().as_str(), "true" | "1" | "yes" | "on"));
        if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) && !allows {
            let why = "its endpoint is plain http, where anybody on the way reads what is sent: use https, \
                       or set AWS_ALLOW_HTTP=true";
            return Err(unusable(why.to_owned()));
        }
        let retry =
            RetryConfig { max_retries: RETRIES, retry_timeout: RETRIED_FOR, ..RetryConfig::default() };
        let store = settings
            .with_bucket_name(name)
            .with_retry(retry)
            .build()
            .map_err(|error| unusable(told(&error)))?;
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(REQUEST)
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        let slash = if prefix.as_ref().is_empty() { "" } else { "/" };
        let address = format!("s3://{name}{slash}{prefix}");
        Ok(Self { store, http, name: name.to_owned(), prefix, address })
    }

    /// Such as `s3://bucket/prefix`, without a slash at the end.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Begins an upload and aborts it: no object is ever there, and no earlier version of one.
    pub(super) async fn probe(&self, state: &str) -> Result<(), PlaceError> {
        let key = self.key(&format!("{DRAFTS}/{state}-probe.part"))?;
        let failed = |error: object_store::Error| self.failed(&key, &error);
        let upload = self.store.create_multipart(&key).await.map_err(failed)?;
        self.abort(&key, &upload).await
    }

    /// Aborts the uploads that were begun for `state` and not finished, and deletes what was whole but
    /// never got its name.
    pub(super) async fn prepare(&self, state: &str) -> Result<(), PlaceError> {
        let begin = format!("{state}-");
        let drafts = self.key(DRAFTS)?;
        let left = self.store.list(Some(&drafts)).try_filter(|object| {
            let ours = object.location.filename().is_some_and(|name| name.starts_with(&begin));
            std::future::ready(ours)
        });
        let left: Result<Vec<_>, _> = left.map_ok(|object| object.location).try_collect().await;
        match left {
            Ok(left) => {
                for draft in left {
                    self.store.delete(&draft).await.map_err(|error| self.failed(&draft, &error))?;
                }
            }
            // Whoever may only write may go on: what is left is listed by others.
            Err(error) if is_denied(&error) => tracing::warn!("{}: {}", self.address, told(&error)),
            Err(error) => return Err(self.unusable(told(&error))),
        }
        self.abort_unfinished(&format!("{drafts}/{begin}")).await
    }

    /// Aborts every unfinished upload whose key begins with `prefix`, which is ours alone.
    pub(super) async fn abort_unfinished(&self, prefix: &str) -> Result<(), PlaceError> {
        for _ in 0..SWEEPS {
            let unfinished = match self.unfinished(prefix).await {
                Ok(unfinished) => unfinished,
                Err(why) => {
                    tracing::warn!("{}: unfinished uploads cannot be listed: {why}", self.address);
                    return Ok(());
                }
            };
            if unfinished.is_empty() {
                break;
            }
            for (file, upload) in unfinished {
                let key = self.key(&format!("{DRAFTS}/{file}"))?;
                self.abort(&key, &upload).await?;
            }
        }
        Ok(())
    }

    /// Some of the unfinished uploads whose key begins with `prefix`: the last part of the key, and the
    /// upload's id.
    async fn unfinished(&self, prefix: &str) -> Result<Vec<(String, MultipartId)>, String> {
        let query = [("uploads", ""), ("prefix", prefix)];
        let options = SignedUrlOptions::new().with_query(query);
        let listing = self.signed(Method::GET, &Path::ROOT, options).await?;
        Ok(uploads_in(&listing))
    }

    pub(super) async fn abort(&self, key: &Path, upload: &MultipartId) -> Result<(), PlaceError> {
        match self.store.abort_multipart(key, upload).await {
            // It has ended meanwhile.
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(key, &error)),
        }
    }

    #[expect(clippy::unused_async, reason = "drafts of a folder wait for their disk")]
    pub(super) async fn begin(&self, id: &DraftId) -> Result<Draft, PlaceError> {
        let key = self.key(&format!("{DRAFTS}/{}.part", id.as_str()))?;
        Ok(Draft::new(self.clone(), key))
    }

    /// Under the key of a draft, so that whoever finds it left there clears it away.
    pub(super) async fn look_for_room(&self, id: &DraftId) -> Result<(), PlaceError> {
        let key = self.key(&format!("{DRAFTS}/{}.part", id.as_str()))?;
        let put = self.store.put(&key, Bytes::from_static(SOME_ROOM).into()).await;
        put.map_err(|error| self.failed(&key, &error))?;
        if let Err(error) = self.store.delete(&key).await {
            tracing::debug!("{}: {}; the next run clears it away", self.shown(&key), told(&error));
        }
        Ok(())
    }

    pub(super) async fn find(&self, path: &str, content: Content) -> Result<Found, PlaceError> {
        let key = self.name(path)?;
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = match self.store.get_opts(&key, options).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(Found::Nothing),
            Err(error) => return Err(self.failed(&key, &error)),
        };
        let same = if found.meta.size != content.bytes {
            false
        } else if let Some(hash) = found.attributes.get(&Attribute::Metadata(SHA256.into())) {
            hash.as_ref() == hex(&content.sha256)
        } else {
            self.hash_if_there(path).await?.is_some_and(|found| found.sha256 == content.sha256)
        };
        Ok(if same { Found::Same } else { Found::Other })
    }

    pub(super) async fn put(&self, path: &str, text: Bytes) -> Result<(), PlaceError> {
        let content = Content { bytes: text.len() as u64, sha256: Sha256::digest(&text).into() };
        self.create(path, text, content).await
    }

    /// Puts an object where none is, in one request.
    pub(super) async fn create(&self, path: &str, bytes: Bytes, content: Content) -> Result<(), PlaceError> {
        let key = self.name(path)?;
        let put = |mode| {
            let mut attributes = Attributes::new();
            attributes.insert(Attribute::Metadata(SHA256.into()), hex(&content.sha256).into());
            attributes.insert(Attribute::ContentType, content_type(path).into());
            let options = PutOptions { mode, attributes, ..PutOptions::default() };
            self.store.put_opts(&key, bytes.clone().into(), options)
        };
        let put = match put(PutMode::Create).await {
            // The service does not know conditions: look first, then put.
            Err(object_store::Error::NotImplemented { .. }) => match self.find(path, content).await? {
                Found::Nothing => put(PutMode::Overwrite).await,
                Found::Same => return Ok(()),
                Found::Other => return Err(self.taken(&key)),
            },
            put => put,
        };
        match put {
            Ok(_) => Ok(()),
            // Perhaps by this very request, whose answer was lost.
            Err(object_store::Error::AlreadyExists { .. }) => self.is_taken_by(path, content).await,
            Err(error) => Err(self.failed(&key, &error)),
        }
    }

    /// Success if what is under `path` is `content`.
    async fn is_taken_by(&self, path: &str, content: Content) -> Result<(), PlaceError> {
        match self.find(path, content).await? {
            Found::Same => Ok(()),
            Found::Nothing | Found::Other => Err(self.taken(&self.name(path)?)),
        }
    }

    /// Gives what is under `draft` its name, if nothing has it.
    pub(super) async fn copy(&self, draft: &Path, path: &str, content: Content) -> Result<(), PlaceError> {
        let key = self.name(path)?;
        match self.find(path, content).await? {
            Found::Nothing => {}
            Found::Same => return Ok(()),
            Found::Other => return Err(self.taken(&key)),
        }
        let headers = [
            ("x-amz-copy-source", encoded(&format!("{}/{draft}", self.name))),
            ("x-amz-metadata-directive", "REPLACE".to_owned()),
            ("x-amz-meta-sha256", hex(&content.sha256)),
            ("content-type", content_type(path).to_owned()),
            // Services that do not know it here have been looked at before.
            ("if-none-match", "*".to_owned()),
        ];
        let mut options = SignedUrlOptions::new();
        for (name, value) in headers {
            let value = HeaderValue::from_str(&value).map_err(|error| self.odd(&key, &error))?;
            options = options.with_signed_header(HeaderName::from_static(name), value);
        }
        let copied = self.signed(Method::PUT, &key, options).await;
        match copied {
            // A copy that fails late is told so after it has been told well.
            Ok(answer) if !answer.contains("<Error>") => Ok(()),
            Ok(why) | Err(why) => {
                let found = self.find(path, content).await?;
                match found {
                    Found::Same => Ok(()),
                    Found::Other => Err(self.taken(&key)),
                    Found::Nothing => Err(self.odd(&key, &shortened(&why))),
                }
            }
        }
    }

    /// Asks what `object_store` does not: the body of the answer, or what went wrong.
    async fn signed(&self, method: Method, key: &Path, options: SignedUrlOptions) -> Result<String, String> {
        let url = self.store.signed_url_opts(method.clone(), key, SIGNED_FOR, &options).await;
        let url = url.map_err(|error| told(&error))?;
        let answer = self.http.request(method, url).headers(options.signed_headers).send().await;
        // The address holds a signature.
        let text = async |answer: Response| (answer.status(), answer.text().await.unwrap_or_default());
        let (status, body) = text(answer.map_err(|error| error.without_url().to_string())?).await;
        if status.is_success() { Ok(body) } else { Err(format!("{status}: {}", shortened(&body))) }
    }

    /// What is below the prefix and finished, in no order that means anything.
    ///
    /// # Errors
    ///
    /// As items, when it cannot be listed.
    pub fn objects(&self) -> impl Stream<Item = Result<Object, PlaceError>> + '_ {
        let prefix = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        self.store.list(prefix).filter_map(move |object| {
            let object = object.map_err(|error| self.failed(&self.prefix, &error)).map(|object| {
                let below = object.location.prefix_match(&self.prefix)?;
                let path = below.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
                let finished = path.split('/').next() != Some(DRAFTS);
                finished.then_some(Object { path, bytes: object.size })
            });
            std::future::ready(object.transpose())
        })
    }

    /// Reads all of an object, and says what it is; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub async fn hash_if_there(&self, path: &str) -> Result<Option<Content>, PlaceError> {
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        let there = self
            .read(path, |piece| {
                hash.update(piece);
                bytes += piece.len() as u64;
                Ok(())
            })
            .await?;
        Ok(there.then(|| Content { bytes, sha256: hash.finalize().into() }))
    }

    /// Gives the bytes of an object to `take`, a piece at a time; `false` if it is not there.
    pub(super) async fn read(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<bool, PlaceError> {
        let key = self.name(path)?;
        let mut pieces = match self.store.get(&key).await {
            Ok(found) => found.into_stream(),
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(self.failed(&key, &error)),
        };
        while let Some(piece) = pieces.try_next().await.map_err(|error| self.failed(&key, &error))? {
            take(&piece).map_err(|error| self.odd(&key, &error))?;
        }
        Ok(true)
    }

    /// Puts an object in place of whatever is there: only for what is ours alone.
    pub(super) async fn replace(&self, path: &str, file: &mut impl Read) -> Result<(), PlaceError> {
        let key = self.name(path)?;
        let mut upload =
            BufWriter::with_capacity(Arc::new(self.store.clone()), key.clone(), REPLACED_AT_ONCE);
        let mut piece = vec![0; 64 * 1024];
        let written = loop {
            let read = match file.read(&mut piece) {
                Ok(0) => break upload.shutdown().await,
                Ok(read) => read,
                Err(error) => break Err(error),
            };
            if let Err(error) = upload.write_all(&piece[..read]).await {
                break Err(error);
            }
        };
        if written.is_err() {
            // What had begun is not left unfinished; the first error is the one to tell.
            let _ = upload.abort().await;
        }
        written.map_err(|error| self.odd(&key, &error))
    }

    /// The key of a name.
    fn name(&self, path: &str) -> Result<Path, PlaceError> {
        let plain = path.split('/').all(|part| !part.is_empty()) && path.split('/').next() != Some(DRAFTS);
        if plain { self.key(path) } else { Err(self.no_name(path)) }
    }

    fn key(&self, path: &str) -> Result<Path, PlaceError> {
        let slash = if self.prefix.as_ref().is_empty() { "" } else { "/" };
        Path::parse(format!("{}{slash}{path}", self.prefix)).map_err(|_| self.no_name(path))
    }

    fn no_name(&self, path: &str) -> PlaceError {
        PlaceError::NoName { path: path.to_owned(), place: self.address.clone() }
    }

    fn unusable(&self, why: String) -> PlaceError {
        PlaceError::Unusable { place: self.address.clone(), why }
    }

    pub(super) fn shown(&self, key: &Path) -> String {
        format!("s3://{}/{key}", self.name)
    }

    fn taken(&self, key: &Path) -> PlaceError {
        PlaceError::Taken { path: self.shown(key) }
    }

    fn odd(&self, key: &Path, why: &dyn std::fmt::Display) -> PlaceError {
        PlaceError::Io { path: self.shown(key), error: io::Error::other(why.to_string()) }
    }

    pub(super) fn failed(&self, key: &Path, error: &object_store::Error) -> PlaceError {
        let why = told(error);
        if ["QuotaExceeded", "StorageFull", "507 Insufficient Storage"].iter().any(|word| why.contains(word))
        {
            return PlaceError::Full { place: self.address.clone(), error: io::Error::other(why) };
        }
        if is_refused(error) {
            return self.unusable(why);
        }
        self.odd(key, &why)
    }
}
