//! The run's clock: real time, real time made faster, or virtual time.
//!
//! Everything that waits waits here. Real time runs at a factor (1 outside rehearsals). Virtual
//! time stands still until [`Clock::advance`] is awaited; the engine does that only where it has
//! nothing else to do, so slow disks and slow input stop the clock instead of ageing tasks. The
//! runtime's own paused clock cannot do this: threads and blocking work confuse it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::{Future, poll_fn};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::job::{Stamp, UnixMillis};

/// The wall-clock time, for the birth of a state file and for how long ago that was. Nothing waits
/// or counts by it, since it jumps.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place where wall-clock time enters")]
pub fn wall_time() -> UnixMillis {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// A clock that can be cloned; clones share one time.
#[derive(Debug, Clone)]
pub struct Clock(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Real { origin: tokio::time::Instant, base: Stamp, factor: NonZeroU32 },
    Virtual(Arc<Mutex<Timeline>>),
}

/// Virtual time and those who wait for it.
#[derive(Debug)]
struct Timeline {
    now: Stamp,
    sleepers: BinaryHeap<Reverse<Sleeper>>,
    /// Sleepers so far: orders those with the same deadline, first come first woken.
    count: u64,
}

#[derive(Debug)]
struct Sleeper {
    due: (Stamp, u64),
    waker: Waker,
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Sleeper {}

impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

fn lock(timeline: &Mutex<Timeline>) -> MutexGuard<'_, Timeline> {
    timeline.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clock {
    /// A clock that shows `base` now and runs `factor` times as fast as real time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place where real time enters")]
    pub fn real(base: Stamp, factor: NonZeroU32) -> Self {
        Self(Kind::Real { origin: tokio::time::Instant::now(), base, factor })
    }

    /// A clock that shows `base` until it is advanced.
    #[must_use]
    pub fn virtual_from(base: Stamp) -> Self {
        Self(Kind::Virtual(Arc::new(Mutex::new(Timeline {
            now: base,
            sleepers: BinaryHeap::new(),
            count: 0,
        }))))
    }

    /// Whether time moves only by [`Clock::advance`].
    #[must_use]
    pub const fn is_virtual(&self) -> bool {
        matches!(self.0, Kind::Virtual(_))
    }

    /// How many of this clock's seconds pass in a real one; `None` for virtual time.
    #[must_use]
    pub const fn factor(&self) -> Option<NonZeroU32> {
        match self.0 {
            Kind::Real { factor, .. } => Some(factor),
            Kind::Virtual(_) => None,
        }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Stamp {
        match &self.0 {
            Kind::Real { origin, base, factor } => *base + origin.elapsed() * factor.get(),
            Kind::Virtual(timeline) => lock(timeline).now,
        }
    }

    /// Waits until the clock shows `due` or later.
    pub fn sleep_until(&self, due: Stamp) -> impl Future<Output = ()> + Send + use<> {
        let kind = self.0.clone();
        async move {
            match kind {
                Kind::Real { origin, base, factor } => {
                    tokio::time::sleep_until(origin + due.since(base) / factor.get()).await;
                }
                Kind::Virtual(timeline) => sleep_in(&timeline, due).await,
            }
        }
    }

    /// Waits for this long.
    pub fn sleep(&self, span: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.sleep_until(self.now() + span)
    }

    /// Moves virtual time to the next moment somebody waits for, or to `wake_at` if that is
    /// sooner, and wakes whom it passes. Never ready in real time, nor while nobody waits.
    pub fn advance(&self, wake_at: Option<Stamp>) -> impl Future<Output = ()> + Send + use<> {
        let kind = self.0.clone();
        poll_fn(move |_| match &kind {
            Kind::Virtual(timeline) if lock(timeline).advance(wake_at) => Poll::Ready(()),
            Kind::Virtual(_) | Kind::Real { .. } => Poll::Pending,
        })
    }
}

impl Timeline {
    fn advance(&mut self, wake_at: Option<Stamp>) -> bool {
        let first = self.sleepers.peek().map(|Reverse(sleeper)| sleeper.due.0);
        let Some(next) = first.into_iter().chain(wake_at).min() else { return false };
        self.now = self.now.max(next);
        while self.sleepers.peek().is_some_and(|Reverse(sleeper)| sleeper.due.0 <= self.now) {
            if let Some(Reverse(sleeper)) = self.sleepers.pop() {
                sleeper.waker.wake();
            }
        }
        true
    }
}

async fn sleep_in(timeline: &Mutex<Timeline>, due: Stamp) {
    let mut registered: Option<Waker> = None;
    poll_fn(|context| {
        let mut timeline = lock(timeline);
        if timeline.now >= due {
            return Poll::Ready(());
        }
        if !registered.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            timeline.count += 1;
            let order = timeline.count;
            timeline.sleepers.push(Reverse(Sleeper { due: (due, order), waker: context.waker().clone() }));
            registered = Some(context.waker().clone());
        }
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream::{FuturesUnordered, StreamExt};

    #[tokio::test]
    async fn virtual_time_stops_at_each_sleeper_in_order() {
        let clock = Clock::virtual_from(Stamp::from_millis(5));
        let sleepers: FuturesUnordered<_> = [30, 10, 20, 10]
            .into_iter()
            .map(|millis| {
                let clock = clock.clone();
                async move {
                    clock.sleep_until(Stamp::from_millis(millis)).await;
                    (millis, clock.now())
                }
            })
            .collect();
        let mut woken = Vec::new();
        let mut sleepers = sleepers;
        while !sleepers.is_empty() {
            tokio::select! {
                biased;
                Some((millis, now)) = sleepers.next() => woken.push((millis, now.as_millis())),
                () = clock.advance(None) => {}
            }
        }
        assert_eq!(woken, [(10, 10), (10, 10), (20, 20), (30, 30)]);
    }

    #[tokio::test]
    async fn virtual_time_moves_no_further_than_asked() {
        let clock = Clock::virtual_from(Stamp::BIRTH);
        let sleep = clock.sleep_until(Stamp::from_millis(50));
        tokio::pin!(sleep);
        assert!(futures::poll!(&mut sleep).is_pending());
        clock.advance(Some(Stamp::from_millis(20))).await;
        assert_eq!(clock.now(), Stamp::from_millis(20));
        assert!(futures::poll!(&mut sleep).is_pending());
        clock.advance(None).await;
        assert_eq!(clock.now(), Stamp::from_millis(50));
        assert!(futures::poll!(&mut sleep).is_ready());
        assert!(futures::poll!(std::pin::pin!(clock.advance(None))).is_pending());
    }

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "compares the clock with the runtime's")]
    async fn real_time_runs_at_the_factor() {
        let clock = Clock::real(Stamp::from_millis(1_000), NonZeroU32::new(60).unwrap());
        let start = tokio::time::Instant::now();
        clock.sleep(Duration::from_mins(1)).await;
        assert_eq!(start.elapsed().as_millis(), 1_000);
        assert_eq!(clock.now(), Stamp::from_millis(61_000));
    }
}
