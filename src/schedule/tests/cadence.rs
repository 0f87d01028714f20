//! The learned cadence against fixed schedules: whole runs of the core, with tasks of fixed lengths.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::job::UnixMillis;
use crate::schedule::share::Share;

/// When it comes, in which order, whose, whether it answers a submission, and of when it speaks.
type Answer = (Stamp, u64, SampleId, bool, Stamp);

/// What a run came to.
#[derive(Debug)]
struct Story {
    /// Seconds from the first submission to the last end that was noticed.
    makespan: f64,
    /// Mean seconds from an end to its being noticed.
    delay: f64,
    looks: usize,
    fullest_window: usize,
}

/// An account of 100 slots and 1,000 requests a minute: the documented one in small.
fn account(cadence: Cadence) -> Config {
    Config { cadence, limits: limits(1_000, 100), ..Config::default() }
}

/// Runs tasks of these lengths, in seconds, with answers after a tenth of one. `at_once` answers each
/// look when its task has ended.
fn run_tasks(config: Config, lengths: &[f64], at_once: bool) -> Story {
    const LATENCY: Duration = Duration::from_millis(100);
    let mut core = core(config);
    let mut now = Stamp::BIRTH;
    let mut waiting = (1..).take(lengths.len()).map(SampleId);
    let mut answers: BinaryHeap<Reverse<Answer>> = BinaryHeap::new();
    let mut lives = vec![(Stamp::BIRTH, Stamp::BIRTH); lengths.len() + 1];
    let place = |sample: SampleId| usize::try_from(sample.0).unwrap();
    let mut sent = Vec::new();
    let (mut order, mut looks, mut delay) = (0, 0, 0.0);
    let mut last = now;
    loop {
        let step = core.poll(now);
        match step {
            Step::Act(Action::FreeSlots(slots)) => {
                for _ in 0..slots {
                    let event = waiting.next().map_or(Event::QueueEnded, |sample| {
                        Event::Admitted(Entry { attempts: 0, ..entry_once_submitted(sample, now) })
                    });
                    core.handle(event, now).unwrap();
                }
            }
            Step::Act(Action::Submit { sample, .. }) => {
                let length = Duration::from_secs_f64(lengths[place(sample) - 1]);
                lives[place(sample)] = (now, now + length);
                sent.push(now);
                order += 1;
                answers.push(Reverse((now + LATENCY, order, sample, true, now)));
            }
            Step::Act(Action::Poll { sample }) => {
                let seen = if at_once { lives[place(sample)].1.max(now) } else { now };
                sent.push(now);
                looks += 1;
                order += 1;
                answers.push(Reverse((seen + LATENCY, order, sample, false, seen)));
            }
            Step::Act(action) => panic!("{action:?}"),
            Step::Finished => break,
            Step::WakeAt(_) | Step::Wait => {
                let wake = if let Step::WakeAt(at) = step { Some(at) } else { None };
                let answer = answers.peek().map(|Reverse((at, ..))| *at);
                now = wake.into_iter().chain(answer).min().unwrap();
                while let Some(Reverse((at, _, sample, submission, seen))) =
                    answers.peek().copied().filter(|Reverse((at, ..))| *at <= now)
                {
                    answers.pop();
                    let (created, ends) = lives[place(sample)];
                    if submission {
                        let answer = Submitted::Accepted(TaskId::new(&format!("t{sample}")).unwrap());
                        core.handle(Event::Submitted { sample, attempt: Attempt(1), answer }, at).unwrap();
                        continue;
                    }
                    let answer = if ends <= seen {
                        last = at;
                        delay += at.since(ends).as_secs_f64();
                        let wall = |stamp| Some(UnixMillis(0).at(stamp));
                        Polled::Succeeded(Video {
                            urls: vec!["https://v.example/1.mp4".into()],
                            created: wall(created),
                            completed: wall(ends),
                        })
                    } else {
                        Polled::Alive(Stage::Processing)
                    };
                    core.handle(Event::Polled { sample, answer }, at).unwrap();
                }
                drop(taken_changes(&mut core));
            }
        }
    }
    let mut first = 0;
    let mut fullest_window = 0;
    for (place, at) in sent.iter().enumerate() {
        while at.since(sent[first]) > Duration::from_mins(1) {
            first += 1;
        }
        fullest_window = fullest_window.max(place - first + 1);
    }
    let tasks = u32::try_from(lengths.len()).unwrap();
    Story {
        makespan: last.since(Stamp::BIRTH).as_secs_f64(),
        delay: delay / f64::from(tasks),
        looks,
        fullest_window,
    }
}

/// So many lengths around `mean`, half of it to one and a half: what is drawn evenly is fixed by its
/// place.
fn lengths(mean: f64, tasks: u32) -> Vec<f64> {
    let part = |task: u32| f64::from(task.wrapping_mul(2_654_435_761) >> 8) / f64::from(1_u32 << 24);
    (0..tasks).map(|task| mean * (0.5 + part(task))).collect()
}

fn fixed(first: u64, every: u64) -> Cadence {
    Cadence::Fixed { first: Duration::from_secs(first), every: Duration::from_secs(every) }
}

/// The learned cadence's efficiency, and the best of these fixed ones.
fn against(lengths: &[f64], rivals: &[Cadence]) -> (f64, f64) {
    let told = run_tasks(account(fixed(1, 1)), lengths, true).makespan;
    let efficiency = |cadence| {
        let story = run_tasks(account(cadence), lengths, false);
        assert!(story.fullest_window <= 1_000, "{story:?}");
        told / story.makespan
    };
    let best = rivals.iter().map(|rival| efficiency(*rival)).fold(0.0, f64::max);
    (efficiency(Cadence::Learned), best)
}

