//! The strict judge: counts every request, and says when a limit is broken.
//!
//! Strict means that everything counts: a request refused for its key, its body or the rate itself
//! fills the window like any other, so that a client that hammers stays shut out. Memory is bounded
//! by the limits, not by the run. After a restart the judge knows the tasks that are alive, but not
//! the requests of the last minute: a window is judged within one process.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use crate::job::{Limits, Stamp};

/// The window of the rate limit. It is half-open: requests exactly this far apart are never in one.
const WINDOW: Duration = Duration::from_mins(1);
/// A window is counted up to this many times the limit and no further, which bounds its memory.
const COUNTED_LIMITS: usize = 4;

/// What a request asked of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Generate,
    Status,
    Balance,
    /// Anything the API does not have.
    Unknown,
}

/// The limit a request would break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breach {
    /// Requests in the window.
    Rate,
    /// Tasks alive.
    Alive,
}

/// How many requests there were, by what they asked and how they were answered, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Submissions.
    pub submissions: u64,
    /// Looks at a task.
    pub polls: u64,
    /// Looks at the balance.
    pub balances: u64,
    /// Requests for something the API does not have.
    pub unknown_endpoints: u64,
    /// Answered 400: broken rules, or no money.
    pub bad_requests_400: u64,
    /// Answered 401.
    pub unauthorized_401: u64,
    /// Answered 404.
    pub not_found_404: u64,
    /// Answered 429, for limits that the client knows.
    pub throttled_429: u64,
    /// What the scenario did. None of it is in the counts of answers above.
    pub injected: Injected,
}

/// What a scenario did, by kind, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Injected {
    /// Answers 429, those of a limit lower than documented included.
    pub throttled_429: u64,
    /// Answers 503.
    pub unavailable_503: u64,
    /// Answers 401.
    pub unauthorized_401: u64,
    /// Looks at a task that was called unknown.
    pub not_found_404: u64,
    /// Answers with another number that tells of an error, in the status or in the code.
    pub errors: u64,
    /// Answers 3xx.
    pub redirects: u64,
    /// Answers 200 that were cut short or without their `data`.
    pub damaged: u64,
    /// Connections broken before an answer began.
    pub dropped: u64,
    /// Answers delayed.
    pub slow: u64,
    /// Connections not made. They are no requests: nothing arrived.
    pub unconnected: u64,
    /// Tasks accepted with something wrong about them.
    pub tasks: u64,
}

impl Injected {
    /// All of it.
    #[must_use]
    pub const fn total(&self) -> u64 {
        let Self { throttled_429, unavailable_503, unauthorized_401, not_found_404, errors, .. } = *self;
        let Self { redirects, damaged, dropped, slow, unconnected, tasks, .. } = *self;
        let answers = throttled_429 + unavailable_503 + unauthorized_401 + not_found_404 + errors + redirects;
        answers + damaged + dropped + slow + unconnected + tasks
    }
}

impl Counts {
    /// All requests.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.submissions + self.polls + self.balances + self.unknown_endpoints
    }
}

/// Watches the limits.
#[derive(Debug)]
pub(super) struct Judge {
    limits: Limits,
    /// Requests of the last minute, oldest first.
    window: VecDeque<Stamp>,
    /// When the tasks that are alive end, in whole milliseconds since birth.
    alive: BinaryHeap<Reverse<u64>>,
    pub(super) fullest_window: usize,
    pub(super) most_alive: usize,
    pub(super) counts: Counts,
}

