//! What becomes of a task: how long it takes, and whether it fails.
//!
//! Every random choice is a hash of (seed, request, how often that request had been accepted
//! before), never a draw from a generator that moves on: the order in which requests arrive then
//! changes nothing, and two runs can be compared.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Settings;
use super::request::{Request, RequestHash};
use super::scenario::Doom;
use super::task::Task;
use crate::job::Stamp;

/// A reason for which a task fails: one of [`FailCode::ALL`].
///
/// Kept as its place in the table, because a task id carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FailCode(u8);

impl FailCode {
    /// Code and message of everything a simulated task can fail of: the codes the API's pages name,
    /// in both spellings, and one that they do not. Append only: task ids hold the place.
    pub const ALL: [(&'static str, &'static str); 23] = [
        ("PROCESSING_TIMEOUT", "Processing took too long"),
        ("MODEL_UNAVAILABLE", "The model is temporarily unavailable"),
        ("GENERATION_FAILED", "The video could not be generated"),
        ("CONTENT_VIOLATION", "The prompt violates the content policy"),
        ("SensitiveContent", "The prompt holds sensitive content"),
        ("NSFW_DETECTED", "The prompt is not safe for work"),
        ("SensitiveContentDetected", "Sensitive content was detected"),
        ("NSFW", "The prompt is not safe for work"),
        ("ProhibitedContentDetected", "Prohibited content was detected"),
        ("InputImageSensitiveContentDetected", "An image holds sensitive content"),
        ("InputOutputSensitiveContentDetected", "Input or output holds sensitive content"),
        ("PROMPT_TOO_LONG", "The prompt is too long"),
        ("INVALID_PROMPT", "The prompt is invalid"),
        ("PromptLengthExceeded", "The prompt is too long"),
        ("INVALID_IMAGE_URL", "An image address is invalid"),
        ("IMAGE_DOWNLOAD_FAILED", "An image could not be fetched"),
        ("IMAGE_TOO_LARGE", "An image is larger than 10 MB"),
        ("UNSUPPORTED_FORMAT", "An image is not JPG, PNG or WebP"),
        ("INSUFFICIENT_CREDITS", "Insufficient credits"),
        ("INVALID_LORA_URL", "The address of a LoRA is invalid"),
        ("TASKID_ERROR", "The task is unknown or expired"),
        ("INTERNAL_ERROR", "Internal error"),
        ("UNDOCUMENTED_CODE", "A code no page names"),
    ];

    /// How many of the first codes [`Settings::fail_rate`] draws from: three transient ones and two
    /// about content.
    const DRAWN: u64 = 5;

    /// What a task fails of that was taken although there was no money.
    pub(super) const NO_MONEY: Self = Self(18);

    /// The code of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let place = Self::ALL.iter().position(|(code, _)| *code == name)?;
        Self::at(u8::try_from(place).ok()?)
    }

    pub(super) fn at(place: u8) -> Option<Self> {
        (usize::from(place) < Self::ALL.len()).then_some(Self(place))
    }

    pub(super) const fn place(self) -> u8 {
        self.0
    }

    /// As the API writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        Self::ALL[self.0 as usize].0
    }

    pub(super) const fn message(self) -> &'static str {
        Self::ALL[self.0 as usize].1
    }
}

/// What a prompt asks of the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// Every task of this request fails.
    Fail(FailCode),
    /// The first task of this request fails.
    FailOnce(FailCode),
    /// The submission is refused.
    Refuse(FailCode),
}

/// A log-normal law of durations, cut off at both ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogNormal {
    /// The mean, before cutting.
    pub mean: Duration,
    /// Standard deviation of the logarithm.
    pub sigma: f64,
    /// Nothing is shorter.
    pub least: Duration,
    /// Nothing is longer.
    pub most: Duration,
}

impl LogNormal {
    /// The vendor's "about 2 minutes", for both modes; the spread is a guess, since no page gives one.
    pub const VEO: Self = Self {
        mean: Duration::from_mins(2),
        sigma: 0.35,
        least: Duration::from_secs(20),
        most: Duration::from_mins(10),
    };