#[test]
fn it_beats_the_vendors_schedule_and_every_five_seconds() {
    for (mean, at_least) in [(120.0, 0.98), (60.0, 0.965)] {
        let (learned, best) = against(&lengths(mean, 1_500), &[Cadence::VENDOR, fixed(5, 5)]);
        assert!(learned > best && learned > at_least, "{learned} and {best} at {mean} s");
    }
}

#[test]
fn it_follows_a_change_of_speed() {
    let mut lengths = lengths(120.0, 1_800);
    lengths[600..1_200].iter_mut().for_each(|length| *length *= 45.0 / 120.0);
    let (learned, best) = against(&lengths, &[fixed(5, 5), fixed(20, 5), fixed(60, 5)]);
    assert!(learned > best && learned > 0.96, "{learned} and {best}");
}

#[test]
fn tasks_that_never_end_do_not_blind_it() {
    // A tenth of the first ones, which the task time-out ends.
    let mut lengths = lengths(120.0, 1_500);
    lengths[..600].iter_mut().step_by(10).for_each(|length| *length = 1e6);
    let stories = [Cadence::Learned, fixed(5, 5)].map(|cadence| run_tasks(account(cadence), &lengths, false));
    assert!(stories[0].makespan < stories[1].makespan * 1.01, "{stories:?}");
    assert!(stories[0].delay < stories[1].delay * 0.7, "{stories:?}");
}

#[test]
fn with_requests_as_the_bottleneck_each_task_is_looked_at_about_once() {
    let lengths = lengths(5.0, 1_500);
    let story = run_tasks(account(Cadence::Learned), &lengths, false);
    let used = f64::from(u32::try_from(story.looks + lengths.len()).unwrap()) / story.makespan * 60.0;
    assert!(used > 930.0 && story.looks < lengths.len() * 11 / 10, "{used} a minute, {story:?}");
}

#[test]
fn part_of_what_is_left_stays_unused_if_so_wanted() {
    let lengths = lengths(120.0, 500);
    let half = Config { poll_share: Share::from_hundredths(5_000).unwrap(), ..account(Cadence::Learned) };
    let (all, half) =
        (run_tasks(account(Cadence::Learned), &lengths, false), run_tasks(half, &lengths, false));
    assert!(half.looks * 10 < all.looks * 7 && half.looks * 10 > all.looks * 3, "{half:?} of {all:?}");
    assert!(half.delay > all.delay, "{half:?} and {all:?}");
}

#[test]
fn a_few_tasks_are_not_asked_about_without_end() {
    // A dozen tasks leave nearly all requests to spare: enough looks to notice soon, and no more.
    let story = run_tasks(account(Cadence::Learned), &lengths(120.0, 12), false);
    assert!(story.looks < 12 * 75 && story.delay < 4.0, "{story:?}");
}

#[test]
fn the_next_process_goes_on_from_what_was_learned() {
    let mut core = core(account(Cadence::Learned));
    assert!(core.learned_to_keep(Stamp::from_millis(59_000)).is_none());
    let kept = core.learned_to_keep(Stamp::from_millis(60_000)).unwrap();
    assert!(core.learned_to_keep(Stamp::from_millis(60_001)).is_none());
    core.recall(&kept);
    assert_eq!(super::core(account(Cadence::VENDOR)).learned(), None);
}

/// The ages, in seconds, of all looks at one task that lives on until it is given up on.
fn looks_at_one(mut core: Schedule, until: u64) -> Vec<u64> {
    let mut ages = Vec::new();
    let mut at = Stamp::BIRTH;
    while core.running() > 0 {
        let next = actions(&mut core, at, Stamp::from_millis(until * 1_000));
        let look = next.iter().find(|(_, action)| matches!(action, Action::Poll { .. }));
        let Some((millis, _)) = look else { break };
        at = Stamp::from_millis(*millis);
        ages.push(millis / 1_000);
        let answer = Polled::Alive(Stage::Processing);
        core.handle(Event::Polled { sample: SampleId(1), answer }, at).unwrap();
    }
    ages
}

#[test]
fn a_task_is_given_up_on_when_its_time_is_up() {
    for called_back in [false, true] {
        let mut core = core(Config { called_back, ..account(Cadence::Learned) });
        admit_many(&mut core, 1);
        actions(&mut core, Stamp::BIRTH, Stamp::from_millis(500));
        accept(&mut core, 1, Stamp::from_millis(500));
        let ages = looks_at_one(core, 4_000);
        assert_eq!(ages.last(), Some(&1_800), "{ages:?}");
    }
}

#[test]
fn nothing_is_learned_of_tasks_whose_age_is_a_guess() {
    let mut core = core(account(Cadence::Learned));
    let now = Stamp::from_millis(9_000_000);
    for n in 1..=200 {
        let entry = entry_once_submitted(SampleId(n), now);
        let task = TaskId::new(&format!("t{n}")).unwrap();
        let stored = Stored::Running { task, accepted: Stamp::from_millis(1_000) };
        core.handle(Event::Restored(Restored { entry, stored }), now).unwrap();
    }
    let before = core.learned();
    for (millis, action) in actions(&mut core, now, now + Duration::from_secs(30)) {
        if let Action::Poll { sample } = action {
            let video =
                Video { urls: vec!["https://v.example/1.mp4".into()], created: None, completed: None };
            let at = Stamp::from_millis(millis);
            core.handle(Event::Polled { sample, answer: Polled::Succeeded(video) }, at).unwrap();
        }
    }
    assert_eq!((core.running(), core.learned()), (0, before));
}
