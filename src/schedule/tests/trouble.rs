//! Refusals, silences and outages.

use super::*;

#[test]
fn ten_answers_of_a_service_in_trouble_pause_buying_until_the_balance_answers() {
    let mut core = core(vendor());
    admit_many(&mut core, 100);
    let mut now = Stamp::BIRTH;
    let mut sent = 0;
    for _ in 0..40 {
        now = now + Duration::from_secs(1);
        for id in submits(&actions(&mut core, now, now + Duration::from_millis(900))) {
            sent += 1;
            let answer = Submitted::InDoubt(failure(FailureKind::Doubt));
            core.handle(Event::Submitted { sample: id, attempt: Attempt(1), answer }, now).unwrap();
        }
    }
    // Those unanswered when the tenth answer came had been sent already.
    assert!((10..10 + SLOW_START).contains(&sent), "{sent}");
    let answers = Event::Balance(crate::api::Balance::Left(None));
    core.handle(answers.clone(), now).unwrap();
    // A balance that answers is no proof: one submission goes, and no more until it is answered.
    let trial = submits(&actions(&mut core, now, now + Duration::from_secs(1)));
    assert_eq!(trial.len(), 1);
    let answer = Submitted::InDoubt(failure(FailureKind::Doubt));
    core.handle(Event::Submitted { sample: trial[0], attempt: Attempt(1), answer }, now).unwrap();
    let later = actions(&mut core, now, now + Duration::from_secs(20));
    assert_eq!(
        (submits(&later).len(), later.last().map(|(_, action)| action)),
        (0, Some(&Action::AskBalance))
    );
    now = now + Duration::from_secs(20);
    core.handle(answers, now).unwrap();
    let trial = submits(&actions(&mut core, now, now + Duration::from_secs(1)));
    assert_eq!(trial.len(), 1);
    // An acceptance is: the run goes on, slowly at first.
    accept(&mut core, trial[0].0, now);
    let sent = submits(&actions(&mut core, now, now + Duration::from_secs(1))).len();
    assert_eq!(sent, SLOW_START as usize + 1);
}

#[test]
fn too_many_tasks_lower_the_slots_and_leave_the_looks_alone() {
    let (mut core, mut now) = watching(vendor(), 40, 20);
    let first = submits(&actions(&mut core, now, now + Duration::from_millis(100)));
    assert!(!first.is_empty());
    now = now + Duration::from_millis(200);
    for id in &first {
        refuse(&mut core, *id, RefusalCause::Concurrency, now);
    }
    // One refusal may be a hiccup, three in a row are not.
    for _ in 0..2 {
        assert_eq!(core.allowed(), (10_000, 1_000));
        now = now + Duration::from_secs(5);
        let trials = submits(&actions(&mut core, now, now));
        assert_eq!(trials.len(), 1, "one at a time finds out");
        refuse(&mut core, trials[0], RefusalCause::Concurrency, now);
    }
    // The floor of a thousand slots is ten, and forty tasks are alive.
    assert_eq!(core.allowed(), (10_000, 40));
    assert_eq!(core.pause(now).map(|(until, _)| until.since(now) <= Duration::from_secs(4)), Some(true));
    assert_eq!(actions(&mut core, now, now + Duration::from_secs(29)), []);
    // Half a minute later it is tried with some more, and looks go on as ever.
    let seen = actions(&mut core, now + Duration::from_secs(29), Stamp::from_millis(91_000));
    assert_eq!(submits(&seen).len(), 1);
    assert_eq!(core.allowed(), (10_000, 60));
    assert_eq!(seen.iter().filter(|(_, action)| matches!(action, Action::Poll { .. })).count(), 40);
    now = Stamp::from_millis(91_000);
    refuse(&mut core, submits(&seen)[0], RefusalCause::Concurrency, now);
    assert_eq!(core.allowed(), (10_000, 40));
    let video = Video { urls: vec!["u".into()], created: None, completed: None };
    core.handle(Event::Polled { sample: SampleId(1), answer: Polled::Succeeded(video) }, now).unwrap();
    assert_eq!(submits(&actions(&mut core, now, now + Duration::from_secs(9))).len(), 1);
}

#[test]
fn what_there_were_too_many_of_is_told_by_the_looks() {
    for looks_pass in [true, false] {
        let (mut core, now) = watching(vendor(), 40, 20);
        let refused = submits(&actions(&mut core, now, now + Duration::from_millis(100)));
        let now = now + Duration::from_millis(200);
        for id in &refused {
            refuse(&mut core, *id, RefusalCause::Rate, now);
        }
        assert_eq!(core.allowed(), (10_000, 1_000), "nothing is known yet");
        for at in [20_000, 40_000].map(Stamp::from_millis) {
            let trials = submits(&actions(&mut core, at, at));
            assert_eq!(trials.len(), 1, "one at a time finds out");
            refuse(&mut core, trials[0], RefusalCause::Rate, at);
        }
        let later = Stamp::from_millis(92_000);
        actions(&mut core, Stamp::from_millis(89_000), later);
        for id in 1..=3 {
            let answer = if looks_pass {
                Polled::Alive(Stage::Processing)
            } else {
                let cause = RefusalCause::Rate;
                let failure = failure(FailureKind::Transient);
                Polled::NotAnswered(Refusal { cause, retry_after: Some(Duration::from_secs(9)), failure })
            };
            core.handle(Event::Polled { sample: SampleId(id), answer }, later).unwrap();
        }
        let (requests, tasks) = core.allowed();
        if looks_pass {
            assert_eq!((requests, tasks), (10_000, 40));
        } else {
            assert_eq!((requests, tasks), (1_000, 1_000), "the floor: next to nothing had been sent");
            let paused = core.pause(later).map(|(until, _)| until);
            assert_eq!(paused, Some(later + Duration::from_secs(9)));
            assert_eq!(actions(&mut core, later, later + Duration::from_secs(8)), []);
        }
    }
}

