//! Callbacks: the API tells that a task has ended, so that nobody has to ask.
//!
//! Owns the address that each attempt gives the API ([`Addresses`]), what a request to it says
//! ([`Inbox`]), and the value that goes on to the engine ([`Arrival`]). The vendor signs nothing, so
//! the address does: it carries the sample, the attempt and an HMAC of both under a secret of the state
//! file, and a request to any other address is turned away before its body is read. What an arrival
//! means for its sample is the core's to say.

mod address;
mod inbox;
mod receiver;

pub use address::{Address, AddressError, Addresses, LONGEST_URL, Signer};
pub use inbox::{Arrival, Inbox, Receipt, Refusals, TurnedAway};
pub use receiver::Receiver;
