//! The engine's side of events: who listens is told, with how the run stands, and what lasts is told once,
//! when it begins.

use super::Engine;
use crate::api::VideoApi;
use crate::event::{EventSink, Progress, RunEvent};
use crate::job::Stamp;
use crate::schedule::{Halt, Schedule};

/// What was told of that which lasts.
#[derive(Debug)]
pub(super) struct News {
    pause: Option<Stamp>,
    allowed: (u32, u32),
    halt: Option<Halt>,
    awaited: bool,
}

impl News {
    /// Nothing was told yet; what is allowed at the start is known.
    pub(super) fn new(schedule: &Schedule) -> Self {
        Self { pause: None, allowed: schedule.allowed(), halt: None, awaited: false }
    }
}

impl<A: VideoApi, S: EventSink> Engine<'_, A, S> {
    /// Tells a pause, what is allowed, a halt, and that doubts are waited for, once each, when they begin.
    pub(super) fn tell_news(&mut self) {
        let pause = self.schedule.pause(self.clock.now()).map(|(until, failure)| (until, failure.clone()));
        if let Some((until, failure)) = pause
            && self.news.pause != Some(until)
        {
            self.news.pause = Some(until);
            self.tell(&RunEvent::Paused { until, failure: &failure });
        }
        let allowed = self.schedule.allowed();
        if self.news.allowed != allowed {
            self.news.allowed = allowed;
            let (requests_per_minute, concurrent_tasks) = allowed;
            self.tell(&RunEvent::Allowed { requests_per_minute, concurrent_tasks });
        }
        let halt = self.schedule.halt();
        if self.news.halt.as_ref() != halt
            && let Some(halt) = halt.cloned()
        {
            self.news.halt = Some(halt.clone());
            self.tell(&RunEvent::BuyingStopped(&halt));
        }
        if let Some(awaited) = self.schedule.awaited_doubts()
            && !std::mem::replace(&mut self.news.awaited, true)
        {
            self.tell(&RunEvent::DoubtsAwaited(awaited));
        }
    }

    /// How the run stands.
    pub(super) fn progress(&mut self) -> Progress {
        let callbacks = self.ear.standing();
        Progress { callbacks, ..self.books.progress(&self.schedule, self.clock.now()) }
    }

    pub(super) fn tell(&mut self, event: &RunEvent<'_>) {
        let progress = self.progress();
        self.sink.notice(event, &progress);
    }
}
