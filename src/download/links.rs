//! A dead link is asked for again, by the state of the task that made the video.
//!
//! Through the engine, whose gate lets the question pass when nothing that buys or watches wants to;
//! never past it.

use tokio::sync::oneshot;

use super::desk::{Desk, Stopped};
use crate::api::Polled;
use crate::engine::FromDownloads;
use crate::job::{SampleId, TaskId};

/// Whether dead links can be asked for again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asking {
    /// Through the engine.
    ThroughTheEngine,
    /// Not, for this reason.
    No(String),
}

/// What came of asking.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The task's links as the API names them now.
    Links(Vec<String>),
    /// The API may name them later.
    Later(String),
    /// There is no link to be had.
    No(String),
}

/// Asks the API once for the links of `task`.
pub(super) async fn ask(desk: &Desk, sample: SampleId, task: &TaskId) -> Result<Asked, Stopped> {
    if let Asking::No(why) = &desk.asking {
        return Ok(Asked::No(why.clone()));
    }
    let (answer, answered) = oneshot::channel();
    desk.say(FromDownloads::LinkWanted { sample, task: task.clone(), answer }).await?;
    let answer = desk.unless_stopped(answered).await?;
    Ok(match answer {
        Ok(Polled::Succeeded(video)) if !video.urls.is_empty() => Asked::Links(video.urls),
        Ok(Polled::Succeeded(_) | Polled::SucceededWithoutUrl | Polled::Alive(_)) => {
            Asked::Later("the API names no link".to_owned())
        }
        Ok(Polled::NotFound(failure)) => Asked::No(format!("the API no longer knows the task ({failure})")),
        Ok(Polled::Failed(failed)) => Asked::No(format!("the API now says it failed ({})", failed.failure)),
        Ok(Polled::KeyRefused(failure)) => Asked::No(format!("the API refuses the key ({failure})")),
        Ok(Polled::NotAnswered(refusal)) => {
            Asked::Later(format!("the API does not say ({})", refusal.failure))
        }
        Ok(Polled::Unclear(failure)) => Asked::Later(format!("the API does not say ({failure})")),
        Err(_) => Asked::No("the API is no longer asked".to_owned()),
    })
}