#[test]
fn refusals_that_do_not_end_stop_the_run_with_its_rows_pending() {
    let mut core = core(Config { outage_timeout: Duration::from_mins(5), ..vendor() });
    admit_many(&mut core, 50);
    let (mut now, mut sent) = (Stamp::BIRTH, 0);
    while core.halt().is_none() {
        now = now + Duration::from_millis(500);
        assert!(now < Stamp::from_millis(400_000));
        for id in submits(&actions(&mut core, now, now)) {
            sent += 1;
            refuse(&mut core, id, RefusalCause::Rate, now);
        }
    }
    assert!(matches!(core.halt(), Some(Halt::Outage(_))));
    assert!((10..40).contains(&sent), "{sent}");
}

#[test]
fn looks_that_tell_nothing_for_an_hour_end_the_watching() {
    for unclear in [true, false] {
        let task_timeout = Duration::from_hours(3);
        let config = Config { collect_only: true, task_timeout, ..vendor() };
        let mut core = core(config);
        let stored =
            |n: i64| Stored::Running { task: TaskId::new(&format!("t{n}")).unwrap(), accepted: Stamp::BIRTH };
        for n in 1..=20 {
            let entry = Entry {
                sample: SampleId(n),
                kind: KIND,
                attempts: 1,
                paid_retries: 0,
                price: PRICE,
                not_before: Stamp::BIRTH,
            };
            core.handle(Event::Restored(Restored { entry, stored: stored(n) }), Stamp::BIRTH).unwrap();
        }
        let (mut now, mut looks) = (Stamp::BIRTH, 0);
        while core.poll(now) != Step::Finished {
            now = now + Duration::from_millis(200);
            assert!(now.as_millis() < 2 * 3_600_000, "it never ends");
            for (_, action) in actions(&mut core, now, now) {
                let Action::Poll { sample } = action else { continue };
                looks += 1;
                let failure = failure(FailureKind::Transient);
                let answer = if unclear {
                    Polled::Unclear(failure)
                } else {
                    Polled::NotAnswered(Refusal { cause: RefusalCause::Connect, retry_after: None, failure })
                };
                core.handle(Event::Polled { sample, answer }, now).unwrap();
            }
        }
        // A reason to stop of its own, though nothing was to be bought anyway.
        assert!(matches!(core.halt(), Some(Halt::Outage(_))), "{:?}", core.halt());
        assert!(looks < 2_000, "{looks} looks at a service that is away");
    }
}

#[test]
fn an_answer_that_asks_for_no_wait_does_not_switch_the_backoff_off() {
    let mut core = core(vendor());
    admit_many(&mut core, 50);
    let (mut now, mut sent) = (Stamp::BIRTH, 0);
    while now.as_millis() < 300_000 {
        now = now + Duration::from_millis(100);
        for sample in submits(&actions(&mut core, now, now)) {
            sent += 1;
            let failure = failure(FailureKind::Transient);
            let refusal = Refusal { cause: RefusalCause::Rate, retry_after: Some(Duration::ZERO), failure };
            let answer = Submitted::NotAccepted(refusal);
            core.handle(Event::Submitted { sample, attempt: Attempt(1), answer }, now).unwrap();
        }
    }
    assert!(sent < 40, "{sent}");
}

#[test]
fn the_answer_to_an_older_submission_is_not_the_trials() {
    let mut core = core(vendor());
    admit_many(&mut core, 100);
    let mut now = Stamp::BIRTH;
    let mut unanswered = Vec::new();
    let doubt = || Submitted::InDoubt(failure(FailureKind::Doubt));
    let mut doubts = 0;
    while doubts < 10 {
        now = now + Duration::from_secs(1);
        for sample in submits(&actions(&mut core, now, now)) {
            // One of the first stays unanswered for long.
            if unanswered.is_empty() {
                unanswered.push(sample);
            } else {
                doubts += 1;
                core.handle(Event::Submitted { sample, attempt: Attempt(1), answer: doubt() }, now).unwrap();
            }
        }
    }
    core.handle(Event::Balance(crate::api::Balance::Left(None)), now).unwrap();
    now = now + Duration::from_secs(1);
    let trial = submits(&actions(&mut core, now, now));
    assert_eq!(trial.len(), 1);
    let late = Event::Submitted { sample: unanswered[0], attempt: Attempt(1), answer: doubt() };
    core.handle(late, now).unwrap();
    let later = actions(&mut core, now, now + Duration::from_secs(600));
    assert_eq!(submits(&later), [], "the trial is under way");
    assert!(!later.iter().any(|(_, action)| *action == Action::AskBalance));
}

