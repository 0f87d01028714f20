//! What goes into the core and what comes out of it.
//!
//! Plain values, no behaviour: [`Event`]s tell the core what happened, [`Action`]s tell the shell
//! what to do, and [`Change`]s say what must be durable. A [`Change`] is also what the state file
//! replays and what every reader of a run is told, so that there is one story.

use crate::api::{Balance, Polled, Submitted};
use crate::generation::Kind;
use crate::job::{Attempt, Failure, Outcome, SampleId, Stamp, TaskId, Usd};

/// A sample that is ready to be submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub sample: SampleId,
    /// What kind of video it asks for.
    pub kind: Kind,
    /// Submissions so far that were accepted or are in doubt.
    pub attempts: u32,
    /// How many of those were made because the task before failed transiently.
    pub paid_retries: u32,
    /// What one submission costs.
    pub price: Usd,
    /// Not to be submitted before this.
    pub not_before: Stamp,
}

/// An unfinished sample as an earlier process left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The sample.
    pub entry: Entry,
    /// How it stood.
    pub stored: Stored,
}

/// How an unfinished sample stood in the state file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// An intent without an answer: in doubt from now on.
    Submitting {
        /// When the intent was made.
        since: Stamp,
    },
    /// A task to go on watching.
    Running {
        /// Its name.
        task: TaskId,
        /// When it was accepted.
        accepted: Stamp,
    },
    /// A task given up on, to be asked about once more.
    TimedOut {
        /// Its name.
        task: TaskId,
        /// When it was accepted.
        accepted: Stamp,
    },
    /// A submission in doubt: its slot counts while its task could be alive.
    InDoubt {
        /// When it was submitted.
        since: Stamp,
    },
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A sample came out of the queue and holds a slot.
    Admitted(Entry),
    /// A sample of an earlier process.
    Restored(Restored),
    /// The queue will bring no more samples.
    QueueEnded,
    /// A submission was answered.
    Submitted {
        /// Whose.
        sample: SampleId,
        /// Which submission.
        attempt: Attempt,
        /// What it came to.
        answer: Submitted,
    },
    /// A submission was surely never sent: its permit had gone stale, nothing more is bought, or its
    /// address has called already.
    NotSent {
        /// Whose.
        sample: SampleId,
        /// Which submission.
        attempt: Attempt,
    },
    /// A look at a task was answered.
    Polled {
        /// Whose task.
        sample: SampleId,
        /// What it came to.
        answer: Polled,
    },
    /// A callback named the task of a submission in doubt. The shell has looked the sample up: it is
    /// still in doubt in the state file, or put back from it, and has had no other attempt since.
    TaskFound {
        /// The sample, as the state file has it; its `attempts` is the number of the submission.
        entry: Entry,
        /// The task's name.
        task: TaskId,
        /// Whether it was put back, to be bought again.
        put_back: bool,
    },
    /// A look at the balance was answered.
    Balance(Balance),
    /// The link to a video is dead and is to be asked for again; one at a time for each sample.
    LinkWanted {
        /// Whose video.
        sample: SampleId,
        /// The task that made it.
        task: TaskId,
    },
    /// A look for a link was answered. Whatever it came to, the sample stays as it is.
    LinkSeen {
        /// Whose video.
        sample: SampleId,
        /// What it came to.
        answer: Polled,
    },
    /// The semaphore gave back this many of the slots asked for with [`Action::ReclaimSlots`].
    SlotsReclaimed(u32),
    /// Buy nothing more, for this reason.
    StopBuying(Halt),
    /// Wait for nothing more either: the grace of an interruption is over. Submissions that are not
    /// answered are in doubt from here on.
    Leave,
}

/// What the shell is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Submit, once every change made so far is durable.
    Submit {
        /// Which sample.
        sample: SampleId,
        /// Which submission.
        attempt: Attempt,
        /// When the gate admitted it; too long after, it must not be sent.
        permit: Stamp,
    },
    /// Ask how the task of a sample is; [`super::Schedule::watched_task`] names it.
    Poll {
        /// Whose task.
        sample: SampleId,
    },
    /// Ask for the balance.
    AskBalance,
    /// Ask for the link to a video again.
    LookAtLink {
        /// Whose video.
        sample: SampleId,
        /// The task that made it.
        task: TaskId,
    },
    /// This link will not be asked for: nobody is watched any longer.
    ForgetLink {
        /// Whose video.
        sample: SampleId,
    },
    /// Let this many more samples in.
    FreeSlots(u32),
    /// Take back up to this many slots that no sample from the queue has used.
    ReclaimSlots(u32),
}

/// What [`super::Schedule::poll`] answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Do this now, then ask again.
    Act(Action),
    /// Nothing to do before this stamp, unless something happens.
    WakeAt(Stamp),
    /// Nothing to do until something happens.
    Wait,
    /// Nothing will ever be left to do.
    Finished,
}

/// Something that must be durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which sample.
    pub sample: SampleId,
    /// When.
    pub at: Stamp,
    /// What.
    pub transition: Transition,
}

/// A step in the life of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// Ready, and about to be submitted.
    Intended(Attempt),
    /// The submission was surely not accepted; ready again.
    Retracted,
    /// The API took it.
    Accepted {
        /// The task's name.
        task: TaskId,
        /// Which submission.
        attempt: Attempt,
        /// What it costs.
        cost: Usd,
    },
    /// The task of a submission in doubt became known; it was counted and charged as a doubt.
    Found {
        /// The task's name.
        task: TaskId,
        /// Which submission.
        attempt: Attempt,
        /// Whether the sample had been put back already, to be bought again.
        put_back: bool,
    },
    /// The task failed in a way that a new submission may mend; ready again.
    Deferred {
        /// Not to be submitted before this.
        not_before: Stamp,
        /// Paid retries used so far, this one included.
        paid_retries: u32,
        /// Why the task failed.
        failure: Failure,
    },
    /// It ended, from whatever state.
    Ended {
        /// How.
        outcome: Outcome,
        /// Submissions so far that were accepted or are in doubt.
        attempts: u32,
        /// What the ending itself costs: the price of a submission that ends in doubt, else zero.
        cost: Usd,
    },
}

/// Why buying stopped before every sample was submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// The person asked.
    Interrupted,
    /// The account has no money.
    NoMoney(Failure),
    /// The key was refused.
    KeyRefused(Failure),
    /// The service was away for longer than the outage time-out.
    Outage(Failure),
    /// Too many samples failed (`--max-failures`).
    TooManyFailures(u64),
    /// The API does not know tasks it accepted.
    TasksVanish(Failure),
    /// Not one submission was accepted, and this is what the last was answered.
    NothingAccepted(Failure),
    /// The next purchase would pass `--max-cost`, which is this much.
    CostCap(Usd),
    /// The run has lasted as long as `--max-duration` lets it.
    TimeUp,
    /// What happens cannot be written down any longer; this is why.
    Disk(String),
    /// The run was only to collect what is bought already (`--no-buy`).
    CollectOnly,
}

impl Halt {
    /// Whether the run ends once every submission is answered, leaving tasks for the next run to
    /// collect; after any other reason they are watched to their end.
    #[must_use]
    pub const fn leaves_tasks(&self) -> bool {
        match self {
            Self::Interrupted | Self::TimeUp => true,
            Self::NoMoney(_)
            | Self::KeyRefused(_)
            | Self::Outage(_)
            | Self::TooManyFailures(_)
            | Self::TasksVanish(_)
            | Self::NothingAccepted(_)
            | Self::CostCap(_)
            | Self::Disk(_)
            | Self::CollectOnly => false,
        }
    }
}
