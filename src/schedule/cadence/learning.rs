//! What has been learned of how long tasks take, and the plans that follow from it.
//!
//! A record for each kind of video and each stage (`pending`, `processing`). Recent tasks weigh more:
//! each end of a kind makes all that was learned of it before count a little less. The estimate for a
//! kind and stage leans on the kind's, that on the one of all kinds, and that on a guess. A plan is made
//! when it is first asked for after the price or the records have changed by something that matters.

use serde::{Deserialize, Serialize};

use super::ages;
use super::hazard::{Hazard, Kept, Record, prior};
use super::inspection::Plan;
use super::lookout::Sight;
use crate::api::Stage;
use crate::generation::{GenerationType, Kind, Mode};

/// Kinds there are, and stages.
const KINDS: usize = 6;
const STAGES: usize = 3;
const NO_PLANS: [[Option<Plan>; 2]; STAGES] = [const { [const { None }; 2] }; STAGES];
/// After so many more ends, what was learned of a kind counts `1/e` of what it did. A thousand slots
/// turn over in less, and a thousand ends give every cell within a tenth or so of its value.
const MEMORY: f64 = 1_500.0;
/// What an end counts grows with each; when it has grown so far, all are made less together.
const HEAVIEST: f64 = 1e9;
/// Plans are made anew after so many ends, a few hundredths of what is remembered; in the beginning
/// after a tenth of those seen.
const NEWS: u32 = 50;
const NEWS_PART: u32 = 10;
/// And after the price has moved by this part.
const PRICE_MOVES: f64 = 0.04;
/// What an earlier process learned counts as so many ends at most: the service may have changed.
const REMEMBERED: f64 = 500.0;
/// Ends without a callback, of so many ends, that are guessed beside those seen: callbacks that have
/// always come may stop.
const MISSED_GUESSED: (f64, f64) = (1.0, 20.0);
/// After so many more ends, what callbacks have done counts half.
const MISSED_MEMORY: f64 = 500.0;

/// What a process has learned, to be kept for the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// Cells of the grid of ages that it speaks of: those of another grid mean nothing.
    cells: usize,
    records: Vec<KeptRecord>,
}

/// The record of a kind and stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KeptRecord {
    mode: Mode,
    generation_type: GenerationType,
    stage: Stage,
    /// Cell, ends, seconds lived.
    record: Vec<Kept>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Learning {
    prior: Hazard,
    kinds: [Option<Box<OfKind>>; KINDS],
    ends: u32,
    news: u32,
    planned_price: f64,
    /// Where callbacks are expected.
    callbacks: Option<Callbacks>,
}

/// What is known of one kind of video.
#[derive(Debug)]
struct OfKind {
    /// What a task counts now. Records hold what each counted at the time.
    weight: f64,
    stages: [Record; STAGES],
    /// By stage, and without and with a callback to come.
    plans: [[Option<Plan>; 2]; STAGES],
}

/// Of ends that a callback was to tell: those that a look told of long after, and all.
#[derive(Debug, Clone, Copy)]
struct Callbacks {
    missed: f64,
    all: f64,
}

impl Callbacks {
    fn share_missed(self) -> f64 {
        let (missed, all) = MISSED_GUESSED;
        (self.missed + missed) / (self.all + all)
    }
}

impl Default for OfKind {
    fn default() -> Self {
        Self { weight: 1.0, stages: std::array::from_fn(|_| Record::default()), plans: NO_PLANS }
    }
}

impl OfKind {
    /// All stages, with the newest tasks counting 1.
    fn sum(&self) -> Record {
        let mut sum = Record::default();
        self.stages.iter().for_each(|stage| sum.add(stage, 1.0 / self.weight));
        sum
    }

    fn scale(&mut self, factor: f64) {
        self.stages.iter_mut().for_each(|stage| stage.scale(factor));
    }

    /// One stage, with the newest tasks counting 1.
    fn of_stage(&self, stage: usize) -> Record {
        let mut record = Record::default();
        record.add(&self.stages[stage], 1.0 / self.weight);
        record
    }
}

