//! The pure core, and a loop around it that waits for nothing.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use batchveo::generation::{GenerationType, Kind, Mode};
use batchveo::job::{Attempt, SampleId, Stamp, Usd};
use batchveo::schedule::gate::Gate;
use batchveo::schedule::{Action, Before, Config, Entry, Event, Schedule, Step};

use crate::{Story, config, service};

/// An answer on its way. The sooner is the greater, since the heap gives the greatest first.
#[derive(Clone, Copy)]
struct Answer {
    at: Stamp,
    sample: SampleId,
    /// The number of the look, or 0 for the submission.
    look: u64,
}

impl Answer {
    fn of(sample: SampleId, look: u64, now: Stamp) -> Self {
        Self { at: now + service::latency(sample, look), sample, look }
    }
}

impl Ord for Answer {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Answer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Answer {}

/// Sends `rows` rows through a core.
pub(crate) fn run(rows: i64) -> Story {
    let config: Config = config();
    let mut now = Stamp::BIRTH;
    let mut core =
        Schedule::new(config, Gate::new(config.limits.requests_per_minute, now), Before::default(), now);
    let mut answers = BinaryHeap::new();
    let mut looks = vec![0_u8; usize::try_from(rows).expect("few rows") + 1];
    let mut next_row = 1;
    let mut story = Story::default();
    loop {
        match core.poll(now) {
            Step::Act(Action::FreeSlots(slots)) => {
                for _ in 0..slots {
                    let event = if next_row > rows {
                        Event::QueueEnded
                    } else {
                        Event::Admitted(Entry {
                            sample: SampleId(next_row),
                            kind: Kind { mode: Mode::Fast, generation_type: GenerationType::Text },
                            attempts: 0,
                            paid_retries: 0,
                            price: Usd::ZERO,
                            not_before: now,
                        })
                    };
                    next_row += 1;
                    core.handle(event, now).expect("legal");
                }
            }
            Step::Act(Action::Submit { sample, .. }) => {
                answers.push(Answer::of(sample, 0, now));
            }
            Step::Act(Action::Poll { sample, .. }) => {
                let look = &mut looks[usize::try_from(sample.0).expect("positive")];
                *look += 1;
                answers.push(Answer::of(sample, u64::from(*look), now));
            }
            Step::Act(
                Action::AskBalance
                | Action::ReclaimSlots(_)
                | Action::LookAtLink { .. }
                | Action::ForgetLink { .. },
            ) => unreachable!("nothing fails here"),
            Step::Finished => {
                story.write(core.take_changes());
                story.lasted = now;
                return story;
            }
            step @ (Step::WakeAt(_) | Step::Wait) => {
                story.write(core.take_changes());
                let answer_at = answers.peek().map(|answer: &Answer| answer.at);
                let wake_at = if let Step::WakeAt(at) = step { Some(at) } else { None };
                now = [answer_at, wake_at].into_iter().flatten().min().expect("something is on its way");
                while let Some(Answer { sample, look, .. }) =
                    answers.peek().copied().filter(|answer| answer.at <= now)
                {
                    answers.pop();
                    story.answers += 1;
                    let event = if look == 0 {
                        Event::Submitted { sample, attempt: Attempt(1), answer: service::submit() }
                    } else {
                        Event::Polled { sample, answer: service::look(sample, look) }
                    };
                    core.handle(event, now).expect("legal");
                }
            }
        }
    }
}
