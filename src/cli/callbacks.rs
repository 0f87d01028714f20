//! Callbacks: where the API calls, and where this process listens.
//!
//! An address that is not listened at is somebody else's, and is passed on as it is while tasks are
//! polled as ever.

use std::io::Write;
use std::net::SocketAddr;

use futures::StreamExt as _;

use super::UsageError;
use super::rehearsal::Peer;
use crate::batch::Batch;
use crate::callback::{Address, Addresses, Inbox, Receiver, Refusals};
use crate::engine::Callbacks;
use crate::report::Screen;
use crate::simulator::Simulator;
use crate::veo::ApiKey;

/// Options of callbacks.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Callbacks")]
pub struct CallbackArgs {
    /// Have the API call this https address when a task has ended. Without --callback-listen somebody
    /// else listens there, and tasks are polled as ever
    #[arg(long, value_name = "URL")]
    pub callback_url: Option<String>,
    /// Listen here for what is called at --callback-url, which a proxy or a tunnel leads here. Tasks are
    /// then polled for calls that get lost: the fewer do, the less
    #[arg(long, value_name = "ADDRESS:PORT", requires = "callback_url")]
    pub callback_listen: Option<SocketAddr>,
}

/// What listens, for as long as this is held, and what the engine needs of it.
#[derive(Debug, Default)]
pub struct Called {
    /// For the engine, if anybody is called.
    pub callbacks: Option<Callbacks>,
    /// Nobody, if somebody else listens.
    pub receiver: Option<Receiver>,
}

impl CallbackArgs {
    /// The address that tasks made by `peer` call, if any.
    ///
    /// # Errors
    ///
    /// It is not one that the API could call safely.
    pub fn address(&self, peer: Peer) -> Result<Option<Address>, UsageError> {
        let Some(text) = &self.callback_url else { return Ok(None) };
        let address: Address =
            text.parse().map_err(|error| UsageError(format!("--callback-url: {error}")))?;
        if address.is_plain() && peer == Peer::Remote {
            return Err(UsageError(format!(
                "--callback-url: the API is not on this machine, and {} is: give an https address that a proxy or a \
                 tunnel leads to --callback-listen",
                address.host()
            )));
        }
        Ok(Some(address))
    }

    /// Listens, if that is asked for, for what `batch` has given and gives addresses to.
    ///
    /// # Errors
    ///
    /// The address cannot be listened at, or the state file fails.
    pub fn open(
        &self,
        address: Address,
        batch: &Batch,
        key: &ApiKey,
        screen: &Screen,
    ) -> anyhow::Result<Called> {
        let Some(listen) = self.callback_listen else {
            let (addresses, refusals) = (Addresses::elsewhere(address), Refusals::default());
            let callbacks = Some(Callbacks { addresses, arrivals: None, refusals });
            return Ok(Called { callbacks, receiver: None });
        };
        let (addresses, inbox) = correspondence(address, batch)?;
        let inbox = inbox.hiding(key.clone());
        let refusals = Refusals::default();
        let (receiver, arrivals) = Receiver::listen(listen, inbox, refusals.clone()).map_err(|error| {
            UsageError(format!(
                "--callback-listen {listen}: {error}. Nothing was bought. Is another run listening there? Give each a \
                 port of its own."
            ))
        })?;
        if listen.port() == 0 {
            writeln!(screen.notes(), "Listening for callbacks at http://{}.", receiver.address())?;
        }
        let callbacks = Some(Callbacks { addresses, arrivals: Some(arrivals), refusals });
        Ok(Called { callbacks, receiver: Some(receiver) })
    }
}

impl CallbackArgs {
    /// The same in a rehearsal, where nothing listens: the `simulator` hands over in memory what it would
    /// send. Where somebody else listens, nobody is called.
    ///
    /// # Errors
    ///
    /// When the state file fails.
    pub fn rehearse(
        &self,
        address: Address,
        batch: &Batch,
        simulator: &Simulator,
    ) -> anyhow::Result<Option<Callbacks>> {
        if self.callback_listen.is_none() {
            return Ok(None);
        }
        let (addresses, inbox) = correspondence(address, batch)?;
        let refusals = Refusals::default();
        let arrivals = Some(simulator.arrivals(inbox, refusals.clone()).boxed());
        Ok(Some(Callbacks { addresses, arrivals, refusals }))
    }
}

/// The addresses of a state file, and the inbox that knows them again.
fn correspondence(address: Address, batch: &Batch) -> anyhow::Result<(Addresses, Inbox)> {
    let signer = batch.store().callback_signer()?;
    let inbox = Inbox::with_moved(signer.clone(), batch.store().moved_samples()?);
    Ok((Addresses::signed(address, signer), inbox))
}