impl Learning {
    /// Nothing but the guess.
    pub(super) fn new(called_back: bool) -> Self {
        Self {
            prior: prior(),
            kinds: [const { None }; KINDS],
            ends: 0,
            news: 0,
            planned_price: 0.0,
            callbacks: called_back.then_some(Callbacks { missed: 0.0, all: 0.0 }),
        }
    }

    /// Goes on from what an earlier process has learned.
    pub(super) fn recall(&mut self, learned: &Learned) {
        if learned.cells != ages::count() {
            return;
        }
        for KeptRecord { mode, generation_type, stage, record } in &learned.records {
            let kind = Kind { mode: *mode, generation_type: *generation_type };
            self.of_kind(kind).stages[place_of_stage(*stage)] = Record::revived(record);
        }
        for kind in self.kinds.iter_mut().flatten() {
            let ends: f64 = kind.stages.iter().map(Record::total).sum();
            if ends > REMEMBERED {
                kind.scale(REMEMBERED / ends);
            }
        }
    }

    fn of_kind(&mut self, kind: Kind) -> &mut OfKind {
        self.kinds[place_of_kind(kind)].get_or_insert_default()
    }

    /// A task was alive until age `to`, in seconds; answers the cell of that age.
    pub(super) fn lived(&mut self, sight: &Sight, to: f64) -> usize {
        let of_kind = self.of_kind(sight.kind);
        let from = sight.age_alive();
        of_kind.stages[place_of_stage(sight.stage)].lived(sight.cell, from, to, of_kind.weight)
    }

    /// A task ended at age `at`, in seconds.
    pub(super) fn ended(&mut self, sight: &Sight, at: f64) {
        let cell = self.lived(sight, at);
        let of_kind = self.of_kind(sight.kind);
        of_kind.stages[place_of_stage(sight.stage)].ended(cell, of_kind.weight);
        of_kind.weight *= 1.0 + 1.0 / MEMORY;
        if of_kind.weight > HEAVIEST {
            of_kind.scale(1.0 / of_kind.weight);
            of_kind.weight = 1.0;
        }
        self.ends = self.ends.saturating_add(1);
        self.news += 1;
        if self.news >= NEWS.min(self.ends / NEWS_PART + 1) {
            self.forget_plans();
        }
    }

    /// An end that a callback was to tell came to be known: by it, or long after by a look.
    pub(super) fn called_back(&mut self, by_callback: bool) {
        if let Some(callbacks) = &mut self.callbacks {
            let fades = 1.0 - std::f64::consts::LN_2 / MISSED_MEMORY;
            callbacks.all = callbacks.all * fades + 1.0;
            callbacks.missed = callbacks.missed * fades + f64::from(u8::from(!by_callback));
        }
    }

    fn forget_plans(&mut self) {
        self.news = 0;
        for kind in self.kinds.iter_mut().flatten() {
            kind.plans = NO_PLANS;
        }
    }

    /// At which age to look next at a task that is alive at `age`, which is in `cell`, in seconds, when a
    /// look costs `price`.
    pub(super) fn next_age(&mut self, sight: &Sight, cell: usize, age: f64, price: f64) -> f64 {
        if (price - self.planned_price).abs() > PRICE_MOVES * self.planned_price {
            self.planned_price = price;
            self.forget_plans();
        }
        let expected = self.callbacks.filter(|_| sight.called_back);
        let (kind, stage) = (place_of_kind(sight.kind), place_of_stage(sight.stage));
        let of_kind = self.of_kind(sight.kind);
        let place = usize::from(expected.is_some());
        if of_kind.plans[stage][place].is_none() {
            let missed = expected.map_or(1.0, Callbacks::share_missed);
            let plan = Plan::new(&self.hazard(kind, stage), self.planned_price, missed);
            self.of_kind(sight.kind).plans[stage][place] = Some(plan);
        }
        let plan = self.kinds[kind].as_ref().and_then(|kind| kind.plans[stage][place].as_ref());
        plan.map_or(age, |plan| plan.next_age(cell, age))
    }

