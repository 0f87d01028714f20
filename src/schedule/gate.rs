//! When the next request may go: requests per minute and pauses.
//!
//! Owns the one rate quota that every request passes, whatever it asks for; the only file that
//! names governor. Answers with a stamp, never with a bool, and never sleeps.
//!
//! # Why not `Quota::per_minute(10_000)`
//!
//! A bucket with burst `b` and spacing `T` admits up to `b + 60 s / T` requests in a window of
//! 60 s, which for that quota is 19,999. And what the server counts are arrivals: requests held
//! back for up to `J` between permit and arrival let `b + (60 s + J) / T` arrive together. So the
//! spacing is `T = (60 s + J) / (N − b + 1)`, rounded up, which keeps every window at or below `N`
//! through such stalls for about 95 % of the pace. The bucket starts empty: what an earlier
//! process sent in the last minute was admitted at the same spacing, so that restarts add nothing.
//!
//! # When less is allowed than documented
//!
//! Another program may use the account, or the documents may be wrong. When a request is refused
//! for the rate, what went out in the 60 seconds before it is all that is allowed: the pace falls
//! to just below that, nothing passes until a window of 60 s has room again (a server that counts
//! refused requests would stay shut otherwise), and later the pace climbs back
//! (`schedule::allowance`). A new pace is a new limiter, drained.

use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::allowance::{Allowance, Manner};
use super::last_minute::LastMinute;
use crate::job::Stamp;

/// The span over which the account's requests are counted.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The longest stall between a permit and the request's arrival at the server that the pace
/// allows for: a connection takes up to 2 s, a commit and a busy machine the rest.
pub const LONGEST_STALL: Duration = Duration::from_secs(3);

/// A request whose permit is older than this is not sent: what is left of [`LONGEST_STALL`] is
/// for the way to the server.
pub const STALE_PERMIT: Duration = Duration::from_secs(2);

/// How the pace falls and climbs. Two hundredths are left free because a second is the grain of the
/// count; a tenth of the documented pace is always tried, since a service that refuses more than
/// that is away rather than busy; and a climb is borne once a whole window has been filled at its
/// pace.
const MANNER: Manner = Manner { margin: 20, again: 800, floor: 100, patience: Duration::from_secs(63) };

/// Whether a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may go now; the permit is used up.
    Granted,
    /// Not before this stamp.
    NotBefore(Stamp),
}

/// Burst and spacing of a pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    burst: NonZeroU32,
    spacing: Duration,
}

impl Pace {
    /// The fastest pace that keeps every window at or below `per_minute` arrivals.
    fn of(per_minute: NonZeroU32) -> Self {
        let burst = NonZeroU32::new((per_minute.get() / 200).clamp(1, 50)).unwrap_or(NonZeroU32::MIN);
        let permits = u128::from(per_minute.get() - burst.get() + 1);
        // One more nanosecond than the quotient: rounded up, and above it where it is exact, so
        // that a window closed at both ends holds no more either.
        let nanos = (WINDOW + LONGEST_STALL).as_nanos() / permits + 1;
        Self { burst, spacing: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)) }
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, StampClock, NoOpMiddleware<Tick>>;

/// Requests that a gate of this pace lets through at once.
#[must_use]
pub fn burst(per_minute: NonZeroU32) -> NonZeroU32 {
    Pace::of(per_minute).burst
}

/// The time between two requests of a gate of this pace, beside its burst.
#[must_use]
pub fn spacing(per_minute: NonZeroU32) -> Duration {
    Pace::of(per_minute).spacing
}

/// Admission of requests.
#[derive(Debug)]
pub struct Gate {
    time: Arc<AtomicU64>,
    limiter: Limiter,
    /// The time between two requests, beside the burst: asked for at each step, and takes a division.
    spacing: Duration,
    paused_until: Stamp,
    /// What a limiter answered last that refused: until then it has nothing. Nor has one that takes its
    /// place, which begins empty: a slower one after a refusal, a faster one only once this has passed.
    empty_until: Stamp,
    allowance: Allowance,
    sent: LastMinute,
    /// When the pace fell last: a refusal of what was sent before is old news.
    fell_at: Stamp,
}