#[test]
fn an_outage_that_lasts_stops_the_run() {
    let config = Config { outage_timeout: Duration::from_mins(2), ..vendor() };
    let mut core = core(config);
    admit_many(&mut core, 100);
    let mut now = Stamp::BIRTH;
    while core.halt().is_none() {
        now = now + Duration::from_secs(1);
        assert!(now < Stamp::from_millis(300_000));
        for (_, action) in actions(&mut core, now, now + Duration::from_millis(900)) {
            let event = match action {
                Action::Submit { sample, attempt, .. } => {
                    let answer = Submitted::InDoubt(failure(FailureKind::Doubt));
                    Event::Submitted { sample, attempt, answer }
                }
                Action::AskBalance => {
                    Event::Balance(crate::api::Balance::Unclear(failure(FailureKind::Transient)))
                }
                Action::Poll { .. }
                | Action::LookAtLink { .. }
                | Action::ForgetLink { .. }
                | Action::FreeSlots(_)
                | Action::ReclaimSlots(_) => continue,
            };
            core.handle(event, now).unwrap();
        }
    }
    assert!(matches!(core.halt(), Some(Halt::Outage(_))));
    assert_eq!(core.poll(now), Step::Finished);
}

#[test]
fn one_unknown_task_is_lost_but_many_stop_the_run() {
    for (tasks, lost) in [(1, true), (20, false)] {
        let mut core = core(vendor());
        admit_many(&mut core, tasks);
        let mut now = Stamp::BIRTH;
        let mut ended = Vec::new();
        while core.halt().is_none() && ended.is_empty() {
            now = now + Duration::from_secs(1);
            assert!(now < Stamp::from_millis(1_200_000), "neither lost nor stopped");
            for (_, action) in actions(&mut core, now, now + Duration::from_millis(900)) {
                match action {
                    Action::Submit { sample, .. } => accept(&mut core, sample.0, now),
                    Action::Poll { sample } => {
                        let answer = Polled::NotFound(failure(FailureKind::Transient));
                        core.handle(Event::Polled { sample, answer }, now).unwrap();
                    }
                    Action::AskBalance
                    | Action::LookAtLink { .. }
                    | Action::ForgetLink { .. }
                    | Action::FreeSlots(_)
                    | Action::ReclaimSlots(_) => {}
                }
            }
            let is_end = |change: &Change| matches!(change.transition, Transition::Ended { .. });
            ended.extend(taken_changes(&mut core).into_iter().filter(is_end));
        }
        assert_eq!(!ended.is_empty(), lost);
        assert_eq!(matches!(core.halt(), Some(Halt::TasksVanish(_))), !lost);
    }
}

/// A core with fifty rows to submit.
fn core_with_rows(config: Config) -> Schedule {
    let mut core = core(config);
    admit_many(&mut core, 50);
    core
}

/// Nothing is answered any more, so that only the core's own word has it asked again.
#[test]
fn patience_ends_by_itself() {
    let outage_timeout = Duration::from_mins(10);
    let config = Config { outage_timeout, task_timeout: Duration::from_hours(9), ..vendor() };
    let gives_up = |core: &mut Schedule, since: Stamp, now: Stamp| {
        let ends = since + outage_timeout;
        actions(core, now, ends.before(Duration::from_nanos(1)));
        assert_eq!(core.halt(), None, "too early");
        actions(core, ends.before(Duration::from_secs(1)), ends);
        assert!(matches!(core.halt(), Some(Halt::Outage(_))), "{:?}", core.halt());
    };
    // Submissions are refused.
    let mut core = core_with_rows(config);
    let now = Stamp::from_millis(1_000);
    assert_eq!(submits(&actions(&mut core, Stamp::BIRTH, now)).len(), 4);
    refuse(&mut core, SampleId(1), RefusalCause::Rate, now);
    gives_up(&mut core, now, now);
    // Looks tell nothing.
    let (mut core, began) = watching(config, 1, 0);
    core.handle(Event::QueueEnded, began).unwrap();
    let now = Stamp::from_millis(100_000);
    assert_eq!(actions(&mut core, began, now).len(), 1);
    let answer = Polled::Unclear(failure(FailureKind::Transient));
    core.handle(Event::Polled { sample: SampleId(1), answer }, now).unwrap();
    gives_up(&mut core, now, now);
    // The service is away.
    let mut core = core_with_rows(config);
    let mut now = Stamp::BIRTH;
    while core.outage.is_none() {
        now = now + Duration::from_secs(1);
        for id in submits(&actions(&mut core, now, now + Duration::from_millis(900))) {
            let answer = Submitted::InDoubt(failure(FailureKind::Doubt));
            core.handle(Event::Submitted { sample: id, attempt: Attempt(1), answer }, now).unwrap();
        }
    }
    let since = core.troubled_since.unwrap();
    gives_up(&mut core, since, now);
}