    /// What is known of a kind and stage, by their places.
    fn hazard(&self, kind: usize, stage: usize) -> Hazard {
        let mut all = Record::default();
        self.kinds.iter().flatten().for_each(|kind| all.add(&kind.sum(), 1.0));
        let broadest = all.hazard(&self.prior);
        match &self.kinds[kind] {
            None => broadest,
            Some(kind) => kind.of_stage(stage).hazard(&kind.sum().hazard(&broadest)),
        }
    }

    /// What the next process is to know.
    pub(super) fn learned(&self) -> Learned {
        let mut records = Vec::new();
        for (place, kind) in self.kinds.iter().enumerate() {
            let Some(kind) = kind else { continue };
            let (mode, generation_type) = kind_at(place);
            for (place, stage) in STAGES_IN_ORDER.into_iter().enumerate() {
                let record = kind.of_stage(place).kept();
                if !record.is_empty() {
                    records.push(KeptRecord { mode, generation_type, stage, record });
                }
            }
        }
        Learned { cells: ages::count(), records }
    }
}

const MODES: [Mode; 2] = [Mode::Quality, Mode::Fast];
const TYPES: [GenerationType; 3] = [GenerationType::Text, GenerationType::Frames, GenerationType::Reference];
const STAGES_IN_ORDER: [Stage; STAGES] = [Stage::Unnamed, Stage::Pending, Stage::Processing];

const fn place_of_kind(kind: Kind) -> usize {
    let mode = match kind.mode {
        Mode::Quality => 0,
        Mode::Fast => 1,
    };
    let generation_type = match kind.generation_type {
        GenerationType::Text => 0,
        GenerationType::Frames => 1,
        GenerationType::Reference => 2,
    };
    mode * TYPES.len() + generation_type
}

const fn kind_at(place: usize) -> (Mode, GenerationType) {
    (MODES[place / TYPES.len()], TYPES[place % TYPES.len()])
}