    /// The duration at `(first, second)`, both uniform in (0, 1] (Box-Muller).
    fn at(self, first: f64, second: f64) -> Duration {
        let normal = (-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos();
        let location = self.mean.as_secs_f64().ln() - self.sigma * self.sigma / 2.0;
        let seconds = (location + self.sigma * normal).exp();
        Duration::try_from_secs_f64(seconds).unwrap_or(self.most).clamp(self.least, self.most)
    }
}

/// What becomes of one accepted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    /// From acceptance to the end, in milliseconds; [`Fate::NEVER`] for a task that does not end.
    pub(super) duration_ms: u32,
    /// Spent `pending` at the beginning of that.
    pub(super) waiting_ms: u32,
    /// Why it fails, if it does.
    pub(super) failure: Option<FailCode>,
}

/// What a draw is for: keeps draws of one task independent of each other.
#[derive(Debug, Clone, Copy)]
enum Draw {
    DurationRadius = 1,
    DurationAngle,
    Waiting,
    Fails,
    Code,
    Latency,
    CallbackLatency,
}

impl Fate {
    /// The duration of a task that does not end.
    pub(super) const NEVER: u32 = u32::MAX;

    /// The same, but it ends at once, if it ends.
    pub(super) const fn at_once(self) -> Self {
        match self.duration_ms {
            Self::NEVER => self,
            _ => Self { duration_ms: 1, waiting_ms: 0, ..self },
        }
    }

    /// The fate of the acceptance of `request` at `now` that `nth` others came before, and how the
    /// scenario dooms it.
    pub(super) fn of(settings: &Settings, request: Request, nth: u32, now: Stamp) -> (Self, Doom) {
        let draw = |draw| draw_at(settings.seed, request.hash, u64::from(nth), draw);
        let law = settings.durations(request.mode);
        let duration = law.at(unit(draw(Draw::DurationRadius)), unit(draw(Draw::DurationAngle)));
        // A task waits for between 2 and 10 hundredths of its life.
        let waiting = duration.mul_f64(0.02 + 0.08 * unit(draw(Draw::Waiting)));
        let failure = match request.marker {
            Some(Marker::Fail(code)) => Some(code),
            Some(Marker::FailOnce(code)) => (nth == 0).then_some(code),
            Some(Marker::Refuse(_)) => None,
            None => (unit(draw(Draw::Fails)) <= settings.fail_rate)
                .then(|| u8::try_from(draw(Draw::Code) % FailCode::DRAWN).ok().and_then(FailCode::at))
                .flatten(),
        };
        let doom = settings.scenario.doom(settings.seed, request.hash, nth, now);
        let millis = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let duration_ms = if doom.holds_ms.is_some() { Self::NEVER } else { millis(duration) };
        let failure = failure.or(doom.failure);
        (Self { duration_ms, waiting_ms: millis(waiting), failure }, doom)
    }
}

/// How long an answer about `request` takes; `salt` tells several about the same one apart.
pub(super) fn latency(settings: &Settings, request: RequestHash, salt: u64) -> Duration {
    within(&settings.latency, draw_at(settings.seed, request, salt, Draw::Latency))
}

/// How long the callback of `task` takes; its `copy`, should there be one, takes another time.
pub(super) fn callback_latency(settings: &Settings, task: &Task, copy: bool) -> Duration {
    let salt = u64::from(task.nth) * 2 + u64::from(copy);
    within(&settings.callback_latency, draw_at(settings.seed, task.request, salt, Draw::CallbackLatency))
}

/// A draw from `range`.
fn within(range: &RangeInclusive<Duration>, draw: u64) -> Duration {
    let (least, most) = (*range.start(), *range.end());
    least + most.saturating_sub(least).mul_f64(unit(draw))
}

fn draw_at(seed: u64, request: RequestHash, nth: u64, draw: Draw) -> u64 {
    mix(&[seed, request.0, nth, draw as u64])
}