impl Judge {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            window: VecDeque::new(),
            alive: BinaryHeap::new(),
            fullest_window: 0,
            most_alive: 0,
            counts: Counts::default(),
        }
    }

    fn rate_limit(&self) -> usize {
        self.limits.requests_per_minute.get() as usize
    }

    /// Counts a request that arrives at `now`, which is never before the one before it.
    pub(super) fn arrive(&mut self, endpoint: Endpoint, now: Stamp) -> Result<(), Breach> {
        let count = match endpoint {
            Endpoint::Generate => &mut self.counts.submissions,
            Endpoint::Status => &mut self.counts.polls,
            Endpoint::Balance => &mut self.counts.balances,
            Endpoint::Unknown => &mut self.counts.unknown_endpoints,
        };
        *count += 1;
        while self.window.front().is_some_and(|oldest| now.since(*oldest) >= WINDOW) {
            self.window.pop_front();
        }
        if self.window.len() >= COUNTED_LIMITS * self.rate_limit() {
            self.window.pop_front();
        }
        self.window.push_back(now);
        self.fullest_window = self.fullest_window.max(self.window.len());
        if self.window.len() > self.rate_limit() { Err(Breach::Rate) } else { Ok(()) }
    }

    /// Whether one more task may live at `now`.
    pub(super) fn room(&mut self, now: Stamp) -> Result<(), Breach> {
        while self.alive.peek().is_some_and(|Reverse(ends)| *ends <= now.as_millis()) {
            self.alive.pop();
        }
        let limit = self.limits.concurrent_tasks.get() as usize;
        if self.alive.len() >= limit { Err(Breach::Alive) } else { Ok(()) }
    }

    /// Whether limits that the client does not know would be broken: by the requests counted so far,
    /// or by a task beyond those alive when [`Judge::room`] was last asked.
    pub(super) fn is_over(&self, hidden: Limits, breach: Breach) -> bool {
        match breach {
            Breach::Rate => self.window.len() > hidden.requests_per_minute.get() as usize,
            Breach::Alive => self.alive.len() >= hidden.concurrent_tasks.get() as usize,
        }
    }

    /// Takes note of a task that lives until `ends_ms`, in milliseconds since birth.
    pub(super) fn live(&mut self, ends_ms: u64) {
        self.alive.push(Reverse(ends_ms));
        self.most_alive = self.most_alive.max(self.alive.len());
    }

    /// Takes note of an answer that no scenario gave.
    pub(super) const fn answered(&mut self, status: u16) {
        match status {
            400 => self.counts.bad_requests_400 += 1,
            401 => self.counts.unauthorized_401 += 1,
            404 => self.counts.not_found_404 += 1,
            429 => self.counts.throttled_429 += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    fn limits(requests: u32, tasks: u32) -> Limits {
        Limits {
            requests_per_minute: NonZeroU32::new(requests).unwrap(),
            concurrent_tasks: NonZeroU32::new(tasks).unwrap(),
        }
    }

    #[test]
    fn the_request_after_the_limit_is_refused_and_counts() {
        let mut judge = Judge::new(Limits::DOCUMENTED);
        let at = |millis| Stamp::from_millis(millis);
        for n in 0..10_000 {
            assert_eq!(judge.arrive(Endpoint::Status, at(n)), Ok(()), "{n}");
        }
        assert_eq!(judge.arrive(Endpoint::Balance, at(59_999)), Err(Breach::Rate));
        assert_eq!(judge.fullest_window, 10_001);
        // The first has left the window, but the refused one is in it.
        assert_eq!(judge.arrive(Endpoint::Generate, at(60_000)), Err(Breach::Rate));
        assert_eq!(judge.arrive(Endpoint::Unknown, at(60_003)), Ok(()));
        assert_eq!(judge.counts.requests(), 10_003);
    }

    #[test]
    fn a_task_makes_room_when_it_ends() {
        let mut judge = Judge::new(limits(1, 2));
        let at = |millis| Stamp::from_millis(millis);
        for ends in [20, 10] {
            assert_eq!(judge.room(at(0)), Ok(()));
            judge.live(ends);
        }
        assert_eq!(judge.room(at(9)), Err(Breach::Alive));
        assert_eq!(judge.room(at(10)), Ok(()));
        assert_eq!(judge.most_alive, 2);
    }

    proptest! {
        #[test]
        fn the_fullest_window_is_the_one_counted_by_hand(
            gaps in proptest::collection::vec(prop_oneof![0u64..100, 0u64..20_000, 59_990u64..60_010], 1..200),
            limit in 1u32..60,
        ) {
            let mut judge = Judge::new(limits(limit, 1));
            let mut stamps: Vec<Stamp> = Vec::new();
            let mut fullest = 0;
            let bound = COUNTED_LIMITS * limit as usize;
            for gap in gaps {
                let now = stamps.last().copied().unwrap_or_default() + Duration::from_millis(gap);
                stamps.push(now);
                let here = stamps.iter().filter(|stamp| now.since(**stamp) < WINDOW).count();
                fullest = fullest.max(here);
                prop_assert_eq!(judge.arrive(Endpoint::Status, now).is_ok(), here <= limit as usize);
                prop_assert_eq!(judge.fullest_window, fullest.min(bound));
                prop_assert!(judge.window.len() <= bound);
            }
        }
    }
}
