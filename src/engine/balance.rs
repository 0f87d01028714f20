//! What the account has left, before a run and after it.

use std::time::Duration;

use super::{Engine, in_time};
use crate::api::{Balance, VideoApi};
use crate::clock::Clock;
use crate::event::{EventSink, RunEvent};
use crate::job::Usd;
use crate::schedule::Halt;
use crate::schedule::gate::{Admission, Gate};
use crate::schedule::retry::FullJitter;

/// Looks at the balance before a run gives up on a service that does not answer.
const BALANCE_LOOKS: u32 = 4;

/// Longest wait for the permit of the last look at the balance: nobody should wait for the end of a
/// pause when the run is over.
const CLOSING_WAIT: Duration = Duration::from_secs(5);

/// The first request of a run: the balance, through the gate, asked again a few times if the
/// service does not answer. Nothing is bought before it is known that the key is good.
pub async fn first_balance<A: VideoApi>(api: &A, gate: &mut Gate, clock: &Clock, seed: u64) -> Balance {
    let mut waits = FullJitter::for_everyone(seed);
    let mut looks = 0;
    loop {
        wait_for_permit(gate, clock).await;
        let balance = in_time(clock, api.balance()).await;
        looks += 1;
        if !matches!(balance, Balance::Unclear(_)) || looks == BALANCE_LOOKS {
            return balance;
        }
        in_time(clock, clock.sleep(waits.next_wait())).await;
    }
}

async fn wait_for_permit(gate: &mut Gate, clock: &Clock) {
    while let Admission::NotBefore(at) = gate.admit(clock.now()) {
        in_time(clock, clock.sleep_until(at)).await;
    }
}

impl<A: VideoApi, S: EventSink> Engine<'_, A, S> {
    /// Asks once what the account has left, so that what was bought can be compared with it. Not where
    /// nothing was bought, nor where somebody waits for the end or the key is no longer good.
    pub(super) async fn ask_closing_balance(&mut self) {
        let pointless =
            matches!(self.schedule.halt(), Some(Halt::Interrupted | Halt::KeyRefused(_) | Halt::Outage(_)));
        let now = self.clock.now();
        if pointless || self.books.progress(&self.schedule, now).spent_now == Usd::ZERO {
            return;
        }
        while let Admission::NotBefore(at) = self.schedule.admit(self.clock.now()) {
            if at.since(now) > CLOSING_WAIT {
                return;
            }
            in_time(&self.clock, self.clock.sleep_until(at)).await;
        }
        self.books.request(self.clock.now());
        if let Balance::Left(Some(left)) = in_time(&self.clock, self.api.balance()).await {
            self.tell(&RunEvent::Balance(left));
        }
    }
}