/// One number out of several: the finaliser of `SplitMix64` after each. Good enough for a simulation
/// and for noticing a damaged task id; no defence against an adversary, which neither needs.
pub(super) fn mix(words: &[u64]) -> u64 {
    words.iter().fold(0, |state, word| {
        let mut z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// `bits` as a number in (0, 1].
#[expect(clippy::cast_precision_loss, reason = "53 bits are what the number holds")]
pub(super) fn unit(bits: u64) -> f64 {
    ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::Mode;

    fn fate(settings: &Settings, request: Request, nth: u32) -> Fate {
        Fate::of(settings, request, nth, Stamp::BIRTH).0
    }

    fn request(hash: u64) -> Request {
        Request { hash: RequestHash(hash), mode: Mode::Quality, marker: None }
    }

    #[test]
    fn durations_follow_the_law() {
        let settings = Settings::default();
        let draws = 100_000u32;
        let seconds: Vec<f64> = (0..draws)
            .map(|hash| f64::from(fate(&settings, request(u64::from(hash)), 0).duration_ms) / 1e3)
            .collect();
        let count = f64::from(draws);
        let mean = seconds.iter().sum::<f64>() / count;
        assert!((mean - 120.0).abs() < 2.0, "{mean}");
        let logs: Vec<f64> = seconds.iter().map(|s| s.ln()).collect();
        let log_mean = logs.iter().sum::<f64>() / count;
        let sigma = (logs.iter().map(|l| (l - log_mean).powi(2)).sum::<f64>() / count).sqrt();
        assert!((sigma - 0.35).abs() < 0.01, "{sigma}");
        assert!(seconds.iter().all(|s| (20.0..=600.0).contains(s)));
    }

    #[test]
    fn a_fate_depends_on_seed_request_and_count_alone() {
        let settings = Settings::default();
        let other = Settings { seed: settings.seed + 1, ..Settings::default() };
        let fates = |settings: &Settings, nth| -> Vec<Fate> {
            (0..100).map(|hash| fate(settings, request(hash), nth)).collect()
        };
        let mut backwards: Vec<Fate> = (0..100).rev().map(|hash| fate(&settings, request(hash), 0)).collect();
        backwards.reverse();
        assert_eq!(fates(&settings, 0), backwards);
        assert_ne!(fates(&settings, 0), fates(&settings, 1));
        assert_ne!(fates(&settings, 0), fates(&other, 0));
    }

    #[test]
    fn the_fail_rate_is_kept() {
        for (rate, least, most) in [(0.0, 0, 0), (0.2, 1_800, 2_200), (1.0, 10_000, 10_000)] {
            let settings = Settings { fail_rate: rate, ..Settings::default() };
            let failed =
                (0..10_000).filter_map(|hash| fate(&settings, request(hash), 0).failure).collect::<Vec<_>>();
            assert!((least..=most).contains(&failed.len()), "{rate}: {}", failed.len());
            if rate > 0.0 {
                for code in 0..FailCode::DRAWN {
                    assert!(failed.iter().any(|failure| u64::from(failure.place()) == code));
                }
            }
        }
    }

    #[test]
    fn want_of_money_has_its_code() {
        assert_eq!(FailCode::NO_MONEY.as_str(), "INSUFFICIENT_CREDITS");
    }

    #[test]
    fn markers_overrule_chance() {
        let code = FailCode::named("NSFW").unwrap();
        let settings = Settings { fail_rate: 1.0, ..Settings::default() };
        let failure = |marker, nth| fate(&settings, Request { marker, ..request(1) }, nth).failure;
        assert_eq!(failure(Some(Marker::Fail(code)), 3), Some(code));
        assert_eq!(failure(Some(Marker::FailOnce(code)), 0), Some(code));
        assert_eq!(failure(Some(Marker::FailOnce(code)), 1), None);
    }

    #[test]
    fn waiting_ends_before_the_task_and_latency_stays_in_its_range() {
        let settings = Settings::default();
        for hash in 0..1_000 {
            let Fate { waiting_ms, duration_ms, .. } = fate(&settings, request(hash), 0);
            assert!(0 < waiting_ms && waiting_ms < duration_ms);
            assert!(settings.latency.contains(&latency(&settings, RequestHash(hash), 0)));
        }
    }
}
