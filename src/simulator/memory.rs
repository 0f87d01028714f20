//! The simulator as a [`VideoApi`], without a network.
//!
//! Requests are encoded and answers decoded by the client's own code, so that a rehearsal exercises
//! the wire; only the socket is missing. What a socket does to an answer (none, half of one, one that
//! comes too late) is told by the client's own table of silences, and the client's time-outs pass on
//! the simulation's clock. A future that is dropped while it waits for its answer has reached the
//! model all the same, as a request has that was sent.

use std::time::Duration;

use super::{Answer, Caller, Delivery, Model, Simulator};
use crate::api::{Balance, CallbackUrl, Polled, Submitted, VideoApi};
use crate::generation::Generation;
use crate::job::{Stamp, TaskId};
use crate::veo::{self, Reply, Silence};

impl Simulator {
    /// What a client with this `timeout` gets for its request, when it does.
    async fn exchange(
        &self,
        timeout: Duration,
        request: impl FnOnce(&mut Model, Stamp) -> Answer,
    ) -> Result<Reply, (Silence, String)> {
        let (Answer { delivery, latency }, arrived) = self.ask(request);
        let timeout = match delivery {
            Delivery::Unconnected => self.timeouts.connect,
            Delivery::Whole(_) | Delivery::Half(_) | Delivery::Dropped => timeout,
        };
        self.clock.sleep_until(arrived + latency.min(timeout)).await;
        let silent = |silence, what: &str| Err((silence, format!("{what} (simulated)")));
        match delivery {
            Delivery::Unconnected => silent(Silence::NoConnection, "no connection"),
            Delivery::Whole(_) | Delivery::Half(_) | Delivery::Dropped if latency >= timeout => {
                silent(Silence::TimedOut, &format!("no answer within {} s", timeout.as_secs_f64()))
            }
            Delivery::Whole(reply) => Ok(reply),
            Delivery::Half(mut reply) => {
                if let Some(silence) = Silence::of_half_an_answer(reply.status) {
                    return silent(silence, "no answer: the connection broke in the middle of it");
                }
                reply.body.truncate(reply.body.len() / 2);
                Ok(reply)
            }
            Delivery::Dropped => silent(Silence::Broken, "no answer: the connection broke"),
        }
    }
}

impl VideoApi for Simulator {
    async fn submit(&self, generation: Generation, callback: Option<CallbackUrl>) -> Submitted {
        let body = veo::encode_submission(&generation, callback.as_ref());
        let ask = |model: &mut Model, now| model.generate(Caller::InProcess, &body, now);
        match self.exchange(self.timeouts.submit, ask).await {
            Ok(reply) => veo::read_submission(&reply),
            Err((silence, detail)) => silence.submission(&detail),
        }
    }

    async fn status(&self, task: TaskId) -> Polled {
        let ask = |model: &mut Model, now| model.status(Caller::InProcess, Some(task.as_str()), now);
        match self.exchange(self.timeouts.status, ask).await {
            Ok(reply) => veo::read_status(&reply),
            Err((silence, detail)) => silence.look(&detail),
        }
    }

    async fn balance(&self) -> Balance {
        match self.exchange(self.timeouts.balance, |model, now| model.balance(Caller::InProcess, now)).await {
            Ok(reply) => veo::read_balance(&reply),
            Err((silence, detail)) => silence.balance(&detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::generation::{AspectRatio, Draft, GenerationType, Mode};
    use crate::job::{Stamp, UnixMillis, Usd};
    use crate::simulator::{Ledger, LedgerError, Settings, request_hash};

    fn simulator() -> (Simulator, Clock) {
        let clock = Clock::virtual_from(Stamp::BIRTH);
        let ledger = Ledger::temporary().unwrap();
        let simulator =
            Simulator::new(Settings::default(), ledger, clock.clone(), UnixMillis(1_000)).unwrap();
        (simulator, clock)
    }

    /// What `future` comes to, with virtual time moving while it waits.
    async fn run<T>(clock: &Clock, future: impl Future<Output = T>) -> T {
        tokio::pin!(future);
        loop {
            tokio::select! {
                biased;
                answer = &mut future => return answer,
                () = clock.advance(None) => {}
            }
        }
    }

    fn generations() -> Vec<Generation> {
        let urls = ["https://a.example/1.png", "https://a.example/2.png"].map(str::to_owned);
        let draft = |generation_type, images: &[String]| Draft {
            prompt: "a \"cat\"\n\u{1f408}".into(),
            generation_type,
            mode: Mode::Fast,
            aspect_ratio: AspectRatio::Landscape,
            image_urls: images.to_vec(),
            seed: Some(7),
            watermark: Some("me".into()),
            provider: None,
        };
        [(GenerationType::Text, 0), (GenerationType::Frames, 2), (GenerationType::Reference, 2)]
            .into_iter()
            .map(|(generation_type, images)| draft(generation_type, &urls[..images]).check().unwrap())
            .collect()
    }

    #[tokio::test]
    async fn what_the_client_encodes_is_accepted_and_known_by_its_hash() {
        let (simulator, clock) = simulator();
        for generation in generations() {
            let Submitted::Accepted(task) = run(&clock, simulator.submit(generation, None)).await else {
                panic!("not accepted")
            };
            let look = run(&clock, simulator.status(task.clone())).await;
            assert!(matches!(look, Polled::Alive(_)), "{look:?}");
            run(&clock, clock.sleep(Duration::from_mins(10))).await;
            let Polled::Succeeded(video) = run(&clock, simulator.status(task)).await else {
                panic!("not made")
            };
            assert_eq!(video.urls.len(), 1);
            assert!(video.created < video.completed);
        }
        let wanted = generations();
        simulator
            .expect(|asked| wanted.iter().try_for_each(|generation| asked.add(request_hash(generation))))
            .unwrap_or_else(|error: LedgerError| panic!("{error}"));
        let verdict = simulator.verdict().unwrap();
        assert_eq!((verdict.accepted, verdict.bought_twice, verdict.held), (3, 0, true));
        let lines = simulator.lock().ledger().lines(None, 9).unwrap();
        assert!(lines.iter().all(|line| line.asked == Some(1)), "both ways of hashing agree");
        let left = Usd::from_cents(1_000_000 - 60);
        assert_eq!(run(&clock, simulator.balance()).await, Balance::Left(Some(left)));
    }

    #[tokio::test]
    async fn an_answer_given_up_on_was_a_purchase_all_the_same() {
        let (simulator, _clock) = simulator();
        let generation = generations().remove(0);
        {
            let submission = simulator.submit(generation, None);
            tokio::pin!(submission);
            assert!(futures::poll!(&mut submission).is_pending());
        }
        assert_eq!(simulator.verdict().unwrap().accepted, 1);
    }
}
