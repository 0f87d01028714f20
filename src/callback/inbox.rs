//! What a request to one of our addresses says.
//!
//! Owns the way from bytes to an [`Arrival`], and nothing that listens: the receiver and the simulator
//! in memory hand what they have to the very same checks. The body is read by the client's own decoder
//! of a look at a task, for a callback is the same envelope. What cannot be read still is an arrival:
//! somebody who knows the address had something to say, and a look will tell what.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use super::Signer;
use crate::api::Polled;
use crate::job::{Attempt, SampleId, TaskId};
use crate::veo::{self, ApiKey};

/// What a callback says, from an address that we gave away for this attempt and no other.
#[derive(Debug)]
pub struct Arrival {
    /// Whose task it is.
    pub sample: SampleId,
    /// Of which submission.
    pub attempt: Attempt,
    /// The task that it names, if it can be read.
    pub task: Option<TaskId>,
    /// How the task is, as a look would tell it.
    pub answer: Polled,
    /// Who waits for this to be durable.
    pub receipt: Receipt,
}

/// Tells whoever brought an arrival that what it says is durable, so that it need not be brought again.
/// Dropped untold, it should be.
#[derive(Debug, Default)]
pub struct Receipt(Option<oneshot::Sender<()>>);

impl Receipt {
    /// A receipt, and where it is told.
    #[must_use]
    pub fn new() -> (Self, oneshot::Receiver<()>) {
        let (told, waits) = oneshot::channel();
        (Self(Some(told)), waits)
    }

    /// One that nobody waits for.
    #[must_use]
    pub const fn unwanted() -> Self {
        Self(None)
    }

    /// Tells.
    pub fn settle(self) {
        // Who brought it may have gone.
        let _ = self.0.map(|waits| waits.send(()));
    }
}

/// Counts requests that were turned away. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<AtomicU64>);

impl Refusals {
    /// How many so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why a request brings no arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TurnedAway {
    /// We never gave this address away: to be answered as if nothing were there.
    Forged,
    /// We did, for a sample that is no longer known. There is nothing to bring again.
    Gone,
}

/// Reads requests.
#[derive(Debug, Clone)]
pub struct Inbox {
    signer: Signer,
    /// Samples that have had other numbers, by the numbering and the number of that time.
    moved: HashMap<(u64, SampleId), SampleId>,
    /// What must be written nowhere, should a body hold it.
    key: Option<ApiKey>,
}

impl Inbox {
    /// One that knows what `signer` has signed.
    #[must_use]
    pub fn new(signer: Signer) -> Self {
        Self::with_moved(signer, HashMap::new())
    }

    /// One that also knows these samples by the numbers that they had before the sheet was read in
    /// again.
    #[must_use]
    pub fn with_moved(signer: Signer, moved: HashMap<(u64, SampleId), SampleId>) -> Self {
        Self { signer, moved, key: None }
    }

    /// The same, taking `key` out of what it reads.
    #[must_use]
    pub fn hiding(self, key: ApiKey) -> Self {
        Self { key: Some(key), ..self }
    }

    pub(super) fn redacted<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        self.key.as_ref().map_or(Cow::Borrowed(body), |key| Cow::Owned(key.redact_body(body)))
    }

    /// Whose address `query`, the part of a request's target behind `?`, belongs to.
    ///
    /// # Errors
    ///
    /// Nobody's.
    pub fn recognise(&self, query: &str) -> Result<(SampleId, Attempt), TurnedAway> {
        let signed = self.signer.verify(query).ok_or(TurnedAway::Forged)?;
        let sample = if signed.numbering == self.signer.numbering() {
            signed.sample
        } else {
            *self.moved.get(&(signed.numbering, signed.sample)).ok_or(TurnedAway::Gone)?
        };
        Ok((sample, signed.attempt))
    }

    /// What a request says; nobody waits for its receipt. `url` is the whole address or what of it
    /// reached us.
    ///
    /// # Errors
    ///
    /// It is not for any attempt of ours.
    pub fn read(&self, url: &str, body: &[u8]) -> Result<Arrival, TurnedAway> {
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let (sample, attempt) = self.recognise(query)?;
        let (task, answer) = veo::read_callback(&self.redacted(body));
        Ok(Arrival { sample, attempt, task, answer, receipt: Receipt::unwanted() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callback::Addresses;
    use crate::job::UnixMillis;

    const SAMPLE: SampleId = SampleId(5);

    fn signer(numbering: u64) -> Signer {
        Signer::new(&[1; 32], numbering)
    }

    fn url(numbering: u64) -> String {
        let addresses = Addresses::signed("https://hooks.example/veo".parse().unwrap(), signer(numbering));
        addresses.of(SAMPLE, Attempt(1)).expose().to_owned()
    }

    #[test]
    fn a_callback_is_read_as_a_look_is() {
        let inbox = Inbox::new(signer(0));
        let body = br#"{"code":200,"message":"success","data":{"taskId":"task_1","state":"success","createTime":1704067200000,
            "completeTime":1704067260000,"resultJson":"{\"resultUrls\":[\"https://cdn.example/1.mp4\"]}"}}"#;
        let arrival = inbox.read(&url(0), body).unwrap();
        assert_eq!((arrival.sample, arrival.attempt), (SAMPLE, Attempt(1)));
        assert_eq!(arrival.task, TaskId::new("task_1"));
        let Polled::Succeeded(video) = arrival.answer else { panic!("{:?}", arrival.answer) };
        assert_eq!(video.urls, ["https://cdn.example/1.mp4"]);
        assert_eq!(video.completed, Some(UnixMillis(1_704_067_260_000)));
        let failed = br#"{"code":200,"data":{"taskId":"task_1","state":"failed","failCode":"NSFW"}}"#;
        assert!(matches!(inbox.read(&url(0), failed).unwrap().answer, Polled::Failed(_)));
    }

    #[test]
    fn whatever_comes_to_a_known_address_is_an_arrival() {
        let inbox = Inbox::new(signer(0));
        let bodies: [&[u8]; 6] = [b"", b"\0\xff", b"{", b"[]", b"{\"code\":200}", b"<html>502</html>"];
        for body in bodies {
            let arrival = inbox.read(&url(0), body).unwrap();
            assert_eq!(arrival.task, None);
            assert!(matches!(arrival.answer, Polled::Unclear(_)), "{:?}", arrival.answer);
        }
    }

    #[test]
    fn strangers_are_told_from_samples_that_have_moved() {
        let turned_away = |inbox: &Inbox, url: &str| inbox.read(url, b"").err();
        let inbox = Inbox::with_moved(signer(2), [((1, SAMPLE), SampleId(8))].into());
        assert_eq!(inbox.read(&url(2), b"").unwrap().sample, SAMPLE);
        assert_eq!(inbox.read(&url(1), b"").unwrap().sample, SampleId(8));
        assert_eq!(turned_away(&inbox, &url(0)), Some(TurnedAway::Gone));
        let forged = url(2).replace(".5.", ".6.");
        for stranger in ["", "/", "/?", "https://hooks.example/veo", &forged] {
            assert_eq!(turned_away(&inbox, stranger), Some(TurnedAway::Forged), "{stranger}");
        }
    }
}
