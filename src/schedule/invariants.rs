//! What must hold after every step, in one place.

use super::{Phase, Schedule};
use crate::job::Usd;

impl Schedule {
    /// Panics, in debug builds, where the core's books do not agree with its samples.
    ///
    /// The full count is linear in the samples in flight, so that it runs only for small numbers of
    /// them; the sums that cost nothing are checked always.
    pub(super) fn check_invariants(&self) {
        const FEW: usize = 64;
        if !cfg!(debug_assertions) {
            return;
        }
        let capacity = self.config.limits.concurrent_tasks.get();
        // More than the capacity only where an earlier process left more, and then nothing is lent.
        assert!(
            self.held + self.lent <= capacity || self.lent == 0,
            "{} held, {} lent",
            self.held,
            self.lent
        );
        self.links.check_invariants();
        assert!(self.next_deadline <= self.first_deadline(), "a deadline that is not waited for");
        if self.samples.len() > FEW {
            return;
        }
        let count = |wanted: fn(&Phase) -> bool| {
            u32::try_from(self.samples.values().filter(|sample| wanted(&sample.phase)).count())
                .unwrap_or(u32::MAX)
        };
        let held = u32::try_from(self.samples.values().filter(|sample| sample.holds_slot).count())
            .unwrap_or(u32::MAX);
        assert_eq!(self.held, held, "slots held");
        assert_eq!(self.submitting, count(|phase| matches!(phase, Phase::Submitting { .. })), "submitting");
        assert_eq!(self.running, count(|phase| matches!(phase, Phase::Running(_))), "running");
        assert_eq!(self.backing_off, count(|phase| matches!(phase, Phase::BackingOff)), "backing off");
        let doubts = count(|phase| matches!(phase, Phase::InDoubt { .. }));
        assert_eq!(self.doubts.len(), doubts as usize, "in doubt");
        let without_slot =
            |sample: &&super::Sample| !sample.holds_slot && matches!(sample.phase, Phase::Running(_));
        let without_slot = self.samples.values().filter(without_slot).count();
        assert_eq!(self.running_without_slot as usize, without_slot, "running without a slot");
        let early = self.early.keys().all(|id| {
            matches!(self.samples.get(id), Some(super::Sample { phase: Phase::Submitting { .. }, .. }))
        });
        assert!(early, "a callback waits for an answer that is not to come");
        let reserved =
            self.samples.values().filter(|sample| matches!(sample.phase, Phase::Submitting { .. }));
        let reserved = reserved.fold(Usd::ZERO, |sum, sample| sum + sample.price);
        assert_eq!(self.reserved, reserved, "reserved for what is unanswered");
        if let Some(most) = self.config.max_cost {
            assert!(
                self.reserved == Usd::ZERO || self.spent + self.reserved <= most + self.unforeseen,
                "more than may be spent"
            );
        }
        let ready = self.ready.len() + self.slotless.len();
        assert_eq!(ready, count(|phase| matches!(phase, Phase::Ready)) as usize, "ready");
        let slot_of = |id| self.samples.get(id).map(|sample| sample.holds_slot);
        assert!(self.ready.iter().all(|id| slot_of(id) == Some(true)), "a submission without a slot");
        assert!(self.slotless.iter().all(|id| slot_of(id) == Some(false)), "a slot that nobody uses");
        let submitting_without_slot = self.samples.values().any(|sample| {
            !sample.holds_slot && matches!(sample.phase, Phase::Submitting { .. } | Phase::InDoubt { .. })
        });
        assert!(!submitting_without_slot, "a task that could be alive does not count");
    }
}
