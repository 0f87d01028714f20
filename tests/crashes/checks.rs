//! The promises, checked against the service's ledger.

use std::path::Path;

use batchveo::api::Submitted;
use batchveo::generation::PriceList;
use batchveo::job::{Stamp, Status, Usd};
use batchveo::schedule::gate::WINDOW;
use batchveo::store::{ResultFilter, ResultRow, Store, StoreError};

use super::service::{Submission, World, urls_of};
use super::story::Ending;

/// What was checked and what did not hold.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) made: u64,
    pub(crate) violations: Vec<String>,
}

impl Checks {
    pub(crate) fn that(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.made += 1;
        if !holds {
            self.violations.push(what());
        }
    }
}

/// Every result row of the state file, in manifest order.
pub(crate) fn rows_of(store: &Store) -> Vec<ResultRow> {
    let mut rows = Vec::new();
    let visit = |row| {
        rows.push(row);
        std::ops::ControlFlow::<StoreError>::Continue(())
    };
    store.for_each_result(&ResultFilter::default(), visit).expect("a state file that can be read");
    rows
}

impl World {
    /// What the state file holds now that the process is gone.
    pub(crate) fn look_at_state(&mut self) {
        for (place, (_, state, task)) in self.states().into_iter().enumerate() {
            if state == "submitting" {
                self.doubtful.insert(place);
            }
            if let Some(task) = task {
                self.known.entry(place).or_default().insert(task);
            }
        }
    }

    /// Promise 1, whenever a run has ended by itself: one line for each sample, in manifest order,
    /// that says what the state says.
    pub(crate) fn check_results(&mut self, results: &Path, rows: &[ResultRow]) {
        let samples = self.story.samples();
        self.checks.that(rows.len() == samples, || format!("{} rows in the state, of {samples}", rows.len()));
        let mut reader = csv::Reader::from_path(results).expect("results");
        let header = reader.headers().expect("a header").clone();
        let column = |name: &str| header.iter().position(|found| found == name);
        let lines: Vec<_> = reader.records().map(|line| line.expect("a whole line")).collect();
        self.checks.that(lines.len() == rows.len(), || format!("{} result lines, of {samples}", lines.len()));
        for (row, line) in rows.iter().zip(&lines) {
            let cell = |name: &str| column(name).and_then(|at| line.get(at)).unwrap_or("").to_owned();
            let told = [
                cell("seed"),
                cell("sample"),
                cell("status"),
                cell("task_id"),
                cell("video_url"),
                cell("attempts"),
                cell("cost_usd"),
            ];
            let index = if column("sample").is_some() { row.index.to_string() } else { String::new() };
            let stored = [
                row.fields.last().cloned().unwrap_or_default(),
                index,
                row.status.to_string(),
                row.task.clone().unwrap_or_default(),
                row.urls.first().cloned().unwrap_or_default(),
                row.attempts.to_string(),
                row.cost.to_string(),
            ];
            self.checks.that(told == stored, || format!("the results say {told:?}, the state {stored:?}"));
        }
    }

    /// The results while a run goes on: whole lines, one at least for each sample that has ended, and the
    /// last one of each says how; none for others.
    pub(crate) fn check_growing_results(&mut self) {
        let lines = std::fs::read(&self.results).expect("results");
        let whole = lines.last() == Some(&b'\n');
        let mut reader = csv::Reader::from_reader(&lines[..]);
        let header = reader.headers().expect("a header").clone();
        let column = |name: &str| header.iter().position(|found| found == name);
        let (seed, index, status) = (column("seed"), column("sample"), column("status"));
        let mut told = vec![None; self.story.samples()];
        for line in reader.records() {
            let line = line.expect("a whole line");
            let number =
                |at: Option<usize>| -> u64 { at.map_or(0, |at| line[at].parse().expect("a number")) };
            let place = self.story.sample_of(number(seed) + number(index));
            told[place] = status.map(|at| line[at].to_owned());
        }
        let ended: Vec<_> = self.states().into_iter().map(|(_, state, _)| state).collect();
        let ended = ended.into_iter().map(|state| {
            let pending = ["ready", "submitting", "running"].contains(&state.as_str());
            (!pending).then_some(state)
        });
        let ended: Vec<_> = ended.collect();
        self.checks.that(whole && told == ended, || {
            format!("the results say {told:?} while the run goes on, the state {ended:?}")
        });
    }

