//! A story: everything that will happen, from a seed alone.
//!
//! What the service does to a request depends on the seed, the sample and the number of the request
//! for it, never on what other requests did. So a story that is crashed is the same story: only
//! what the program does with it may differ.

use std::num::NonZeroU32;
use std::time::Duration;

use batchveo::api::{RefusalCause, Verdict};
use batchveo::generation::Mode;
use batchveo::job::{Limits, Stamp, Usd};
use batchveo::schedule::Config;
use batchveo::schedule::cadence::Cadence;
use batchveo::schedule::retry::RetryPolicy;

/// The `SplitMix64` generator: small, and every seed is a good one.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice for one purpose: the same words give the same throws.
    pub(crate) fn of(words: &[u64]) -> Self {
        Self(words.iter().fold(0, |state, word| mix(state ^ mix(*word))))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from `low` to `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    /// Whether something happens that happens `permille` times in a thousand.
    fn happens(&mut self, permille: u64) -> bool {
        self.next() % 1_000 < permille
    }

    fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    fn secs(&mut self, low: u64, high: u64) -> Duration {
        self.millis(low * 1_000, high * 1_000)
    }

    fn count(&mut self, low: u32, high: u32) -> u32 {
        u32::try_from(self.between(low.into(), high.into())).expect("between two small numbers")
    }
}

const fn mix(seed: u64) -> u64 {
    let mut z = seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A row of the sheet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) samples: u32,
    pub(crate) mode: Mode,
}

/// How often what goes wrong does, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
struct Weather([u64; FAULTS]);

const FAULTS: usize = 13;
const REFUSED: usize = 0;
const DOUBTED: usize = 1;
const REJECTED: usize = 2;
const FAILS_FOR_GOOD: usize = 3;
const FAILS_FOR_NOW: usize = 4;
const FAILS_FOR_MONEY: usize = 5;
const NEVER_ENDS: usize = 6;
const KNOWN_LATE: usize = 7;
const VANISHES: usize = 8;
const WITHOUT_URL: usize = 9;
const UNCLEAR: usize = 10;
const THROTTLED: usize = 11;
const SILENT: usize = 12;

impl Weather {
    fn draw(dice: &mut Dice) -> Self {
        let mut weather = Self::default();
        match dice.between(0, 7) {
            // Nothing goes wrong.
            0 => {}
            // One thing goes wrong, often.
            1 | 2 => weather.0[usize::try_from(dice.between(0, 12)).expect("small")] = dice.between(100, 500),
            3..=5 => weather.0.iter_mut().for_each(|often| *often = dice.between(0, 60)),
            _ => weather.0.iter_mut().for_each(|often| *often = dice.between(20, 150)),
        }
        // A run that buys nothing shows nothing, and a task nobody knows takes ten minutes each.
        weather.0[FAILS_FOR_MONEY] /= 4;
        weather.0[VANISHES] /= 2;
        weather
    }
}

/// What becomes of a submission.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Accepted(TaskFate),
    Refused(RefusalCause, Option<Duration>),
    Rejected,
    /// Whether it was accepted is not said, after as long.
    Doubt(Option<TaskFate>, Duration),
}

/// What becomes of a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskFate {
    /// From the arrival of its request to its birth: a request that is not answered may sit in a
    /// queue for nearly as long as the program waits for the answer.
    pub(crate) made_after: Duration,
    pub(crate) lasts: Duration,
    /// The service denies knowing it before it is this old.
    pub(crate) known_after: Duration,
    pub(crate) ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// So many videos.
    Videos(u32),
    Fails(Verdict),
    /// It is called alive for ever, and is so until shortly before the task time-out.
    Never,
    /// The service denies ever having known it.
    Vanishes,
    /// A success that names no video.
    WithoutUrl,
}

/// What a look at a task meets, before the task itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Look {
    Clear,
    Unclear,
    Throttled(RefusalCause, Option<Duration>),
}

/// How the service is away.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Away {
    Unavailable,
    NoConnection,
    /// It takes requests, and does not answer them. Nothing comes of them.
    Silent,
}

#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) seed: u64,
    pub(crate) rows: Vec<Row>,
    config: Config,
    weather: Weather,
    /// The shortest time a task takes; the longest is 1.8 times it.
    task: Duration,
    /// Longest way to the service, and back.
    way: (Duration, Duration),
    /// What the account has for a start, in cents.
    pub(crate) cents: u64,
    /// The key is refused from the request of this number on.
    pub(crate) revoked_at: Option<u64>,
    /// When the service is away, and how.
    pub(crate) outage: Option<(Stamp, Stamp, Away)>,
    /// When the person interrupts.
    pub(crate) interrupted_at: Option<Stamp>,
    pub(crate) grace: Duration,
    /// How long some commits take.
    pub(crate) slow_disk: Option<Duration>,
    /// Whether what ended without a video is put back to be bought again, once.
    pub(crate) retried: bool,
    /// How far the wall clock is set back when the first process has ended.
    pub(crate) set_back: Duration,
}

impl Story {
    pub(crate) fn new(seed: u64) -> Self {
        let dice = &mut Dice::of(&[seed, 0]);
        let weather = Weather::draw(dice);
        let calm = weather.0.iter().all(|often| *often == 0);
        let rows = if dice.one_in(6) { dice.between(1, 12) } else { dice.between(1, 4) };
        let rows: Vec<_> = (0..rows)
            .map(|_| Row {
                samples: if dice.one_in(5) { dice.count(2, 3) } else { 1 },
                mode: if dice.one_in(4) { Mode::Quality } else { Mode::Fast },
            })
            .collect();
        let nonzero = |n: u32| NonZeroU32::new(n).expect("not zero");
        let task = dice.secs(20, 90);
        let first = dice.secs(task.as_secs() / 2, task.as_secs() * 3 / 2);
        let mut config = Config {
            limits: Limits {
                requests_per_minute: nonzero(if dice.one_in(2) {
                    dice.count(60, 200)
                } else {
                    dice.count(200, 6_000)
                }),
                concurrent_tasks: nonzero(dice.count(1, 6)),
            },
            cadence: Cadence::Fixed { first, every: dice.secs(5, 60) },
            retry: RetryPolicy { paid_retries: dice.count(0, 2), seed },
            task_timeout: dice.secs(200, 400),
            outage_timeout: dice.secs(120, 400),
            ..Config::default()
        };
        let mut sometimes = |n: u64| !calm && dice.one_in(n);
        let (poor, revoked, away, interrupted, slow_disk, slow_way) =
            (sometimes(8), sometimes(16), sometimes(10), sometimes(8), sometimes(12), sometimes(8));
        let (few_failures, capped, short) = (sometimes(16), sometimes(10), sometimes(16));
        config.max_failures = few_failures.then(|| dice.between(0, 2));
        config.max_cost = capped.then(|| Usd::from_cents(dice.between(0, 400)));
        config.max_duration = short.then(|| dice.secs(1, 150));
        let outage = away.then(|| {
            let from = Stamp::BIRTH + dice.secs(1, 200);
            let how = match dice.between(0, 2) {
                0 => Away::Unavailable,
                1 => Away::NoConnection,
                _ => Away::Silent,
            };
            (from, from + dice.secs(10, 900), how)
        });
        // With a slow disk the permit may be two seconds old when the way begins.
        let slow_way = slow_way && !slow_disk;
        Self {
            seed,
            rows,
            config,
            weather,
            task,
            way: (
                if slow_way { dice.millis(1_000, 2_900) } else { dice.millis(5, 900) },
                dice.millis(20, 2_000),
            ),
            cents: if poor { dice.between(0, 300) } else { 1_000_000 },
            revoked_at: revoked.then(|| dice.between(1, 60)),
            outage,
            interrupted_at: interrupted.then(|| Stamp::BIRTH + dice.secs(1, 150)),
            grace: dice.secs(1, 20),
            slow_disk: slow_disk.then(|| dice.millis(100, 2_000)),
            retried: dice.one_in(4),
            set_back: if dice.one_in(8) { dice.secs(10, 100_000) } else { Duration::ZERO },
        }
    }

    /// What the account allows: what the checks count against.
    pub(crate) const fn limits(&self) -> Limits {
        self.config.limits
    }

    /// What governs a run; once the service is mended, without what would stop it.
    pub(crate) const fn config(&self, mended: bool) -> Config {
        let mut config = self.config;
        if mended {
            config.max_failures = None;
            config.max_cost = None;
            config.max_duration = None;
        }
        config
    }

    /// How many samples.
    pub(crate) fn samples(&self) -> usize {
        self.rows.iter().map(|row| row.samples as usize).sum()
    }

    /// Whether what becomes of a sample depends on its own requests alone, and not on when.
    pub(crate) fn is_steady(&self) -> bool {
        self.outage.is_none()
            && self.revoked_at.is_none()
            && self.interrupted_at.is_none()
            && self.cents >= 1_000_000
            && self.config.max_failures.is_none()
            && self.config.max_cost.is_none()
            && self.config.max_duration.is_none()
            && self.weather.0[FAILS_FOR_MONEY] == 0
    }

    /// The sheet. The seed tells the service which sample asks.
    pub(crate) fn sheet(&self) -> String {
        let mut sheet = String::from("prompt,mode,samples,seed\n");
        for (place, row) in self.rows.iter().enumerate() {
            let line = format!("A harbour,{},{},{}\n", row.mode.as_str(), row.samples, place * SEEDS);
            sheet.push_str(&line);
        }
        sheet
    }

    /// The place in manifest order of the sample that asks with `seed`.
    pub(crate) fn sample_of(&self, seed: u64) -> usize {
        let seed = usize::try_from(seed).expect("a seed of the sheet");
        let before: usize = self.rows[..seed / SEEDS].iter().map(|row| row.samples as usize).sum();
        before + seed % SEEDS
    }

    /// What becomes of the `n`th submission of a sample. A mended service refuses and doubts no more.
    pub(crate) fn fate(&self, sample: usize, n: usize, mended: bool) -> Fate {
        let dice = &mut Dice::of(&[self.seed, 1, sample as u64, n as u64]);
        let often = |fault: usize| self.weather.0[fault];
        let task = self.task_fate(dice, mended);
        if mended {
            return Fate::Accepted(task);
        }
        if dice.happens(often(REFUSED)) {
            let cause = [
                RefusalCause::Rate,
                RefusalCause::Concurrency,
                RefusalCause::Unavailable,
                RefusalCause::Connect,
            ][usize::try_from(dice.between(0, 3)).expect("small")];
            return Fate::Refused(cause, dice.one_in(3).then(|| dice.secs(0, 20)));
        }
        if dice.happens(often(SILENT)) {
            let late = TaskFate { made_after: dice.secs(0, 55), ..task };
            return Fate::Doubt(dice.one_in(2).then_some(late), Duration::from_secs(60));
        }
        if dice.happens(often(DOUBTED)) {
            return Fate::Doubt(dice.one_in(2).then_some(task), dice.millis(10, 3_000));
        }
        if dice.happens(often(REJECTED)) {
            return Fate::Rejected;
        }
        Fate::Accepted(task)
    }

    fn task_fate(&self, dice: &mut Dice, mended: bool) -> TaskFate {
        let often = |fault: usize| self.weather.0[fault];
        let lasts = self.task + self.task.mul_f64(0.8).mul_f64(f64::from(dice.count(0, 1_000)) / 1_000.0);
        let known_after = if dice.happens(often(KNOWN_LATE)) { dice.secs(1, 240) } else { Duration::ZERO };
        let ending = if dice.happens(often(FAILS_FOR_GOOD)) {
            Ending::Fails(Verdict::Final)
        } else if dice.happens(often(FAILS_FOR_NOW)) {
            Ending::Fails(Verdict::MayRetry)
        } else if dice.happens(often(FAILS_FOR_MONEY)) && !mended {
            Ending::Fails(Verdict::NoMoney)
        } else if dice.happens(often(NEVER_ENDS)) {
            Ending::Never
        } else if dice.happens(often(VANISHES)) {
            Ending::Vanishes
        } else if dice.happens(often(WITHOUT_URL)) {
            Ending::WithoutUrl
        } else {
            Ending::Videos(if dice.one_in(12) { 2 } else { 1 })
        };
        // A little before the program may think that it cannot be alive.
        let lasts = if ending == Ending::Never {
            self.config.task_timeout.saturating_sub(Duration::from_secs(4))
        } else {
            lasts
        };
        TaskFate { made_after: Duration::ZERO, lasts, known_after, ending }
    }

    /// What the `n`th look at a task meets.
    pub(crate) fn look(&self, task: u64, n: u64) -> Look {
        let dice = &mut Dice::of(&[self.seed, 2, task, n]);
        if dice.happens(self.weather.0[UNCLEAR]) {
            Look::Unclear
        } else if dice.happens(self.weather.0[THROTTLED]) {
            let cause = if dice.one_in(2) { RefusalCause::Rate } else { RefusalCause::Unavailable };
            Look::Throttled(cause, dice.one_in(3).then(|| dice.secs(0, 10)))
        } else {
            Look::Clear
        }
    }

    /// How long the `n`th request is on its way to the service and its answer on the way back.
    pub(crate) fn way(&self, n: u64) -> (Duration, Duration) {
        let dice = &mut Dice::of(&[self.seed, 3, n]);
        let mut share = |most: Duration| most.mul_f64(f64::from(dice.count(1, 1_000)) / 1_000.0);
        (share(self.way.0), share(self.way.1))
    }

    /// How long nothing runs after the `n`th process has ended.
    pub(crate) fn downtime(&self, n: u64) -> Duration {
        let dice = &mut Dice::of(&[self.seed, 4, n]);
        match dice.between(0, 9) {
            0..=4 => dice.millis(1, 2_000),
            5..=8 => dice.secs(2, 90),
            _ => dice.secs(90, 7_200),
        }
    }
}

/// Seeds of one row.
const SEEDS: usize = 10;

impl Story {
    /// How fast the sample at `place` is made.
    pub(crate) fn mode_of(&self, place: usize) -> Mode {
        let mut modes = self.rows.iter().flat_map(|row| (0..row.samples).map(|_| row.mode));
        modes.nth(place).expect("a sample of the sheet")
    }

    /// How long a task would last that the `n`th submission of a sample may have made.
    pub(crate) fn doubt_lasts(&self, sample: usize, n: usize) -> Duration {
        self.task_fate(&mut Dice::of(&[self.seed, 1, sample as u64, n as u64]), true).lasts
    }
}
