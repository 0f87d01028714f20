//! What has been learned of how long tasks take, and the plans that follow from it.
//!
//! One record for all tasks, one for each kind of video, one for each kind and stage; the narrower
//! lean on the broader. A plan is made when it is first asked for after the price or the records have
//! changed by something that matters.

use serde::{Deserialize, Serialize};

use super::ages;
use super::hazard::{Hazard, Record, prior};
use super::inspection::Plan;
use super::lookout::Sight;
use crate::api::Stage;
use crate::generation::{GenerationType, Kind, Mode};

/// Kinds there are, and stages.
const KINDS: usize = 6;
const STAGES: usize = 3;
const NO_PLANS: [[Option<Plan>; 2]; STAGES] = [const { [const { None }; 2] }; STAGES];
/// Ends after which plans are made anew: a few hundredths of what is remembered.
const NEWS: u32 = 50;
/// As few make plans anew in the beginning: a part of all that have been seen.
const NEWS_PART: u32 = 10;
/// A change of the price that makes plans anew.
const PRICE_MOVES: f64 = 0.04;
/// What an earlier process learned counts as so many ends at most.
const REMEMBERED: f64 = 500.0;
/// Ends without a callback, of so many ends, that are guessed before any is seen.
const MISSED_AT_FIRST: (f64, f64) = (1.0, 20.0);
/// After so many more ends, what callbacks have done counts half.
const MISSED_MEMORY: f64 = 500.0;

/// What a process has learned, to be kept for the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// Cells of the grid of ages that it speaks of: another grid's are worth nothing.
    cells: usize,
    records: Vec<Kept>,
}

/// One record: of all tasks, of a kind, or of a kind and stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<(Mode, GenerationType)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<Stage>,
    /// Cell, ends, seconds lived.
    record: Vec<(usize, f64, f64)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Learning {
    prior: Hazard,
    all: Record,
    kinds: [Option<Box<OfKind>>; KINDS],
    ends: u32,
    news: u32,
    planned_price: f64,
    callbacks: Option<Callbacks>,
}

/// What is known of one kind of video.
#[derive(Debug)]
struct OfKind {
    record: Record,
    stages: [Record; STAGES],
    /// By stage, and without and with a callback to come.
    plans: [[Option<Plan>; 2]; STAGES],
}

/// Of ends while callbacks were expected: those that a look told of long after, and all.
#[derive(Debug, Clone, Copy)]
struct Callbacks {
    missed: f64,
    all: f64,
}

impl Default for OfKind {
    fn default() -> Self {
        let records = || std::array::from_fn(|_| Record::default());
        Self { record: Record::default(), stages: records(), plans: NO_PLANS }
    }
}

impl Learning {
    pub(super) fn new(called_back: bool, learned: Option<&Learned>) -> Self {
        let (missed, all) = MISSED_AT_FIRST;
        let mut learning = Self {
            prior: prior(),
            all: Record::default(),
            kinds: [const { None }; KINDS],
            ends: 0,
            news: 0,
            planned_price: 0.0,
            callbacks: called_back.then_some(Callbacks { missed, all }),
        };
        for kept in learned.filter(|learned| learned.cells == ages::count()).map_or(&[][..], |l| &l.records) {
            let record = Record::revived(&kept.record, REMEMBERED);
            let Some((mode, generation_type)) = kept.kind else {
                learning.all = record;
                continue;
            };
            let kind = learning.of_kind(Kind { mode, generation_type });
            match kept.stage {
                None => kind.record = record,
                Some(stage) => kind.stages[place_of_stage(stage)] = record,
            }
        }
        learning
    }

    fn of_kind(&mut self, kind: Kind) -> &mut OfKind {
        self.kinds[place_of_kind(kind)].get_or_insert_default()
    }

    /// A task that was in this stage at age `from` was alive at age `to`, in seconds.
    pub(super) fn lived(&mut self, sight: &Sight, from: f64, to: f64) {
        self.all.lived(from, to);
        let of_kind = self.of_kind(sight.kind);
        of_kind.record.lived(from, to);
        of_kind.stages[place_of_stage(sight.stage)].lived(from, to);
    }

    /// A task that was in this stage when it was last seen alive ended at `age`, in seconds.
    pub(super) fn ended(&mut self, sight: &Sight, age: f64) {
        self.all.ended(age);
        let of_kind = self.of_kind(sight.kind);
        of_kind.record.ended(age);
        of_kind.stages[place_of_stage(sight.stage)].ended(age);
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

    /// At which age to look next at a task that was alive at `age`, both in seconds, when a look costs
    /// `price`.
    pub(super) fn next_age(&mut self, sight: &Sight, age: f64, price: f64) -> f64 {
        if (price / self.planned_price).ln().abs() > PRICE_MOVES || self.planned_price <= 0.0 {
            self.planned_price = price;
            self.forget_plans();
        }
        let expected = self.callbacks.filter(|_| sight.called_back);
        let missed = expected.map_or(1.0, |callbacks| callbacks.missed / callbacks.all);
        let Self { prior, all, kinds, planned_price, .. } = self;
        let of_kind = kinds[place_of_kind(sight.kind)].get_or_insert_default();
        let stage = place_of_stage(sight.stage);
        let OfKind { record, stages, plans } = &mut **of_kind;
        let plan = plans[stage][usize::from(expected.is_some())].get_or_insert_with(|| {
            let hazard = stages[stage].hazard(&record.hazard(&all.hazard(prior)));
            Plan::new(&hazard, *planned_price, missed)
        });
        plan.next_age(age)
    }

    /// What the next process is to know.
    pub(super) fn learned(&self) -> Learned {
        let mut records = vec![Kept { kind: None, stage: None, record: self.all.kept() }];
        for (place, of_kind) in self.kinds.iter().enumerate() {
            let Some(of_kind) = of_kind else { continue };
            let kind = Some(kind_at(place));
            records.push(Kept { kind, stage: None, record: of_kind.record.kept() });
            let stages = STAGES_IN_ORDER.iter().zip(&of_kind.stages);
            records.extend(stages.map(|(stage, record)| Kept {
                kind,
                stage: Some(*stage),
                record: record.kept(),
            }));
        }
        records.retain(|kept| !kept.record.is_empty());
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
