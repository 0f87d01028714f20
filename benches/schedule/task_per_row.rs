//! The obvious alternative: a tokio task per row, which waits for a slot, the limiter and the clock.
//!
//! In its best form: on one thread, in paused time with no driver but the timer's, a slot taken before
//! its task is spawned, and one task at a time at the limiter, since a crowd of a thousand that all
//! wake for the same permit costs 500 checks a permit.

use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use batchveo::api::{Polled, Submitted};
use batchveo::job::{Attempt, Outcome, SampleId, Stamp, Usd};
use batchveo::schedule::cadence::Cadence;
use batchveo::schedule::gate::{burst, spacing};
use batchveo::schedule::{Change, Transition};
use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::{BATCH, Story, config, service};

/// What tasks share.
struct World {
    began: Instant,
    limiter: RateLimiter<NotKeyed, InMemoryState, PausedClock, NoOpMiddleware<Tick>>,
    turnstile: tokio::sync::Mutex<()>,
    answers: AtomicU64,
    changes: Mutex<(Vec<Change>, Story)>,
}

/// Sends `rows` rows through, each as a task.
pub(crate) fn run(rows: i64) -> Story {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let limits = config().limits;
        let world = Arc::new(World::new(limits.requests_per_minute));
        let slots = Arc::new(Semaphore::new(usize::try_from(limits.concurrent_tasks.get()).expect("few")));
        for row in 1..=rows {
            let slot = Arc::clone(&slots).acquire_owned().await.expect("open");
            tokio::spawn(live(Arc::clone(&world), SampleId(row), slot));
        }
        let all = slots.acquire_many(limits.concurrent_tasks.get()).await.expect("open");
        drop(all);
        world.story()
    })
}

/// The life of a row.
async fn live(world: Arc<World>, sample: SampleId, slot: OwnedSemaphorePermit) {
    let Cadence::Fixed { first, every } = config().cadence else {
        unreachable!("both sides look by a fixed schedule")
    };
    let attempt = Attempt(1);
    let sent = world.permit().await;
    world.change(sample, Transition::Intended(attempt));
    sleep_until(sent + service::LATENCY).await;
    world.answers.fetch_add(1, Ordering::Relaxed);
    let Submitted::Accepted(task) = service::submit() else { unreachable!("nothing fails here") };
    world.change(sample, Transition::Accepted { task: task.clone(), attempt, cost: Usd::ZERO });
    let mut look_at = now() + first;
    for look in 1.. {
        sleep_until(look_at).await;
        let looked = world.permit().await;
        sleep_until(looked + service::LATENCY).await;
        world.answers.fetch_add(1, Ordering::Relaxed);
        match service::look(sample, look) {
            Polled::Succeeded(video) => {
                let outcome = Outcome::Succeeded(video);
                world.change(sample, Transition::Ended { outcome, attempts: 1, cost: Usd::ZERO });
                break;
            }
            Polled::Alive(_) => look_at = looked + every,
            Polled::SucceededWithoutUrl
            | Polled::Failed(_)
            | Polled::NotFound(_)
            | Polled::NotAnswered(_)
            | Polled::KeyRefused(_)
            | Polled::Unclear(_) => unreachable!("nothing fails here"),
        }
    }
    drop((task, slot));
}

impl World {
    fn new(per_minute: NonZeroU32) -> Self {
        let quota = Quota::with_period(spacing(per_minute)).expect("not zero").allow_burst(burst(per_minute));
        let limiter = RateLimiter::direct_with_clock(quota, PausedClock);
        // Empty to begin with, as the gate.
        limiter.check_n(burst(per_minute)).expect("a burst").expect("permits");
        Self {
            began: now(),
            limiter,
            turnstile: tokio::sync::Mutex::new(()),
            answers: AtomicU64::new(0),
            changes: Mutex::new((Vec::with_capacity(BATCH), Story::default())),
        }
    }

    /// Waits for a permit; gives when it came.
    async fn permit(&self) -> Instant {
        let turn = self.turnstile.lock().await;
        while let Err(not_until) = self.limiter.check() {
            sleep_until(not_until.earliest_possible().0).await;
        }
        drop(turn);
        now()
    }

    /// Something that must be durable.
    fn change(&self, sample: SampleId, transition: Transition) {
        let at = Stamp::from(now().duration_since(self.began));
        let (changes, story) = &mut *self.changes.lock().expect("nobody panics");
        changes.push(Change { sample, at, transition });
        if changes.len() == BATCH {
            story.write(changes);
        }
    }

    fn story(&self) -> Story {
        let (changes, story) = &mut *self.changes.lock().expect("nobody panics");
        story.write(changes);
        story.answers = self.answers.load(Ordering::Relaxed);
        story.lasted = Stamp::from(now().duration_since(self.began));
        *story
    }
}

#[expect(clippy::disallowed_methods, reason = "time is paused, and the runtime's")]
fn now() -> Instant {
    Instant::now()
}

/// The runtime's paused clock, for the limiter.
#[derive(Debug, Clone)]
struct PausedClock;

impl Clock for PausedClock {
    type Instant = Tick;

    fn now(&self) -> Tick {
        Tick(now())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Tick(Instant);

impl Add<Nanos> for Tick {
    type Output = Self;

    fn add(self, span: Nanos) -> Self {
        Self(self.0 + Duration::from(span))
    }
}

impl Reference for Tick {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, span: Nanos) -> Self {
        Self(self.0.checked_sub(span.into()).unwrap_or(self.0))
    }
}