impl Gate {
    /// A gate for an account that allows this many requests in any 60 seconds. Nothing passes at
    /// `now`: the first permit comes one spacing later.
    #[must_use]
    pub fn new(requests_per_minute: NonZeroU32, now: Stamp) -> Self {
        let time = Arc::new(AtomicU64::new(now.as_nanos()));
        Self {
            limiter: drained(requests_per_minute, &time),
            spacing: spacing(requests_per_minute),
            time,
            paused_until: Stamp::BIRTH,
            empty_until: Stamp::BIRTH,
            allowance: Allowance::new(requests_per_minute.get(), MANNER),
            sent: LastMinute::default(),
            fell_at: Stamp::BIRTH,
        }
    }

    /// Takes a permit, if one is to be had now.
    pub fn admit(&mut self, now: Stamp) -> Admission {
        let shut_until = self.shut_until();
        if now < shut_until {
            return Admission::NotBefore(shut_until);
        }
        self.move_to(now);
        if self.allowance.climb(now) {
            self.drain();
        }
        if self.allowance.is_lowered() {
            let room = self.sent.below(self.allowance.allowed(), now);
            if room > now {
                self.allowance.want_more();
                return Admission::NotBefore(room);
            }
        }
        match self.limiter.check() {
            Ok(()) => {
                self.sent.count(now);
                Admission::Granted
            }
            Err(not_until) => {
                self.allowance.want_more();
                let at = Stamp::from_nanos(not_until.earliest_possible().0);
                // Never an instant that has passed: a caller that waits for it must move on.
                self.empty_until = at.max(now + Duration::from_nanos(1));
                Admission::NotBefore(self.empty_until)
            }
        }
    }

