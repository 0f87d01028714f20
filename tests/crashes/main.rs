//! The proof: the real engine, state file and results are crashed before every effect of thousands
//! of random stories, resumed, and held to their promises by a service that keeps the true ledger.
//!
//! Everything is made of a seed and happens in virtual time, so a failing story is told again, with
//! every effect, by the command that its failure prints:
//!
//! ```text
//! BATCHVEO_STORY=123:17 cargo test --test crashes
//! ```
//!
//! is story 123 with a crash before effect 17 (more crashes: `123:17:40`). `BATCHVEO_STORIES=N`
//! tells N stories. Seeds that once failed are in `tests/seeds/crashes.txt` and always told.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod checks;
mod execution;
mod service;
mod story;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use batchveo::job::UnixMillis;
use tokio::runtime::{Builder, Runtime};

use execution::{Stage, Told};
use story::{Dice, Story};

/// When every state file is born.
const BIRTH: UnixMillis = UnixMillis(1_800_000_000_000);
/// Stories of one run, unless asked for another number.
const STORIES: u64 = 10_000;
/// Threads that tell stories.
const WORKERS: u64 = 2;
/// A story with at most so many effects is crashed before every one of them. Of longer ones one in
/// [`ONE_IN`] is, if it has no more than [`MANY`]; the rest at one to [`MOST_CRASHES`]. To crash all of
/// ten thousand everywhere takes most of an hour.
const FEW: u32 = 12;
const MANY: u32 = 60;
const ONE_IN: u64 = 19;
/// One story in so many is told twice without a crash, and must be the same.
const TWICE: u64 = 20;
/// Crashes of one telling at most.
const MOST_CRASHES: u64 = 4;

/// Failures, and violations of each, that are printed.
const SHOWN: usize = 4;

/// What the stories came to.
#[derive(Debug, Default)]
struct Sums {
    stories: u64,
    everywhere: u64,
    effects: u64,
    tellings: u64,
    crashes: u64,
    checks: u64,
    ended: BTreeMap<&'static str, u64>,
    failures: Vec<String>,
}

impl Sums {
    fn add(&mut self, seed: u64, crashes: &[u32], told: &Told) {
        self.tellings += 1;
        self.crashes += u64::from(told.crashes);
        self.checks += told.checks;
        for status in &told.statuses {
            *self.ended.entry(status.as_str()).or_default() += 1;
        }
        if !told.violations.is_empty() {
            let points = crashes.iter().fold(seed.to_string(), |text, at| format!("{text}:{at}"));
            let mut text = format!("BATCHVEO_STORY={points} cargo test --test crashes");
            for violation in told.violations.iter().take(SHOWN) {
                let _ = write!(text, "\n    {violation}");
            }
            if told.violations.len() > SHOWN {
                let _ = write!(text, "\n    and {} more", told.violations.len() - SHOWN);
            }
            self.failures.push(text);
        }
    }

    fn merge(&mut self, other: Self) {
        self.stories += other.stories;
        self.everywhere += other.everywhere;
        self.effects += other.effects;
        self.tellings += other.tellings;
        self.crashes += other.crashes;
        self.checks += other.checks;
        for (status, count) in other.ended {
            *self.ended.entry(status).or_default() += count;
        }
        self.failures.extend(other.failures);
    }
}

