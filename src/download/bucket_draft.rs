//! A video on its way into a bucket.
//!
//! Owns the upload in parts: one part at a time, in order, and none of it left behind by whoever ends
//! a draft with a word. Bytes are hashed as they pass, since nobody can read them again.

use bytes::{Bytes, BytesMut};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, ObjectStoreExt};
use sha2::{Digest, Sha256};

use super::bucket::Bucket;
use super::place::{Content, Origin, PlaceError};
use super::s3_words::told;

/// How much is uploaded at once. Services want 5 MiB at least and take 10,000 parts.
const PART: usize = 8 * 1024 * 1024;

/// How many of the first bytes of a draft are kept to be looked at.
const HEAD: usize = 64;

/// A video on its way into a bucket.
#[derive(Debug)]
pub struct Draft {
    bucket: Bucket,
    /// Where its parts go, if there is more than one.
    key: Path,
    upload: Option<MultipartId>,
    /// Whether one may have been begun whose id is not known, because nobody waited for it.
    perhaps_begun: bool,
    parts: Vec<PartId>,
    /// The next part, as soon as it is on its way.
    pending: Option<Bytes>,
    /// What comes after it: never much more than a part.
    buffer: BytesMut,
    have: u64,
    /// The first bytes.
    head: Vec<u8>,
    /// Of all bytes.
    hash: Sha256,
    origin: Option<Origin>,
}

impl Draft {
    pub(super) fn new(bucket: Bucket, key: Path) -> Self {
        Self {
            bucket,
            key,
            upload: None,
            perhaps_begun: false,
            parts: Vec::new(),
            pending: None,
            buffer: BytesMut::new(),
            have: 0,
            head: Vec::new(),
            hash: Sha256::new(),
            origin: None,
        }
    }

    pub(super) const fn have(&self) -> u64 {
        self.have
    }

    pub(super) const fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    pub(super) fn hash(&self) -> Sha256 {
        self.hash.clone()
    }

    pub(super) fn head(&self, length: usize) -> Vec<u8> {
        self.head.iter().copied().take(length).collect()
    }

    pub(super) async fn restart(&mut self, origin: Origin) -> Result<(), PlaceError> {
        self.discard().await?;
        self.pending = None;
        self.buffer.clear();
        self.head.clear();
        self.have = 0;
        self.hash = Sha256::new();
        self.origin = Some(origin);
        Ok(())
    }

    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), PlaceError> {
        // Before the new bytes are taken: if this fails, they are asked for again.
        if self.pending.is_some() || self.buffer.len() >= PART {
            self.upload_part().await?;
        }
        self.hash.update(&bytes);
        self.head.extend(bytes.iter().take(HEAD.saturating_sub(self.head.len())));
        self.have += bytes.len() as u64;
        self.buffer.extend_from_slice(&bytes);
        Ok(())
    }

    /// Uploads one part; all but the last are of one length, as some services want it.
    async fn upload_part(&mut self) -> Result<(), PlaceError> {
        let (bucket, key) = (&self.bucket, &self.key);
        let upload = if let Some(upload) = &self.upload {
            upload.clone()
        } else {
            // What a killed process began under this key, where services list by whole keys only.
            bucket.abort_unfinished(key.as_ref()).await?;
            self.perhaps_begun = true;
            bucket.store.create_multipart(key).await.map_err(|error| bucket.failed(key, &error))?
        };
        self.upload = Some(upload.clone());
        self.perhaps_begun = false;
        let part = self.pending.take().unwrap_or_else(|| {
            let count = self.buffer.len().min(PART);
            self.buffer.split_to(count).freeze()
        });
        self.pending = Some(part.clone());
        let put = bucket.store.put_part(key, &upload, self.parts.len(), part.into()).await;
        self.parts.push(put.map_err(|error| bucket.failed(key, &error))?);
        self.pending = None;
        Ok(())
    }

    pub(super) async fn finish(mut self, path: &str, content: Content) -> Result<(), PlaceError> {
        let finished = self.finish_now(path, content).await;
        if finished.is_err() {
            // The first error is the one to tell.
            if let Err(error) = self.discard().await {
                tracing::warn!("{error}; the next run clears it away");
            }
        }
        finished
    }

    async fn finish_now(&mut self, path: &str, content: Content) -> Result<(), PlaceError> {
        if self.upload.is_none() && self.pending.is_none() && self.buffer.len() <= PART {
            let bytes = self.buffer.split().freeze();
            return self.bucket.create(path, bytes, content).await;
        }
        while self.pending.is_some() || !self.buffer.is_empty() {
            self.upload_part().await?;
        }
        let (bucket, key) = (&self.bucket, &self.key);
        if let Some(upload) = &self.upload {
            let whole = bucket.store.complete_multipart(key, upload, self.parts.clone()).await;
            whole.map_err(|error| bucket.failed(key, &error))?;
            self.upload = None;
        }
        let named = bucket.copy(key, path, content).await;
        // It has its name, or nothing of it stays.
        if let Err(error) = bucket.store.delete(key).await {
            tracing::warn!("{}: {}; the next run clears it away", bucket.shown(key), told(&error));
        }
        named
    }

    /// Aborts what is uploaded.
    async fn discard(&mut self) -> Result<(), PlaceError> {
        self.parts.clear();
        if let Some(upload) = self.upload.take() {
            self.bucket.abort(&self.key, &upload).await?;
        }
        if std::mem::take(&mut self.perhaps_begun) {
            self.bucket.abort_unfinished(self.key.as_ref()).await?;
        }
        Ok(())
    }

    /// Nothing of it stays: parts cost money while they lie there, and no other process knows them.
    pub(super) async fn abandon(mut self) -> Result<(), PlaceError> {
        self.discard().await
    }
}
