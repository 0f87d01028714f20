//! How long a run takes by how its tasks are watched, and how far that is from the best there is.
//!
//! `cargo bench --bench makespan`: the whole program in virtual time (engine, core, state file, results)
//! within 10,000 requests in any minute and 1,000 tasks at once; some minutes of real time. What is
//! named behind `--`, of `mixes`, `speed`, `never` and `short`, is run alone. No figure depends on the
//! machine: the same seeds give the same table.
//!
//! How long each task takes is fixed by its row and shared by all cadences; figures are means over five
//! seeds. Answers and callbacks take 50 to 150 ms. *Efficiency* is the makespan of a run that notices
//! each end at once, which is told of it over the same network, over the makespan; *strictly* that of
//! a run that is told without the network's delay, which no program can be. The bound for
//! steady polling is `mean / (mean + (∫S√h)² / (2n))` for `n` looks a task, from the true
//! distribution: no schedule of looks that does as well at all times is better. It leaves out the
//! network, and the end of a run, where fewer tasks are left to look at.

#![expect(clippy::print_stdout, reason = "a bench prints what it finds")]
#![expect(clippy::cast_precision_loss, reason = "counts far below 2⁵²")]

mod mix;
mod run;
mod service;

use std::sync::Mutex;
use std::thread;

use batchveo::schedule::cadence::Cadence;
use mix::Mix;
use run::{Figures, Watching, run};

/// What the random durations hang on.
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];
const ROWS: usize = 20_000;

/// One run that is to be made.
struct Job<'a> {
    durations: &'a [f64],
    watching: Watching,
}

