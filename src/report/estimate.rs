//! How long a run will take.
//!
//! [`estimate`] is a pure function of the work, the limits and a [`Pace`]; [`Outlook`] learns the
//! pace of a run from its events. Before anything has ended the vendor's figure stands in: a video
//! takes 120 s on average. An estimate is a guess for a person and decides nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::{Progress, RunEvent};
use crate::job::{Limits, Outcome, Stamp, Status};
use crate::schedule::Transition;

/// What is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Samples to be submitted.
    pub waiting: u64,
    /// Samples submitted and not ended.
    pub in_flight: u64,
}

/// How fast things go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// How long a task takes on average.
    pub typical: Duration,
    /// Requests spent on a task: its submission and the looks at it.
    pub requests_per_task: u32,
    /// Samples ended per second, measured over at least two typical tasks' time.
    pub measured: Option<f64>,
}

impl Pace {
    /// What the vendor leads us to expect: 120 s on average, a first look at 90 s and one every
    /// 5 s after it, so 7 looks and the submission.
    pub const VENDOR: Self = Self { typical: Duration::from_mins(2), requests_per_task: 8, measured: None };
}

/// How long until all of `work` has ended.
///
/// The samples beyond the free slots come in as tasks end, one slot each typical time, or at the
/// measured pace once there is one. Then the last ones run: the slowest of `n` tasks takes longer
/// the more there are, half as long again as a typical one for a thousand. Where the requests of
/// all tasks take longer than that, they decide.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a guess needs no more than 52 bits")]
pub fn estimate(work: Work, limits: Limits, pace: Pace) -> Duration {
    let all = work.waiting.saturating_add(work.in_flight);
    if all == 0 {
        return Duration::ZERO;
    }
    let slots = u64::from(limits.concurrent_tasks.get());
    let typical = pace.typical.as_secs_f64();
    let last = typical * (1.0 + (all.min(slots) as f64).log10() / 6.0);
    let seconds = pace.measured.filter(|rate| *rate > 0.0).map_or_else(
        || {
            let by_slots = all.saturating_sub(slots) as f64 * typical / slots as f64;
            let requests = work.waiting as f64 * f64::from(pace.requests_per_task);
            let by_requests = requests * 60.0 / f64::from(limits.requests_per_minute.get());
            (by_slots + last).max(by_requests + typical)
        },
        |rate| work.waiting as f64 / rate + last,
    );
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// How long back the measured pace looks.
const WINDOW: Duration = Duration::from_mins(5);
/// How far apart the measurements are, so that the window holds a handful of them.
const GRAIN: Duration = Duration::from_secs(5);
/// How many tasks the vendor's average weighs as, against the durations that were seen.
const PRIOR_TASKS: u32 = 20;

/// What a run has shown of its pace so far.
#[derive(Debug, Clone)]
pub struct Outlook {
    limits: Limits,
    left_out: u64,
    /// Sum and number of the durations seen, the prior's included.
    durations: (Duration, u32),
    /// When how many had ended, since the first did.
    ended: VecDeque<(Stamp, u64)>,
    last_accepted: Option<Stamp>,
    /// What there was to do when the run began.
    begun: Option<(Stamp, Work)>,
}

impl Outlook {
    /// The outlook on a run within `limits` that leaves `left_out` pending samples alone.
    #[must_use]
    pub fn new(limits: Limits, left_out: u64) -> Self {
        let durations = (Pace::VENDOR.typical * PRIOR_TASKS, PRIOR_TASKS);
        Self { limits, left_out, durations, ended: VecDeque::new(), last_accepted: None, begun: None }
    }

    /// Learns from an event.
    pub fn notice(&mut self, event: &RunEvent<'_>, progress: &Progress) {
        if matches!(event, RunEvent::Started { .. }) {
            self.begun = Some((progress.now, self.work(progress)));
        }
        if let RunEvent::Changed(change) = event {
            match &change.transition {
                Transition::Accepted { .. } => self.last_accepted = Some(change.at),
                Transition::Ended { outcome: Outcome::Succeeded(video), .. } => {
                    if let (Some(created), Some(completed)) = (video.created, video.completed) {
                        let millis = u64::try_from(completed.0.saturating_sub(created.0)).unwrap_or(0);
                        self.durations.0 = self.durations.0.saturating_add(Duration::from_millis(millis));
                        self.durations.1 = self.durations.1.saturating_add(1);
                    }
                }
                Transition::Intended(_)
                | Transition::Retracted
                | Transition::Found { .. }
                | Transition::Deferred { .. }
                | Transition::Ended { .. } => {}
            }
        }
        let due = self.ended.back().is_none_or(|(last, _)| progress.now.since(*last) >= GRAIN);
        if progress.ended > 0 && due {
            self.ended.push_back((progress.now, progress.ended));
            while self.ended.get(1).is_some_and(|(second, _)| progress.now.since(*second) >= WINDOW) {
                self.ended.pop_front();
            }
        }
    }

    /// How many samples this run is about: all but those it leaves alone.
    #[must_use]
    pub fn wanted(&self, progress: &Progress) -> u64 {
        progress.tally.total().saturating_sub(self.left_out)
    }

    /// How fast the run goes.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a guess needs no more than 52 bits")]
    pub fn pace(&self, progress: &Progress) -> Pace {
        let typical = self.durations.0 / self.durations.1;
        let measured = self.ended.front().and_then(|(since, before)| {
            let span = progress.now.since(*since);
            (span >= typical * 2).then(|| progress.ended.saturating_sub(*before) as f64 / span.as_secs_f64())
        });
        Pace { typical, measured, ..Pace::VENDOR }
    }

    fn work(&self, progress: &Progress) -> Work {
        let in_flight = u64::from(progress.running) + u64::from(progress.submitting);
        let pending = progress.tally.count(Status::Pending).saturating_sub(self.left_out);
        let waiting = if progress.buying { pending.saturating_sub(in_flight) } else { 0 };
        Work { waiting, in_flight }
    }

    /// How long the run will still take.
    ///
    /// Until a pace is measured this counts down from what was expected at the start: all tasks
    /// are of one age then, and how many there are does not show it. It never is less than the
    /// last tasks take.
    #[must_use]
    pub fn left(&self, progress: &Progress) -> Duration {
        let pace = self.pace(progress);
        let work = self.work(progress);
        let Work { waiting, in_flight } = work;
        if waiting == 0 {
            let whole = estimate(work, self.limits, pace);
            return self.last_accepted.map_or(whole, |last| whole.saturating_sub(progress.now.since(last)));
        }
        let last_ones = Work { waiting: 0, in_flight: (waiting + in_flight).min(self.slots()) };
        match self.begun {
            Some((start, whole)) if pace.measured.is_none() => estimate(whole, self.limits, pace)
                .saturating_sub(progress.now.since(start))
                .max(estimate(last_ones, self.limits, pace)),
            Some(_) | None => estimate(work, self.limits, pace),
        }
    }

    fn slots(&self) -> u64 {
        self.limits.concurrent_tasks.get().into()
    }

    /// How long until the oldest task reaches the typical age; `None` without a task, zero when it
    /// is older.
    #[must_use]
    pub fn first_video(&self, progress: &Progress) -> Option<Duration> {
        let age = progress.now.since(progress.oldest_task?);
        Some(self.pace(progress).typical.saturating_sub(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn limits(requests: u32, tasks: u32) -> Limits {
        Limits {
            requests_per_minute: NonZeroU32::new(requests).unwrap(),
            concurrent_tasks: NonZeroU32::new(tasks).unwrap(),
        }
    }

    #[test]
    fn estimates() {
        let fresh = |waiting| Work { waiting, in_flight: 0 };
        for (work, requests, tasks, seconds) in [
            (fresh(0), 10_000, 1_000, 0),
            (fresh(1), 10_000, 1_000, 120),
            (fresh(1_000), 10_000, 1_000, 180),
            (fresh(1_649), 10_000, 1_000, 258),
            (Work { waiting: 649, in_flight: 1_000 }, 10_000, 1_000, 258),
            // One slot: one after the other.
            (fresh(10), 10_000, 1, 1_200),
            // Eight requests a task at 80 a minute: ten tasks a minute.
            (fresh(100), 80, 1_000, 600 + 120),
            (fresh(1_000_000), 10_000, 1_000, 120_060),
        ] {
            let found = estimate(work, limits(requests, tasks), Pace::VENDOR).as_secs_f64();
            assert!(
                (found - f64::from(seconds)).abs() < 0.5,
                "{found}: {work:?} at {requests}/min on {tasks} slots"
            );
        }
    }

    #[test]
    fn a_measured_pace_wins() {
        let pace = Pace { measured: Some(2.0), ..Pace::VENDOR };
        let work = Work { waiting: 1_000, in_flight: 1 };
        assert_eq!(estimate(work, limits(10_000, 1), pace).as_secs(), 500 + 120);
        let stuck = Pace { measured: Some(0.0), ..Pace::VENDOR };
        assert_eq!(estimate(work, limits(10_000, 1), stuck), estimate(work, limits(10_000, 1), Pace::VENDOR));
    }

    /// A run that ends `per_second` samples from the 120th second on, seen at `until`.
    fn seen(per_second: u64, until: u64) -> (Outlook, Progress) {
        let mut outlook = Outlook::new(Limits::DOCUMENTED, 0);
        let mut progress = Progress { buying: true, running: 1_000, ..Progress::default() };
        progress.tally.set(Status::Pending, 100_000);
        for second in 0..=until {
            progress.now = Stamp::from_millis(second * 1_000);
            progress.ended = second.saturating_sub(120) * per_second;
            outlook.notice(&RunEvent::Heartbeat, &progress);
        }
        (outlook, progress)
    }

    #[test]
    fn the_pace_is_measured_once_it_can_be() {
        let (outlook, progress) = seen(4, 300);
        assert_eq!(outlook.pace(&progress).measured, None);
        let (outlook, progress) = seen(4, 1_000);
        let rate = outlook.pace(&progress).measured.unwrap();
        assert!((rate - 4.0).abs() < 0.01, "{rate}");
        assert!(outlook.ended.len() <= 62, "{}", outlook.ended.len());
        assert_eq!(outlook.left(&progress).as_secs(), 99_000 / 4 + 180);
    }

    #[test]
    fn a_run_that_buys_nothing_waits_for_its_tasks_only() {
        let (outlook, mut progress) = seen(4, 200);
        progress.buying = false;
        assert_eq!(outlook.left(&progress).as_secs(), 180);
        let left_alone = Outlook::new(Limits::DOCUMENTED, 99_000);
        progress.buying = true;
        assert_eq!(left_alone.left(&progress).as_secs(), 180);
        assert_eq!(left_alone.wanted(&progress), 1_000);
    }

    #[test]
    fn before_a_pace_is_measured_it_counts_down() {
        let mut outlook = Outlook::new(Limits::DOCUMENTED, 0);
        let mut progress = Progress { buying: true, ..Progress::default() };
        progress.tally.set(Status::Pending, 1_649);
        outlook.notice(&RunEvent::Started { restored: 0 }, &progress);
        progress.running = 1_000;
        let left = [0, 60, 100].map(|second| {
            progress.now = Stamp::from_millis(second * 1_000);
            outlook.left(&progress).as_secs_f64().round()
        });
        assert_eq!(left.map(|seconds| seconds.to_string()), ["258", "198", "180"]);
    }
}
