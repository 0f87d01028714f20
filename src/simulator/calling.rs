//! Callbacks on their way: as a stream of those due, and over HTTP.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, Url};

use super::{CALLBACK_PATIENCE, Callback, CallbackAnswer, NextCallback, Simulator};
use crate::hosts::{Client, HostRefused, Patience};

/// Callbacks sent at once. As many tasks may end in a moment as live at once, and a receiver that hangs
/// would otherwise have a connection for each.
const CALLED_AT_ONCE: usize = 256;

/// Longest answer read, so that its connection can be used again; nothing in it is wanted.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Longest wait for a connection, in real time.
const CONNECT: Duration = Duration::from_secs(10);

impl Simulator {
    /// The callbacks of tasks accepted from here on, each when it is due; never ends. Whoever takes one
    /// makes the attempt and says what came of it to [`Simulator::called_back`]. One stream at a time.
    pub fn callbacks(&self) -> impl Stream<Item = Callback> + Send + use<> {
        self.lock().take_callbacks();
        stream::unfold(self.clone(), |simulator| async move {
            loop {
                let next = {
                    let mut model = simulator.lock();
                    let now = simulator.clock.now();
                    model.next_callback(now)
                };
                match next {
                    NextCallback::Send(callback) => return Some((callback, simulator)),
                    NextCallback::At(at) => tokio::select! {
                        biased;
                        () = simulator.news.notified() => {}
                        () = simulator.clock.sleep_until(at) => {}
                    },
                    NextCallback::Nothing => simulator.news.notified().await,
                }
            }
        })
    }

    /// Takes note of what came of an attempt.
    pub fn called_back(&self, callback: Callback, answer: CallbackAnswer) {
        self.ask(|model, now| model.called_back(callback, answer, now));
    }

    /// Sends callbacks over HTTP for as long as it is polled. The vendor's patience is a time-out of
    /// HTTP, and so it is real; the waits before the next attempt are of the simulation's clock.
    pub(super) async fn call_back(&self) -> reqwest::Result<()> {
        let client = self.called.messenger(Patience { connect: CONNECT, silence: CALLBACK_PATIENCE })?;
        let send = |callback| async {
            let answer = post(&client, &callback).await;
            self.called_back(callback, answer);
        };
        self.callbacks().for_each_concurrent(CALLED_AT_ONCE, send).await;
        Ok(())
    }
}

async fn post(client: &Client, callback: &Callback) -> CallbackAnswer {
    let url = callback.url();
    let request = match url.parse::<Url>().map(|url| client.post(url)) {
        Ok(Ok(request)) => request,
        Ok(Err(refused)) => return not_called(&refused.to_string()),
        Err(error) => return not_called(&error.to_string()),
    };
    let request = request.header(CONTENT_TYPE, "application/json").body(callback.body.clone());
    match request.timeout(CALLBACK_PATIENCE).send().await {
        Ok(response) => {
            let status = response.status().as_u16();
            read_off(response).await;
            CallbackAnswer::Status(status)
        }
        Err(error) => match HostRefused::within(&error) {
            Some(refused) => not_called(&refused.to_string()),
            None => CallbackAnswer::Nothing,
        },
    }
}

/// The address itself is not told: what it carries is a secret of whoever gave it.
fn not_called(why: &str) -> CallbackAnswer {
    tracing::warn!("a callback is not sent without --call-any-host: {why}");
    CallbackAnswer::NotCalled
}

async fn read_off(mut response: Response) {
    let mut room = LONGEST_ANSWER;
    while let Ok(Some(piece)) = response.chunk().await {
        match room.checked_sub(piece.len()) {
            Some(left) => room = left,
            None => return,
        }
    }
}