    /// Lets the limiter know the time, which never runs backwards. Nobody else sets it.
    fn move_to(&self, now: Stamp) {
        if now.as_nanos() > self.time.load(Ordering::Relaxed) {
            self.time.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// A request that was sent at `sent` was refused because there had been too many; `sure` says
    /// that it was not the only one. One alone is believed where about as much was in use as is
    /// allowed. Refusals of what was sent before the pace fell last say nothing new.
    pub fn refused(&mut self, sent: Stamp, sure: bool, now: Stamp) {
        if sent < self.fell_at {
            return;
        }
        self.move_to(now);
        // The refused request itself was one too many.
        let in_use = self.sent.total_until(sent, now).saturating_sub(1);
        if !sure && u64::from(in_use) * 10 < u64::from(self.allowance.allowed()) * 9 {
            return;
        }
        self.fell_at = now;
        self.allowance.refused(in_use, now);
        self.drain();
    }

    /// Goes on at the pace that is allowed now, with nothing saved up.
    fn drain(&mut self) {
        self.limiter = drained(self.pace(), &self.time);
        self.spacing = spacing(self.pace());
    }

    /// The time between two requests that pass, beside the burst.
    pub(super) const fn spacing(&self) -> Duration {
        self.spacing
    }

    /// Requests in 60 seconds that are taken to be allowed now: as documented, or what refusals have
    /// taught.
    #[must_use]
    pub fn pace(&self) -> NonZeroU32 {
        NonZeroU32::new(self.allowance.allowed()).unwrap_or(NonZeroU32::MIN)
    }

    /// Lets nothing pass before `until`; an earlier, longer pause stays.
    pub fn pause_until(&mut self, until: Stamp) {
        self.paused_until = self.paused_until.max(until);
    }

    /// Before this nothing passes, as far as is known without asking for a permit.
    pub(super) fn shut_until(&self) -> Stamp {
        self.paused_until.max(self.empty_until)
    }
}

/// A limiter for this pace, with nothing in it. The burst always fits, so there is no answer to look
/// at.
fn drained(per_minute: NonZeroU32, time: &Arc<AtomicU64>) -> Limiter {
    let pace = Pace::of(per_minute);
    let quota =
        Quota::with_period(pace.spacing).unwrap_or(Quota::per_hour(NonZeroU32::MIN)).allow_burst(pace.burst);
    let limiter = RateLimiter::direct_with_clock(quota, StampClock(Arc::clone(time)));
    let _ = limiter.check_n(pace.burst);
    limiter
}

/// The limiter's view of time: the last stamp the gate was asked about.
#[derive(Debug, Clone)]
struct StampClock(Arc<AtomicU64>);

impl Clock for StampClock {
    type Instant = Tick;

    fn now(&self) -> Tick {
        Tick(self.0.load(Ordering::Relaxed))
    }
}

/// A stamp in the limiter's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Tick(u64);

impl Add<Nanos> for Tick {
    type Output = Self;

    fn add(self, span: Nanos) -> Self {
        Self(self.0.saturating_add(span.as_u64()))
    }
}

impl Reference for Tick {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }

    fn saturating_sub(&self, span: Nanos) -> Self {
        Self(self.0.checked_sub(span.as_u64()).unwrap_or(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::FileFailurePersistence;

    fn per_minute(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    /// Most arrivals in any window, closed at both ends.
    fn fullest_window(arrivals: &[Stamp]) -> usize {
        let mut first = 0;
        let mut most = 0;
        for (last, at) in arrivals.iter().enumerate() {
            while at.since(arrivals[first]) > WINDOW {
                first += 1;
            }
            most = most.max(last - first + 1);
        }
        most
    }

    /// What a process does with its gate for a while.
    #[derive(Debug, Clone)]
    enum Spell {
        /// Sends whatever is admitted, for so many milliseconds.
        Greedy(u64),
        /// Sends nothing.
        Idle(u64),
        /// Takes permits as fast as it can; all of it arrives at the end.
        Stalled(u64),
        /// Dies; another process starts with a new gate.
        Restart,
    }

    fn spell() -> impl Strategy<Value = Spell> {
        let longest_stall = u64::try_from(LONGEST_STALL.as_millis()).unwrap();
        prop_oneof![
            (1..40_000_u64).prop_map(Spell::Greedy),
            (1..90_000_u64).prop_map(Spell::Idle),
            (1..=longest_stall).prop_map(Spell::Stalled),
            Just(Spell::Restart),
        ]
    }

    fn arrivals(limit: NonZeroU32, spells: &[Spell]) -> Vec<Stamp> {
        let mut now = Stamp::BIRTH;
        let mut gate = Gate::new(limit, now);
        let mut arrived = Vec::new();
        for spell in spells {
            let (until, stalled) = match spell {
                Spell::Greedy(millis) => (now + Duration::from_millis(*millis), false),
                Spell::Stalled(millis) => (now + Duration::from_millis(*millis), true),
                Spell::Idle(millis) => {
                    now = now + Duration::from_millis(*millis);
                    continue;
                }
                Spell::Restart => {
                    gate = Gate::new(limit, now);
                    continue;
                }
            };
            while now < until {
                match gate.admit(now) {
                    Admission::Granted => arrived.push(if stalled { until } else { now }),
                    Admission::NotBefore(at) => now = at.min(until),
                }
            }
        }
        arrived.sort();
        arrived
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 96,
            failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/seeds/gate.txt"))),
            ..ProptestConfig::default()
        })]
        #[test]
        fn no_window_holds_more_than_the_limit(
            limit in prop_oneof![1_u32..=300, 1_u32..=10_000],
            spells in proptest::collection::vec(spell(), 1..14),
        ) {
            let fullest = fullest_window(&arrivals(per_minute(limit), &spells));
            prop_assert!(fullest <= limit as usize, "{fullest} of {limit}");
        }
    }

    /// Every limit there is, at its worst: idle, a full burst, greed, and a stall of three seconds.
    #[test]
    fn the_worst_history_stays_within_every_limit() {
        for limit in (1..400).chain((400..=10_000).step_by(97)).chain([9_999, 10_000]) {
            let worst =
                [Spell::Idle(90_000), Spell::Greedy(61_000), Spell::Stalled(3_000), Spell::Greedy(60_000)];
            let fullest = fullest_window(&arrivals(per_minute(limit), &worst));
            assert!(fullest <= limit as usize, "{fullest} of {limit}");
        }
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "a share of a small count")]
    fn the_pace_is_close_to_what_is_allowed() {
        for (limit, at_least) in [(10_000, 0.94), (1_000, 0.94), (100, 0.94), (2, 0.9)] {
            let sent = arrivals(per_minute(limit), &[Spell::Greedy(600_000)]).len();
            let share = sent as f64 / (f64::from(limit) * 10.0);
            assert!(share >= at_least, "{share} of {limit}");
        }
    }

    /// While it is known to be empty nobody is asked, whatever took the limiter's place meanwhile.
    #[test]
    fn the_first_permit_after_a_refusal_is_the_new_limiters() {
        let mut now = Stamp::BIRTH;
        let mut gate = Gate::new(per_minute(10_000), now);
        for _ in 0..9_000 {
            while let Admission::NotBefore(at) = gate.admit(now) {
                now = at;
            }
        }
        let Admission::NotBefore(old) = gate.admit(now) else { panic!("a full bucket") };
        gate.refused(now, true, now);
        // The old answer holds until then; later ones are of the minute, which is as full as it may be.
        assert_eq!(gate.admit(now), Admission::NotBefore(old));
        let mut at = old;
        while let Admission::NotBefore(later) = gate.admit(at) {
            assert!(later > at);
            at = later;
        }
        let sent = (0..gate.pace().get()).filter(|_| gate.admit(at) == Admission::Granted).count();
        assert_eq!(sent, usize::try_from(burst(gate.pace()).get()).unwrap() - 1, "a burst, once it is full");
    }

    #[test]
    fn a_new_gate_is_empty_and_a_pause_holds_everyone() {
        let now = Stamp::from_millis(5_000);
        let mut gate = Gate::new(per_minute(10_000), now);
        let Admission::NotBefore(at) = gate.admit(now) else { panic!("a full bucket") };
        assert_eq!(at.since(now).as_millis(), 6);
        gate.pause_until(Stamp::from_millis(9_000));
        gate.pause_until(Stamp::from_millis(7_000));
        assert_eq!(gate.admit(at), Admission::NotBefore(Stamp::from_millis(9_000)));
        assert_eq!(gate.admit(Stamp::from_millis(9_000)), Admission::Granted);
    }

    /// A server that allows `truth` requests in any 60 seconds, refused ones counted, and answers
    /// 100 ms later. Gives requests sent, those refused, and the share of `truth` that was sent in
    /// the last half.
    fn settle(documented: u32, truth: usize, minutes: u64) -> (usize, usize, f64) {
        let mut gate = Gate::new(per_minute(documented), Stamp::BIRTH);
        let (mut now, end) = (Stamp::BIRTH, Stamp::from_millis(minutes * 60_000));
        let mut window = std::collections::VecDeque::new();
        let mut answers: std::collections::VecDeque<(Stamp, Stamp)> = std::collections::VecDeque::new();
        let (mut sent, mut refused, mut late) = (0_usize, 0_usize, 0_u32);
        while now < end {
            while let Some((at, request)) = answers.front().copied().filter(|(at, _)| *at <= now) {
                answers.pop_front();
                gate.refused(request, true, at);
                gate.pause_until(at + Duration::from_millis(500));
            }
            match gate.admit(now) {
                Admission::Granted => {
                    while window.front().is_some_and(|old| now.since(*old) >= WINDOW) {
                        window.pop_front();
                    }
                    window.push_back(now);
                    sent += 1;
                    if window.len() > truth {
                        refused += 1;
                        answers.push_back((now + Duration::from_millis(100), now));
                    } else if now.as_millis() * 2 >= end.as_millis() {
                        late += 1;
                    }
                }
                Admission::NotBefore(at) => {
                    now = answers.front().map_or(at, |(answer, _)| at.min(*answer)).min(end);
                }
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a share of small counts")]
        let share = f64::from(late) / (truth as f64 * minutes as f64 / 2.0);
        (sent, refused, share)
    }

    #[test]
    fn at_half_the_documented_limit_it_settles_close_below_that() {
        for truth in [5_000, 9_000, 2_000] {
            let (sent, refused, share) = settle(10_000, truth, 60);
            assert!(share > 0.92, "{share} of {truth}");
            assert!(refused * 200 < sent, "{refused} refused of {sent} at {truth}");
        }
    }

    #[test]
    fn at_the_documented_limit_nothing_is_refused() {
        let (_, refused, share) = settle(10_000, 10_000, 30);
        assert_eq!(refused, 0);
        assert!(share > 0.94, "{share}");
    }
}