const fn place_of_stage(stage: Stage) -> usize {
    match stage {
        Stage::Unnamed => 0,
        Stage::Pending => 1,
        Stage::Processing => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Stamp;

    const TEXT: Kind = Kind { mode: Mode::Fast, generation_type: GenerationType::Text };
    const FRAMES: Kind = Kind { mode: Mode::Quality, generation_type: GenerationType::Frames };

    fn sight(kind: Kind, stage: Stage) -> Sight {
        let mut sight = Sight::accepted(kind, Stamp::BIRTH, false);
        sight.stage = stage;
        sight
    }

    /// So many tasks, which end at ages from `from` to ten seconds later.
    fn learn(learning: &mut Learning, kind: Kind, stage: Stage, from: f64, tasks: u32) {
        for task in 0..tasks {
            learning.ended(&sight(kind, stage), from + f64::from(task % 100) / 10.0);
        }
    }

    fn first_look(learning: &mut Learning, kind: Kind, stage: Stage) -> f64 {
        learning.next_age(&sight(kind, stage), 0, 0.0, 0.08)
    }

    #[test]
    fn kinds_are_kept_apart_and_strangers_lean_on_all() {
        let mut learning = Learning::new(false);
        assert!(first_look(&mut learning, TEXT, Stage::Unnamed) < 30.0, "a guess is made sure of");
        learn(&mut learning, TEXT, Stage::Unnamed, 40.0, 1_000);
        learn(&mut learning, FRAMES, Stage::Unnamed, 200.0, 1_000);
        // Half way through what they have never been seen to do.
        let text = first_look(&mut learning, TEXT, Stage::Unnamed);
        let frames = first_look(&mut learning, FRAMES, Stage::Unnamed);
        assert!((15.0..45.0).contains(&text) && frames > text, "{text} {frames}");
        let reference = Kind { generation_type: GenerationType::Reference, ..TEXT };
        let at = |learning: &mut Learning, kind, age: f64| {
            learning.next_age(&sight(kind, Stage::Unnamed), ages::cell(age), age, 0.08) - age
        };
        // At an age at which only one of the kinds ends.
        let (text, stranger, frames) = (
            at(&mut learning, TEXT, 42.0),
            at(&mut learning, reference, 42.0),
            at(&mut learning, FRAMES, 42.0),
        );
        assert!(text < stranger && stranger < frames, "{text} {stranger} {frames}");
    }

    #[test]
    fn stages_tell_more_where_they_do() {
        let mut learning = Learning::new(false);
        learn(&mut learning, TEXT, Stage::Pending, 150.0, 500);
        learn(&mut learning, TEXT, Stage::Processing, 60.0, 500);
        let at = |learning: &mut Learning, stage| {
            learning.next_age(&sight(TEXT, stage), ages::cell(62.0), 62.0, 0.08) - 62.0
        };
        let (pending, processing) = (at(&mut learning, Stage::Pending), at(&mut learning, Stage::Processing));
        assert!(processing * 3.0 < pending, "{pending} {processing}");
    }

    #[test]
    fn a_change_of_speed_is_learned_in_a_few_hundred_ends() {
        let mut learning = Learning::new(false);
        learn(&mut learning, TEXT, Stage::Unnamed, 115.0, 5_000);
        let at = |learning: &mut Learning| {
            learning.next_age(&sight(TEXT, Stage::Unnamed), ages::cell(45.0), 45.0, 0.08) - 45.0
        };
        let before = at(&mut learning);
        learn(&mut learning, TEXT, Stage::Unnamed, 42.0, 300);
        let after = at(&mut learning);
        assert!(after < 6.0 && after * 3.0 < before, "{before} {after}");
    }

    #[test]
    fn callbacks_that_come_make_looks_rare_and_those_that_do_not_bring_them_back() {
        let looks = |learning: &mut Learning| {
            let sight = Sight::accepted(TEXT, Stamp::BIRTH, true);
            let mut next = |age: &f64| {
                Some(learning.next_age(&sight, ages::cell(*age), *age, 0.1)).filter(|age| *age < 200.0)
            };
            std::iter::successors(next(&0.0), |age| next(age)).count()
        };
        let mut learning = Learning::new(true);
        let counts = [true, false].map(|come| {
            (0..2_000).for_each(|_| learning.called_back(come));
            learn(&mut learning, TEXT, Stage::Unnamed, 100.0, 1_000);
            looks(&mut learning)
        });
        assert!(counts[0] <= 2 && counts[1] >= 10, "{counts:?}");
    }

    #[test]
    fn the_next_process_knows_what_this_one_learned() {
        let mut learning = Learning::new(false);
        learn(&mut learning, TEXT, Stage::Processing, 40.0, 1_000);
        learn(&mut learning, FRAMES, Stage::Pending, 200.0, 50);
        let text = serde_json::to_string(&learning.learned()).unwrap();
        assert!(text.len() < 20_000, "{}", text.len());
        let mut next = Learning::new(false);
        next.recall(&serde_json::from_str(&text).unwrap());
        for (kind, stage) in [(TEXT, Stage::Processing), (FRAMES, Stage::Pending)] {
            let (one, other) = (first_look(&mut learning, kind, stage), first_look(&mut next, kind, stage));
            assert!((one / other - 1.0).abs() < 0.3, "{one} {other}");
        }
        // As of so many ends at most, so that a new speed is soon learned.
        let remembered: f64 = next.of_kind(TEXT).stages.iter().map(Record::total).sum();
        assert!((remembered - REMEMBERED).abs() < 1.0, "{remembered}");
        // Of another grid.
        let mut other: serde_json::Value = serde_json::from_str(&text).unwrap();
        other["cells"] = 7.into();
        let mut fresh = Learning::new(false);
        fresh.recall(&serde_json::from_value(other).unwrap());
        assert!(fresh.learned().records.is_empty());
    }
}
