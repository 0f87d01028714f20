//! A small run, told by hand, that the tests of every sink play.
//!
//! Eight samples on two slots; two fail, one is refused, one ends in doubt, and the money runs out
//! before the last. The figures follow what is told where a sink
//! shows them; nothing is simulated.

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use crate::event::{EventSink, Progress, RunEvent};
use crate::job::{
    Attempt, Failure, FailureKind, Limits, Outcome, SampleId, Stamp, Status, TaskId, UnixMillis, Usd, Video,
};
use crate::schedule::{Change, Halt, Transition};

/// When the run's state file was born: 2026-11-24T03:58:19Z.
pub(super) const BIRTH: UnixMillis = UnixMillis(1_795_492_699_000);

/// What the account allows.
pub(super) const LIMITS: Limits = Limits {
    requests_per_minute: NonZeroU32::new(600).expect("not zero"),
    concurrent_tasks: NonZeroU32::new(2).expect("not zero"),
};

const PRICE: Usd = Usd::from_cents(20);

struct Teller<'a> {
    sink: &'a mut dyn EventSink,
    progress: Progress,
}

impl Teller<'_> {
    fn tell(&mut self, millis: u64, event: &RunEvent<'_>) {
        self.progress.now = Stamp::from_millis(millis);
        self.sink.notice(event, &self.progress);
    }

    fn change(&mut self, millis: u64, sample: i64, transition: Transition) {
        let at = Stamp::from_millis(millis);
        self.tell(millis, &RunEvent::Changed(&Change { sample: SampleId(sample), at, transition }));
    }

    fn buy(&mut self, millis: u64, sample: i64, attempt: u32) {
        let attempt = Attempt(attempt);
        self.progress.submitting += 1;
        self.progress.slots_held += 1;
        self.change(millis, sample, Transition::Intended(attempt));
        self.progress.submitting -= 1;
        self.progress.running += 1;
        self.progress.accepted += 1;
        self.progress.requests += 1;
        self.progress.requests_last_minute += 1;
        self.pay();
        self.progress.oldest_task.get_or_insert(Stamp::from_millis(millis + 300));
        let task = TaskId::new(&format!("task_{sample}_{}", attempt.0)).unwrap();
        self.change(millis + 300, sample, Transition::Accepted { task, attempt, cost: PRICE });
    }

    fn pay(&mut self) {
        self.progress.spent = self.progress.spent + PRICE;
        self.progress.spent_now = self.progress.spent_now + PRICE;
    }

    fn end(&mut self, millis: u64, sample: i64, attempts: u32, outcome: Outcome) {
        self.progress.tally.shift(Status::Pending, outcome.status());
        self.progress.ended += 1;
        self.progress.slots_held -= 1;
        let cost = if outcome.status() == Status::Unknown { PRICE } else { Usd::ZERO };
        self.change(millis, sample, Transition::Ended { outcome, attempts, cost });
    }

    fn make(&mut self, millis: u64, sample: i64) {
        self.progress.running -= 1;
        let completed = BIRTH.at(Stamp::from_millis(millis - 2_000));
        let video = Video {
            urls: vec![format!("https://videos.example/{sample}.mp4")],
            created: Some(UnixMillis(completed.0 - 110_000)),
            completed: Some(completed),
        };
        self.end(millis, sample, 1, Outcome::Succeeded(video));
    }

    fn beat_until(&mut self, millis: u64) {
        while self.progress.now.as_millis() + 1_000 <= millis {
            let next = self.progress.now.as_millis() + 1_000;
            self.tell(next, &RunEvent::Heartbeat);
        }
    }
}

/// Tells the run to `sink` and answers the last figures.
pub(super) fn play(sink: &mut dyn EventSink) -> Progress {
    let mut run = Teller { sink, progress: Progress { buying: true, ..Progress::default() } };
    run.progress.tally.set(Status::Pending, 8);
    let away = Failure::new(FailureKind::Transient, Some("http_503"), "the service is away");
    run.tell(0, &RunEvent::Started { restored: 0 });
    run.tell(200, &RunEvent::Balance(Usd::from_cents(150)));
    run.buy(300, 1, 1);
    run.buy(500, 2, 1);
    for second in 1..=9 {
        let until = Stamp::from_millis(second * 1_000 + 2_500);
        run.tell(second * 1_000, &RunEvent::Paused { until, failure: &away });
    }
    run.beat_until(95_000);
    run.tell(95_400, &RunEvent::PollFailed { sample: SampleId(1), failure: &away });
    run.beat_until(112_000);
    run.make(112_500, 1);
    run.buy(112_700, 3, 1);
    run.progress.oldest_task = Some(Stamp::from_millis(800));
    run.progress.running -= 1;
    let again = Failure::new(FailureKind::Transient, Some("MODEL_UNAVAILABLE"), "try again later");
    let not_before = Stamp::from_millis(120_000);
    run.change(118_000, 2, Transition::Deferred { not_before, paid_retries: 1, failure: again });
    run.buy(120_100, 2, 2);
    run.beat_until(230_000);
    run.progress.running -= 1;
    let refused =
        Failure::new(FailureKind::Content, Some("CONTENT_VIOLATION"), "the prompt breaks the rules");
    run.end(230_300, 2, 2, Outcome::Failed(refused));
    run.make(231_000, 3);
    run.progress.slots_held += 1;
    run.change(231_200, 4, Transition::Intended(Attempt(1)));
    let bad = Failure::new(FailureKind::Input, Some("http_400"), "Invalid request");
    run.end(231_500, 4, 1, Outcome::Rejected(bad));
    run.progress.slots_held += 2;
    run.change(231_600, 5, Transition::Intended(Attempt(1)));
    run.change(231_700, 6, Transition::Intended(Attempt(1)));
    run.change(232_000, 6, Transition::Retracted);
    run.pay();
    let reset = Failure::new(FailureKind::Doubt, None, "the connection was reset after sending");
    run.end(232_100, 5, 1, Outcome::Unknown(reset));
    run.progress.slots_held -= 1;
    run.buy(233_000, 7, 1);
    let poor = Failure::new(FailureKind::Money, Some("http_402"), "Insufficient credits");
    run.progress.buying = false;
    run.tell(234_000, &RunEvent::BuyingStopped(&Halt::NoMoney(poor)));
    run.beat_until(343_000);
    run.make(344_000, 7);
    run.tell(344_200, &RunEvent::Balance(Usd::from_cents(30)));
    run.tell(344_300, &RunEvent::Finished);
    run.progress
}

/// A writer whose text can be read while another thread holds a clone.
#[derive(Clone, Default)]
pub(super) struct Sheet(Arc<Mutex<Vec<u8>>>);

impl Write for Sheet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sheet {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}
