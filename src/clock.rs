//! The run's clock: real time, real time made faster, or virtual time.
//!
//! Everything that waits waits here. Real time runs at a factor (1 outside rehearsals). Virtual
//! time stands still until [`Clock::advance`] is awaited; the engine does that only where it has
//! nothing else to do, so slow disks and slow input stop the clock instead of ageing tasks. The
//! runtime's own paused clock cannot do this: threads and blocking work confuse it.
//!
//! Between two processes there is no clock of ours, only a [`Moment`] of each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::{Future, poll_fn};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::{Stamp, UnixMillis};

/// Where the machine's clocks stand.
///
/// The wall clock jumps: somebody sets it, or a machine without a battery learns the date after it
/// has started. What passed between two moments is therefore told by a clock that counts from the
/// start of the machine, through suspend too, as long as that is the same start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The wall clock.
    pub wall: UnixMillis,
    /// The clock that counts from the machine's start, where there is one.
    pub boot: Option<Boot>,
}

/// How long a machine has been up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Which start of which machine.
    pub id: String,
    /// Milliseconds since then.
    pub up: u64,
}

impl Moment {
    /// This moment. Linux tells both clocks (its uptime to a hundredth of a second), other systems
    /// the wall clock alone.
    #[must_use]
    pub fn now() -> Self {
        let read = |path| std::fs::read_to_string(path).ok();
        let boot = read("/proc/sys/kernel/random/boot_id").zip(read("/proc/uptime"));
        Self { wall: wall_time(), boot: boot.and_then(|(id, uptime)| Boot::parse(&id, &uptime)) }
    }

    /// How long after `earlier` this is. By the wall clock if the machine was started between them;
    /// zero then when that was set back.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Duration {
        let by_wall = || u64::try_from(self.wall.0.saturating_sub(earlier.wall.0)).unwrap_or(0);
        let by_boot = self.boot.as_ref().zip(earlier.boot.as_ref()).and_then(|(now, then)| {
            // Containers may count anew under the same name.
            (now.id == then.id).then(|| now.up.checked_sub(then.up)).flatten()
        });
        Duration::from_millis(by_boot.unwrap_or_else(by_wall))
    }
}

impl Boot {
    /// From what Linux writes: an id, and seconds with two decimals before those spent idle.
    fn parse(id: &str, uptime: &str) -> Option<Self> {
        let (seconds, rest) = uptime.split_once('.')?;
        let hundredths: u64 = rest.get(..2)?.parse().ok()?;
        let up = seconds.parse::<u64>().ok()?.checked_mul(1_000)? + hundredths * 10;
        let id = id.trim();
        (!id.is_empty()).then(|| Self { id: id.to_owned(), up })
    }
}

impl From<UnixMillis> for Moment {
    /// A moment of which only the wall clock is known.
    fn from(wall: UnixMillis) -> Self {
        Self { wall, boot: None }
    }
}

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
    Virtual(Arc<Timeline>),
}

/// Virtual time and those who wait for it.
#[derive(Debug)]
struct Timeline {
    /// Nanoseconds. Read far more often than anybody waits; moved only where the sleepers are locked.
    now: AtomicU64,
    sleepers: Mutex<Sleepers>,
}

#[derive(Debug, Default)]
struct Sleepers {
    heap: BinaryHeap<Reverse<Sleeper>>,
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
        let now = AtomicU64::new(base.as_nanos());
        Self(Kind::Virtual(Arc::new(Timeline { now, sleepers: Mutex::default() })))
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
            Kind::Virtual(timeline) => timeline.now(),
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
            Kind::Virtual(timeline) if timeline.advance(wake_at) => Poll::Ready(()),
            Kind::Virtual(_) | Kind::Real { .. } => Poll::Pending,
        })
    }
}

impl Timeline {
    fn now(&self) -> Stamp {
        Stamp::from_nanos(self.now.load(Ordering::Acquire))
    }

    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, wake_at: Option<Stamp>) -> bool {
        let mut sleepers = self.sleepers();
        let first = sleepers.heap.peek().map(|Reverse(sleeper)| sleeper.due.0);
        let Some(next) = first.into_iter().chain(wake_at).min() else { return false };
        let now = self.now().max(next);
        self.now.store(now.as_nanos(), Ordering::Release);
        while sleepers.heap.peek().is_some_and(|Reverse(sleeper)| sleeper.due.0 <= now) {
            if let Some(Reverse(sleeper)) = sleepers.heap.pop() {
                sleeper.waker.wake();
            }
        }
        true
    }
}

async fn sleep_in(timeline: &Timeline, due: Stamp) {
    let mut registered: Option<Waker> = None;
    poll_fn(|context| {
        if timeline.now() >= due {
            return Poll::Ready(());
        }
        if !registered.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            let mut sleepers = timeline.sleepers();
            // It may have moved before this was locked, and nobody would wake whom it has passed.
            if timeline.now() >= due {
                return Poll::Ready(());
            }
            sleepers.count += 1;
            let order = sleepers.count;
            sleepers.heap.push(Reverse(Sleeper { due: (due, order), waker: context.waker().clone() }));
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

    fn moment(wall: i64, id: &str, up: u64) -> Moment {
        Moment { wall: UnixMillis(wall), boot: Some(Boot { id: id.to_owned(), up }) }
    }

    #[test]
    fn the_wall_clock_counts_only_across_a_start_of_the_machine() {
        const DAY: i64 = 24 * 60 * 60 * 1_000;
        let then = moment(0, "a", 500);
        for (now, passed) in [
            (moment(DAY, "a", 700), 200),
            (moment(-DAY, "a", 700), 200),
            (moment(900, "b", 700), 900),
            (moment(-DAY, "b", 700), 0),
            (moment(900, "a", 400), 900),
            (UnixMillis(900).into(), 900),
        ] {
            assert_eq!(now.since(&then).as_millis(), passed, "{now:?}");
        }
    }

    #[test]
    fn uptimes_are_read_as_linux_writes_them() {
        let parsed = Boot::parse("bb12a17f-b89c\n", "804.46 376.57\n");
        assert_eq!(parsed, Some(Boot { id: "bb12a17f-b89c".to_owned(), up: 804_460 }));
        for (id, uptime) in [("", "1.00 1.00"), ("a", ""), ("a", "1"), ("a", "x.00 1"), ("a", "1.é")] {
            assert_eq!(Boot::parse(id, uptime), None, "{id} {uptime}");
        }
        #[cfg(target_os = "linux")]
        assert!(Moment::now().boot.is_some());
    }

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