/// Makes all runs, as many at once as the machine has processors.
fn run_all(jobs: &[Job<'_>]) -> Vec<Figures> {
    let next = Mutex::new(0..jobs.len());
    let done = Mutex::new(vec![Figures::default(); jobs.len()]);
    let take = || next.lock().expect("no panic").next();
    let work = || {
        while let Some(place) = take() {
            let figures = run(jobs[place].durations, jobs[place].watching);
            done.lock().expect("no panic")[place] = figures;
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    done.into_inner().expect("no panic")
}

/// Figures of the same runs with other durations.
fn mean(of: &[Figures]) -> Figures {
    let runs = of.len() as f64;
    let mean = |field: fn(&Figures) -> f64| of.iter().map(field).sum::<f64>() / runs;
    Figures {
        makespan: mean(|figures| figures.makespan),
        efficiency: mean(|figures| figures.efficiency),
        strictly: mean(|figures| figures.strictly),
        requests_per_task: mean(|figures| figures.requests_per_task),
        requests_per_minute: mean(|figures| figures.requests_per_minute),
        delay: mean(|figures| figures.delay),
        delay_p99: mean(|figures| figures.delay_p99),
        fullest_window: of.iter().map(|figures| figures.fullest_window).max().unwrap_or(0),
        refused: of.iter().map(|figures| figures.refused).sum(),
    }
}

/// The means over all seeds for each way of watching tasks of `durations(seed)`.
fn compare(durations: impl Fn(u64) -> Vec<f64>, ways: &[Watching]) -> Vec<Figures> {
    let durations: Vec<_> = SEEDS.map(durations).into();
    let all = [&[Watching::Told, Watching::Foretold], ways].concat();
    let jobs: Vec<_> = durations
        .iter()
        .flat_map(|durations| all.iter().map(move |watching| Job { durations, watching: *watching }))
        .collect();
    let mut figures = run_all(&jobs);
    for figures in &figures {
        assert!(figures.refused == 0 && figures.fullest_window <= 10_000, "over a limit: {figures:?}");
    }
    for of_seed in figures.chunks_mut(all.len()) {
        let (told, foretold) = (of_seed[0].makespan, of_seed[1].makespan);
        for figures in of_seed {
            figures.efficiency = told / figures.makespan;
            figures.strictly = foretold / figures.makespan;
        }
    }
    (2..all.len())
        .map(|way| mean(&figures.iter().skip(way).step_by(all.len()).copied().collect::<Vec<_>>()))
        .collect()
}

fn fixed(first: u64, every: u64) -> Watching {
    let seconds = std::time::Duration::from_secs;
    Watching::Looked(Cadence::Fixed { first: seconds(first), every: seconds(every) })
}

fn heading() {
    println!(
        "{:<30} {:>9} {:>10} {:>9} {:>8} {:>7} {:>7} {:>7} {:>4}",
        "", "makespan", "efficiency", "strictly", "req/task", "delay", "p99", "window", "429"
    );
}

fn line(name: &str, figures: &Figures) {
    println!(
        "{name:<30} {:>7.0} s {:>8.2} % {:>7.2} % {:>8.1} {:>5.2} s {:>5.1} s {:>7} {:>4}",
        figures.makespan,
        figures.efficiency * 100.0,
        figures.strictly * 100.0,
        figures.requests_per_task,
        figures.delay,
        figures.delay_p99,
        figures.fullest_window,
        figures.refused,
    );
}

fn mixes() {
    let ways = [
        ("vendor's: 90 s, then every 5 s", Watching::Looked(Cadence::VENDOR)),
        ("every 5 s", fixed(5, 5)),
        ("learned", Watching::Looked(Cadence::Learned)),
        ("callbacks", Watching::CalledBack),
    ];
    for mix in &mix::MIXES {
        println!("\n{ROWS} tasks, {}", mix.name);
        heading();
        let figures = compare(|seed| mix.durations(seed, ROWS), &ways.map(|(_, way)| way));
        for ((name, _), figures) in ways.iter().zip(&figures) {
            line(name, figures);
        }
        let looks = figures[2].requests_per_task - 1.0;
        println!("{:<30} {:>18.2} %", "bound for steady polling", mix.bound(looks) * 100.0);
    }
}

/// The best of many fixed schedules, by hindsight, beside the learned cadence.
fn in_hindsight(title: &str, durations: impl Fn(u64) -> Vec<f64>) {
    println!("\n{title}");
    heading();
    let mut ways = vec![("learned".to_owned(), Watching::Looked(Cadence::Learned))];
    for first in [5, 20, 30, 60, 75, 90] {
        ways.extend(
            [3, 4, 5, 6].map(|every| (format!("{first} s, then every {every} s"), fixed(first, every))),
        );
    }
    let figures = compare(durations, &ways.iter().map(|(_, way)| *way).collect::<Vec<_>>());
    line(&ways[0].0, &figures[0]);
    let fixed = ways.iter().zip(&figures).skip(1);
    if let Some(((name, _), best)) = fixed.max_by(|a, b| a.1.efficiency.total_cmp(&b.1.efficiency)) {
        line(&format!("best fixed: {name}"), best);
    }
}

fn speed() {
    const FAST: f64 = 45.0 / 120.0;
    in_hindsight("20000 tasks of mean 120 s, σ 0.25, of which the middle third takes 45 s", |seed| {
        let mut durations = mix::MIXES[0].durations(seed, ROWS);
        durations[ROWS / 3..2 * ROWS / 3].iter_mut().for_each(|seconds| *seconds *= FAST);
        durations
    });
}

fn never() {
    // A tenth of these holds its slots for the whole half hour of the task time-out, so that they take
    // about an hour.
    const FIRST_HOUR: usize = 12_500;
    in_hindsight("40000 tasks of mean 120 s, σ 0.25; in the first hour every tenth never ends", |seed| {
        let mut durations = mix::MIXES[0].durations(seed, 2 * ROWS);
        durations[..FIRST_HOUR].iter_mut().step_by(10).for_each(|seconds| *seconds = f64::INFINITY);
        durations
    });
}

fn short() {
    let mix = Mix::one("mean 5 s, σ 0.25: requests are the bottleneck", 5.0, 0.25);
    // Many, so that the beginning and the end of the run, when fewer are asked for, weigh little.
    let rows = 3 * ROWS;
    println!("\n{rows} tasks, {}", mix.name);
    heading();
    let figures = compare(|seed| mix.durations(seed, rows), &[Watching::Looked(Cadence::Learned)]);
    line("learned", &figures[0]);
    println!("{:<30} {:>18.2} %", "of 10000 requests a minute", figures[0].requests_per_minute / 100.0);
}

fn main() {
    let named: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for (name, part) in [("mixes", mixes as fn()), ("speed", speed), ("never", never), ("short", short)] {
        if named.is_empty() || named.iter().any(|word| word == name) {
            part();
        }
    }
}
