//! Many images, each looked at once, as fast as manners allow.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use reqwest::Url;

use super::manners::{Manners, Next};
use super::{Flaw, Look, Seen, look};
use crate::clock::Clock;
use crate::hosts::Client;

/// Looks at every image that `next` brings, by its address, and tells `found` of each what it is, in the
/// order in which that is known. With `hurried` hosts are given no time between calls.
///
/// Of images, some thousand are in memory at a time.
///
/// # Errors
///
/// The first of `next` or `found`.
pub async fn survey<T, E>(
    client: &Client,
    clock: &Clock,
    hurried: bool,
    mut next: impl FnMut() -> Result<Option<(String, T)>, E>,
    mut found: impl FnMut(T, Result<Seen, Flaw>) -> Result<(), E>,
) -> Result<(), E> {
    let mut manners = Manners::new(hurried);
    let mut looks = FuturesUnordered::new();
    let mut ended = false;
    loop {
        while !ended && manners.has_room() {
            match next()? {
                Some((address, item)) => {
                    let host = host_of(&address);
                    manners.add((address, item), host);
                }
                None => ended = true,
            }
        }
        let wake = loop {
            match manners.next(clock.now()) {
                Next::Look(job) => looks.push(async move {
                    let seen = look(client, &job.item.0).await;
                    (job, seen)
                }),
                Next::NotBefore(wake) => break Some(wake),
                Next::Nothing => break None,
            }
        };
        if ended && manners.is_idle() {
            return Ok(());
        }
        let woken = async {
            match wake {
                Some(wake) => clock.sleep_until(wake).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((job, seen)) = looks.next() => {
                let now = clock.now();
                match seen {
                    Look::Sound(seen) => {
                        manners.done(&job.host, now);
                        found(job.item.1, Ok(seen))?;
                    }
                    Look::Flawed(flaw) => {
                        manners.done(&job.host, now);
                        found(job.item.1, Err(flaw))?;
                    }
                    Look::Unclear(flaw, wait) => {
                        if let Some(job) = manners.again(job, wait, now) {
                            found(job.item.1, Err(flaw))?;
                        }
                    }
                }
            }
            () = woken => {}
        }
    }
}

/// Who is called, as far as manners are concerned.
fn host_of(address: &str) -> String {
    let url = Url::parse(address).ok();
    url.and_then(|url| Some(url.host_str()?.to_owned())).unwrap_or_default()
}
