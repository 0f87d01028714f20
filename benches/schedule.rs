//! What a decision costs: events and rows per second through the pure core.
//!
//! `cargo bench --bench schedule`. A thousand tasks are in flight, each takes about two minutes
//! and is looked at by the vendor's schedule; time is an argument, so nothing is waited for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use batchveo::api::{Polled, Stage, Submitted};
use batchveo::generation::{GenerationType, Kind, Mode};
use batchveo::job::{Attempt, SampleId, Stamp, TaskId, Usd, Video};
use batchveo::schedule::gate::Gate;
use batchveo::schedule::{Action, Before, Config, Entry, Event, Schedule, Step};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ROWS: i64 = 20_000;
/// From a request to its answer.
const LATENCY: Duration = Duration::from_millis(120);

/// Answers on their way: when, in which order, whose, and whether it answers a submission.
type Answers = BinaryHeap<Reverse<(Stamp, u64, SampleId, bool)>>;

/// Sends `rows` rows through a core; gives how many events it took.
fn drive(rows: i64) -> u64 {
    let config = Config::default();
    let mut now = Stamp::BIRTH;
    let mut core =
        Schedule::new(config, Gate::new(config.limits.requests_per_minute, now), Before::default(), now);
    let mut answers = Answers::new();
    let mut ends = vec![Stamp::BIRTH; usize::try_from(rows).expect("few rows") + 1];
    let (mut next_row, mut events, mut order) = (1, 0, 0);
    loop {
        match core.poll(now) {
            Step::Act(Action::FreeSlots(slots)) => {
                for _ in 0..slots {
                    let event = if next_row > rows {
                        Event::QueueEnded
                    } else {
                        let sample = SampleId(next_row);
                        Event::Admitted(Entry {
                            sample,
                            kind: Kind { mode: Mode::Fast, generation_type: GenerationType::Text },
                            attempts: 0,
                            paid_retries: 0,
                            price: Usd::ZERO,
                            not_before: now,
                        })
                    };
                    next_row += 1;
                    events += 1;
                    core.handle(event, now).expect("legal");
                }
            }
            Step::Act(Action::Submit { sample, .. }) => {
                order += 1;
                answers.push(Reverse((now + LATENCY, order, sample, true)));
            }
            Step::Act(Action::Poll { sample, .. }) => {
                order += 1;
                answers.push(Reverse((now + LATENCY, order, sample, false)));
            }
            Step::Act(
                Action::AskBalance
                | Action::ReclaimSlots(_)
                | Action::LookAtLink { .. }
                | Action::ForgetLink { .. },
            ) => unreachable!("nothing fails here"),
            Step::Finished => return events,
            step @ (Step::WakeAt(_) | Step::Wait) => {
                let answer_at = answers.peek().map(|Reverse((at, ..))| *at);
                let wake_at = if let Step::WakeAt(at) = step { Some(at) } else { None };
                now = [answer_at, wake_at].into_iter().flatten().min().expect("something is on its way");
                while let Some(Reverse((at, _, sample, submission))) =
                    answers.peek().copied().filter(|a| a.0.0 <= now)
                {
                    answers.pop();
                    events += 1;
                    let slot = &mut ends[usize::try_from(sample.0).expect("positive")];
                    let event = if submission {
                        *slot = at
                            + Duration::from_millis(
                                80_000 + u64::try_from(sample.0 * 7_919 % 80_000).expect("positive"),
                            );
                        let answer =
                            Submitted::Accepted(TaskId::new("task_0123456789abcdef").expect("an id"));
                        Event::Submitted { sample, attempt: Attempt(1), answer }
                    } else if at < *slot {
                        Event::Polled { sample, answer: Polled::Alive(Stage::Processing) }
                    } else {
                        let urls = vec!["https://video.example/0123456789.mp4".to_owned()];
                        Event::Polled {
                            sample,
                            answer: Polled::Succeeded(Video { urls, created: None, completed: None }),
                        }
                    };
                    core.handle(event, now).expect("legal");
                }
                drop(core.take_changes());
            }
        }
    }
}

fn schedule(criterion: &mut Criterion) {
    let events = drive(ROWS);
    let mut group = criterion.benchmark_group("schedule");
    group.sample_size(10);
    group.throughput(Throughput::Elements(events));
    group.bench_function("events", |bencher| bencher.iter(|| drive(ROWS)));
    group.throughput(Throughput::Elements(u64::try_from(ROWS).expect("positive")));
    group.bench_function("rows", |bencher| bencher.iter(|| drive(ROWS)));
    group.finish();
}

criterion_group!(benches, schedule);
criterion_main!(benches);
