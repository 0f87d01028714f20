//! The pure core, and a loop around it that waits for nothing.

use std::collections::VecDeque;
use std::hint::black_box;

use batchveo::generation::{GenerationType, Kind, Mode};
use batchveo::job::{Attempt, SampleId, Stamp, Usd};
use batchveo::schedule::gate::Gate;
use batchveo::schedule::{Action, Before, Config, Entry, Event, Schedule, Step};

use crate::{BATCH, Story, config, service};

/// An answer on its way.
#[derive(Clone, Copy)]
struct Answer {
    at: Stamp,
    sample: SampleId,
    /// The number of the look, or 0 for the submission.
    look: u64,
}

/// Sends `rows` rows through a core.
pub(crate) fn run(rows: i64) -> Story {
    let config: Config = config();
    let mut now = Stamp::BIRTH;
    let mut core =
        Schedule::new(config, Gate::new(config.limits.requests_per_minute, now), Before::default(), now);
    let mut answers = VecDeque::new();
    let mut looks = vec![0_u64; usize::try_from(rows).expect("few rows") + 1];
    let mut batch = Vec::with_capacity(2 * BATCH);
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
                answers.push_back(Answer { at: now + service::LATENCY, sample, look: 0 });
                continue;
            }
            Step::Act(Action::Poll { sample }) => {
                black_box(core.watched_task(sample).expect("watched"));
                let look = &mut looks[usize::try_from(sample.0).expect("positive")];
                *look += 1;
                answers.push_back(Answer { at: now + service::LATENCY, sample, look: *look });
                continue;
            }
            Step::Act(
                Action::AskBalance
                | Action::ReclaimSlots(_)
                | Action::LookAtLink { .. }
                | Action::ForgetLink { .. },
            ) => unreachable!("nothing fails here"),
            Step::Finished => {
                core.take_changes(&mut batch);
                story.write(&mut batch);
                story.lasted = now;
                return story;
            }
            Step::WakeAt(at) => at,
            Step::Wait => Stamp::NEVER,
        };
        core.take_changes(&mut batch);
        if batch.len() >= BATCH {
            story.write(&mut batch);
        }
        now = answers.front().map_or(wake_at, |answer: &Answer| answer.at.min(wake_at));
        assert!(now < Stamp::NEVER, "nothing is on its way");
        while let Some(Answer { sample, look, .. }) = answers.pop_front_if(|answer| answer.at <= now) {
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
