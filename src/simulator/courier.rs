//! Callbacks in memory: to the client's own inbox, without a network.
//!
//! The address is checked and the body read by the client's own code, so that a rehearsal exercises
//! both; only the socket is missing, and the receiver's wait for the disk is that of the receipt.

use std::future::Future;
use std::pin::Pin;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt, stream};

use super::{CALLBACK_PATIENCE, Callback, CallbackAnswer, Simulator};
use crate::callback::{Arrival, Inbox, Receipt, Refusals, TurnedAway};
use crate::job::Stamp;

impl Simulator {
    /// What the callbacks of tasks accepted from here on say to `inbox`, in memory and on the simulation's
    /// clock. An attempt is acknowledged as a receiver over HTTP would: when its receipt is settled. It
    /// has to be polled on for that, and never ends. Those turned away are counted in `refusals`.
    pub fn arrivals(&self, inbox: Inbox, refusals: Refusals) -> impl Stream<Item = Arrival> + Send + use<> {
        let courier = Courier { simulator: self.clone(), inbox, refusals, waiting: FuturesUnordered::new() };
        stream::unfold((courier, Box::pin(self.callbacks())), |(mut courier, mut due)| async move {
            loop {
                tokio::select! {
                    biased;
                    Some((callback, sent, settled)) = courier.waiting.next() => {
                        courier.settled(callback, sent, settled);
                    }
                    Some(callback) = due.next() => {
                        if let Some(arrival) = courier.deliver(callback) {
                            return Some((arrival, (courier, due)));
                        }
                    }
                }
            }
        })
    }
}

/// An attempt, when it was made, and whether it was taken.
type Waiting = Pin<Box<dyn Future<Output = (Callback, Stamp, bool)> + Send>>;

/// Brings callbacks in memory.
struct Courier {
    simulator: Simulator,
    inbox: Inbox,
    refusals: Refusals,
    /// Attempts whose receipt is not settled.
    waiting: FuturesUnordered<Waiting>,
}

impl Courier {
    /// What a callback says, unless it is turned away.
    fn deliver(&self, callback: Callback) -> Option<Arrival> {
        match self.inbox.read(callback.url(), &callback.body) {
            Ok(arrival) => {
                let (receipt, settled) = Receipt::new();
                let sent = self.simulator.clock.now();
                self.waiting.push(Box::pin(async move { (callback, sent, settled.await.is_ok()) }));
                Some(Arrival { receipt, ..arrival })
            }
            Err(turned_away) => {
                self.refusals.add();
                let status = match turned_away {
                    TurnedAway::Forged => 404,
                    TurnedAway::Gone => 200,
                };
                self.simulator.called_back(callback, CallbackAnswer::Status(status));
                None
            }
        }
    }

    fn settled(&self, callback: Callback, sent: Stamp, taken: bool) {
        let in_time = self.simulator.clock.now().since(sent) <= CALLBACK_PATIENCE;
        let answer = match (in_time, taken) {
            (false, _) => CallbackAnswer::Nothing,
            (true, true) => CallbackAnswer::Status(200),
            (true, false) => CallbackAnswer::Status(503),
        };
        self.simulator.called_back(callback, answer);
    }
}
