//! The pure core, and a loop around it that waits for nothing.

use std::hint::black_box;

use batchveo::generation::{GenerationType, Kind, Mode};
use batchveo::job::{Attempt, SampleId, Stamp, Usd};
use batchveo::schedule::gate::Gate;
use batchveo::schedule::{Action, Before, Config, Entry, Event, Schedule, Step};

use crate::{Story, config, service};

const NEVER: Stamp = Stamp::from_nanos(u64::MAX);

/// An answer on its way.
#[derive(Clone, Copy)]
struct Answer {
    at: Stamp,
    row: u32,
    /// The number of the look, or 0 for the submission.
    look: u32,
}

/// Answers on their way, the soonest at the end. There are some twenty at a time.
#[derive(Default)]
struct Answers(Vec<Answer>);

impl Answers {
    fn push(&mut self, sample: SampleId, look: u32, now: Stamp) {
        let at = now + service::latency(sample, u64::from(look));
        let row = u32::try_from(sample.0).expect("few rows");
        self.0.insert(self.0.partition_point(|other| other.at > at), Answer { at, row, look });
    }
}

/// Sends `rows` rows through a core.
pub(crate) fn run(rows: i64) -> Story {
    let config: Config = config();
    let mut now = Stamp::BIRTH;
    let mut core =
        Schedule::new(config, Gate::new(config.limits.requests_per_minute, now), Before::default(), now);
    let mut answers = Answers::default();
    let mut looks = vec![0_u32; usize::try_from(rows).expect("few rows") + 1];
    let mut next_row = 1;
    let mut story = Story::default();
    loop {
        let wake_at = match core.poll(now) {
            Step::Act(Action::FreeSlots(slots)) => {
                for row in next_row..next_row + i64::from(slots) {
                    let event = if row > rows { Event::QueueEnded } else { Event::Admitted(entry(row, now)) };
                    core.handle(event, now).expect("legal");
                }
                next_row += i64::from(slots);
                continue;
            }
            Step::Act(Action::Submit { sample, .. }) => {
                answers.push(sample, 0, now);
                continue;
            }
            Step::Act(Action::Poll { sample }) => {
                black_box(core.watched_task(sample).expect("watched"));
                let look = &mut looks[usize::try_from(sample.0).expect("positive")];
                *look += 1;
                answers.push(sample, *look, now);
                continue;
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
            Step::WakeAt(at) => at,
            Step::Wait => NEVER,
        };
        story.write(core.take_changes());
        now = answers.0.last().map_or(wake_at, |answer| answer.at.min(wake_at));
        assert!(now < NEVER, "nothing is on its way");
        while let Some(Answer { row, look, .. }) = answers.0.pop_if(|answer| answer.at <= now) {
            story.answers += 1;
            let sample = SampleId(i64::from(row));
            let event = if look == 0 {
                Event::Submitted { sample, attempt: Attempt(1), answer: service::submit() }
            } else {
                Event::Polled { sample, answer: service::look(sample, u64::from(look)) }
            };
            core.handle(event, now).expect("legal");
        }
    }
}

fn entry(row: i64, now: Stamp) -> Entry {
    Entry {
        sample: SampleId(row),
        kind: Kind { mode: Mode::Fast, generation_type: GenerationType::Text },
        attempts: 0,
        paid_retries: 0,
        price: Usd::ZERO,
        not_before: now,
    }
}