/// Tells the story of `seed`: without a crash, then with crashes; one that once failed with a crash
/// before every effect, and at the points at which it failed.
fn tell(runtime: &Runtime, seed: u64, once_failed: Option<&[u32]>) -> Sums {
    let mut sums = Sums { stories: 1, ..Sums::default() };
    let mut stage = Stage::new(Story::new(seed));
    let uncrashed = stage.tell(runtime, &[], None, false);
    sums.add(seed, &[], &uncrashed);
    sums.effects += u64::from(uncrashed.effects);
    if seed.is_multiple_of(TWICE) {
        let mut again = stage.tell(runtime, &[], None, false);
        let told = |told: &Told| (told.effects, told.checks, told.statuses.clone());
        if told(&again) != told(&uncrashed) {
            again.violations.push("told twice, the story is not the same".to_owned());
        }
        sums.add(seed, &[], &again);
    }
    let dice = &mut Dice::of(&[seed, 5]);
    let effects = uncrashed.effects;
    let mut crashed = |sums: &mut Sums, points: &[u32]| {
        let told = stage.tell(runtime, points, Some(&uncrashed.statuses), false);
        sums.add(seed, points, &told);
    };
    let mut more = |from: u32, most: u64| {
        let mut points = vec![from];
        while (points.len() as u64) < most {
            let last = *points.last().expect("one at least");
            points.push(last + u32::try_from(dice.between(0, u64::from(effects))).expect("small"));
        }
        points
    };
    if let Some(points) = once_failed.filter(|points| !points.is_empty()) {
        crashed(&mut sums, points);
    }
    if once_failed.is_some() || effects <= FEW || (effects <= MANY && seed.is_multiple_of(ONE_IN)) {
        sums.everywhere += 1;
        for at in 0..effects {
            // In a share of the stories what resumes is crashed again.
            let most = if seed.is_multiple_of(4) { 1 + u64::from(at) % MOST_CRASHES } else { 1 };
            let points = more(at, most);
            crashed(&mut sums, &points);
        }
    } else {
        let first = u32::try_from(seed.wrapping_mul(0x9e37_79b9) % u64::from(effects)).expect("small");
        let points = more(first, 1 + seed % MOST_CRASHES);
        crashed(&mut sums, &points);
    }
    sums
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

/// `123:17:40`: story 123 with a crash before effect 17 and another before effect 40.
fn parse(asked: &str) -> (u64, Vec<u32>) {
    let mut words = asked.split(':').map(str::trim);
    let seed = words.next().and_then(|word| word.parse().ok()).expect("SEED:POINT:POINT…");
    (seed, words.map(|word| word.parse().expect("SEED:POINT:POINT…")).collect())
}

fn that_once_failed() -> Vec<(u64, Vec<u32>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seeds/crashes.txt");
    let text = std::fs::read_to_string(path).expect("the list of seeds");
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(parse).collect()
}

/// One story with a crash at each of the points, effect by effect.
fn replay(asked: &str) {
    let (seed, points) = parse(asked);
    let (runtime, mut stage) = (runtime(), Stage::new(Story::new(seed)));
    let mut err = std::io::stderr();
    let _ = writeln!(err, "{:#?}", Story::new(seed));
    let uncrashed = (!points.is_empty()).then(|| stage.tell(&runtime, &[], None, false).statuses);
    let told = stage.tell(&runtime, &points, uncrashed.as_deref(), true);
    let _ = writeln!(err, "{}", told.trace);
    let _ = writeln!(err, "{} effects, {} crashes, {:?}", told.effects, told.crashes, told.statuses);
    assert!(told.violations.is_empty(), "{}", told.violations.join("\n"));
}

#[test]
fn the_promises_hold_whenever_the_process_dies() {
    if let Ok(asked) = std::env::var("BATCHVEO_STORY") {
        replay(&asked);
        return;
    }
    let stories = std::env::var("BATCHVEO_STORIES").map_or(STORIES, |n| n.parse().expect("a number"));
    let once_failed = that_once_failed();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let sums = Mutex::new(Sums::default());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let runtime = runtime();
                let mut own = Sums::default();
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    // Those that once failed first.
                    let known = usize::try_from(number).ok().and_then(|at| once_failed.get(at));
                    let told = match (known, number.checked_sub(once_failed.len() as u64)) {
                        (Some((seed, points)), _) => tell(&runtime, *seed, Some(points)),
                        (None, Some(seed)) if seed < stories => tell(&runtime, seed, None),
                        (None, _) => break,
                    };
                    if !told.failures.is_empty() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    own.merge(told);
                }
                sums.lock().expect("no worker has died").merge(own);
            });
        }
    });
    let sums = sums.into_inner().expect("no worker has died");
    let violations = sums.failures.len();
    let Sums { stories, everywhere, effects, tellings, crashes, checks, ended, failures } = &sums;
    let _ = writeln!(
        std::io::stderr(),
        "crashes: {stories} stories ({everywhere} crashed before every effect), {effects} effects, \
         {tellings} tellings, {crashes} crashes, {checks} promises checked, {violations} violations; samples ended {ended:?}"
    );
    let shown = failures.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "after {stories} stories:\n{shown}");
}