    fn states(&self) -> Vec<(i64, String, Option<String>)> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement =
                self.state.prepare_cached("SELECT id, state, task FROM samples ORDER BY id")?;
            let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect()
        };
        read().expect("a state file that can be read")
    }

    /// What was accepted, delivered and followed by an orderly end is known.
    pub(crate) fn check_known(&mut self) {
        for place in 0..self.story.samples() {
            let doubtful = self.doubtful.contains(&place);
            let accepted = self.sent_for(place).filter(|(_, sent)| is_delivered_acceptance(sent));
            let tasks = accepted.filter_map(|(_, sent)| sent.task.as_ref());
            let lost = tasks.map(|task| task.id.as_str()).filter(|task| !is_known(self, place, task));
            let lost: Vec<_> = lost.map(str::to_owned).collect();
            self.checks.that(lost.is_empty() || doubtful, || format!("{lost:?} was delivered and is lost"));
        }
    }

    /// What was spent is never more than was allowed, whatever the run's end: neither by the state nor
    /// by what the service took.
    pub(crate) fn check_cap(&mut self) {
        let Some(most) = self.story.config(self.mended).max_cost else { return };
        let sum = |sql| self.state.query_one(sql, (), |row| row.get::<_, i64>(0));
        let stored = sum("SELECT ifnull(sum(cost), 0) FROM samples").expect("a state file that can be read");
        self.checks.that(stored <= i64::try_from(most.micros()).unwrap_or(i64::MAX), || {
            format!("{stored} millionths were spent, of {most}")
        });
        let taken = self.taken();
        self.checks.that(taken <= most, || format!("the service took {taken}, of {most}"));
    }

    /// What the service took.
    fn taken(&self) -> Usd {
        let tasks = self.submissions.iter().filter_map(|submission| submission.task.as_ref());
        tasks.fold(Usd::ZERO, |sum, task| sum + task.price)
    }

    /// Every promise, once every sample has ended.
    pub(crate) fn check_all(&mut self, rows: &[ResultRow], spending: Usd) {
        self.check_windows();
        self.check_tasks_alive();
        let mut sum = Usd::ZERO;
        for (place, row) in rows.iter().enumerate() {
            self.check_sample(place, row);
            sum = sum + row.cost;
        }
        self.checks.that(spending == sum, || format!("{spending} spent, {sum} by sample"));
        let spent = self.taken();
        self.checks.that(spending >= spent, || format!("{spending} in the state, {spent} at the service"));
    }

    /// Promise 2: no 60 seconds hold more requests than are allowed.
    fn check_windows(&mut self) {
        let allowed = self.story.limits().requests_per_minute.get() as usize;
        let mut arrivals = self.arrivals.clone();
        arrivals.sort_unstable();
        let mut first = 0;
        for (last, at) in arrivals.iter().enumerate() {
            while at.since(arrivals[first]) >= WINDOW {
                first += 1;
            }
            let count = last - first + 1;
            self.checks.that(count <= allowed, || {
                format!("{count} requests in the minute before {:?}, of {allowed}", at.since(Stamp::BIRTH))
            });
        }
    }

    /// Promise 3: never more tasks alive than are allowed, and as many if every doubt was accepted.
    fn check_tasks_alive(&mut self) {
        let allowed = i64::from(self.story.limits().concurrent_tasks.get());
        let mut steps: Vec<(Stamp, i64)> = Vec::new();
        let mut attempts = vec![0; self.story.samples()];
        for submission in &self.submissions {
            let n = &mut attempts[submission.sample];
            let lasts = match (&submission.task, submission.surely_not_accepted()) {
                (Some(task), _) => Some(task.fate.lasts),
                (None, true) => None,
                (None, false) => Some(self.story.doubt_lasts(submission.sample, *n)),
            };
            *n += 1;
            if let Some(lasts) = lasts {
                let born = submission.task.as_ref().map_or(submission.arrived, |task| task.born);
                steps.push((born, 1));
                steps.push((born + lasts, -1));
            }
        }
        // A task that ends makes room for one that begins at the same instant.
        steps.sort_unstable();
        let mut alive = 0;
        for (at, step) in steps {
            alive += step;
            self.checks.that(alive <= allowed, || {
                format!("{alive} tasks are or may be alive at {:?}, of {allowed}", at.since(Stamp::BIRTH))
            });
        }
    }

    /// Promises 4 and 5, and the books, for one sample.
    fn check_sample(&mut self, place: usize, row: &ResultRow) {
        let sent: Vec<_> = self.sent_for(place).collect();
        let last = sent.last().map(|(_, last)| *last);
        let accepted: Vec<_> =
            sent.iter().filter_map(|(number, sent)| sent.task.as_ref().map(|task| (*number, task))).collect();
        let taken =
            self.submissions.iter().filter(|sent| sent.sample == place && sent.task.is_some()).count();
        let old_doubts = self.put_back.get(&place).map_or(0, |(_, doubts)| *doubts);
        let known = self.known.get(&place).map_or(0, std::collections::BTreeSet::len);
        let (in_doubt, status) = (row.status == Status::Unknown, row.status);
        let named =
            row.task.as_deref().and_then(|id| accepted.iter().find(|(_, task)| task.id.as_str() == id));
        let ending = named.map(|(_, task)| task.fate.ending);
        let unclear = row.task.as_ref().and_then(|id| self.unclear_looks.get(id)).copied().unwrap_or(0);
        let failed = |task: &super::service::Task| matches!(task.fate.ending, Ending::Fails(_));

        let mut held = Vec::new();
        let mut that = |holds: bool, what: &'static str| held.push((holds, what));
        let unfailed = accepted.iter().filter(|(_, task)| !failed(task)).count();
        that(unfailed <= 1, "was bought twice");
        let for_money =
            |task: &super::service::Task| task.fate.ending == Ending::Fails(batchveo::api::Verdict::NoMoney);
        let paid = accepted.iter().filter(|(_, task)| !for_money(task)).count();
        let most = self.story.config(true).retry.paid_retries as usize + 1;
        that(paid <= most, "was paid for more often than allowed");
        let missing = accepted.iter().any(|(_, task)| !is_known(self, place, task.id.as_str()));
        that(!missing || in_doubt, "has a task that is not in the state, and is not unknown");
        that(
            row.attempts as usize == known + old_doubts + usize::from(in_doubt),
            "does not count its attempts",
        );
        let price = PriceList::VENDOR.of(self.story.mode_of(place));
        that(row.cost == price.times(row.attempts.into()), "does not cost what it cost");
        that(taken <= row.attempts as usize, "was accepted more often than it knows");
        let answered_in_doubt =
            last.is_some_and(|last| last.delivered && matches!(last.answer, Submitted::InDoubt(_)));
        let doubted = self.doubtful.contains(&place) || answered_in_doubt;
        that(doubted == in_doubt, "is unknown without a doubt, or in doubt and not unknown");
        that(
            match status {
                Status::Succeeded => named.is_some_and(|(number, task)| {
                    matches!(task.fate.ending, Ending::Videos(urls) if row.urls == urls_of(*number, urls))
                }),
                Status::Failed => matches!(ending, Some(Ending::Fails(_))),
                Status::Rejected => {
                    last.is_some_and(|last| last.delivered && matches!(last.answer, Submitted::Rejected(_)))
                }
                Status::TimedOut => ending == Some(Ending::Never) || (named.is_some() && unclear >= 5),
                Status::Lost => matches!(ending, Some(Ending::Vanishes | Ending::WithoutUrl)),
                Status::Unknown => true,
                Status::Pending | Status::Invalid => false,
            },
            "ended another way at the service",
        );
        let wrong: Vec<_> = held.iter().filter(|(holds, _)| !holds).map(|(_, what)| *what).collect();
        let told = (!wrong.is_empty()).then(|| {
            format!("sample {} ({status}, {:?}) {}: {sent:?}", row.sample, row.task, wrong.join(", "))
        });
        self.checks.made += held.len() as u64;
        self.checks.violations.extend(told);
    }
}

const fn is_delivered_acceptance(submission: &Submission) -> bool {
    submission.delivered && matches!(submission.answer, Submitted::Accepted(_))
}

fn is_known(world: &World, place: usize, task: &str) -> bool {
    world.known.get(&place).is_some_and(|tasks| tasks.contains(task))
}
