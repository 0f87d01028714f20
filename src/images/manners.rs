//! Whom to call next, so that no host is bothered: pure, by a clock that is given.
//!
//! What waits is bounded, so the images of a sheet are taken in as there is room. A host that is busy
//! holds back its own images; others are called meanwhile.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::job::Stamp;

/// Images looked at together: more would only wait in sockets.
const TOGETHER: usize = 32;
/// Of one host.
const TOGETHER_AT_A_HOST: usize = 4;
/// Between two calls of one host: five a second.
const APART: Duration = Duration::from_millis(200);
/// Images that wait for their turn: enough to find other hosts behind those that must wait.
const WAITING: usize = 1_024;
/// Hosts that are remembered although nothing is asked of them.
const REMEMBERED: usize = 1_024;
/// Calls of one image, if its host is out of order at first.
const TRIES: u32 = 3;
/// Before the second call; the third waits for four times that.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// Look at this.
    Look(Job<T>),
    /// Nothing before then.
    NotBefore(Stamp),
    /// Nothing until a look comes back, or there is something new.
    Nothing,
}

/// An image on its way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Job<T> {
    pub(super) item: T,
    pub(super) host: String,
    tries: u32,
    not_before: Stamp,
}

#[derive(Debug, Default)]
struct Host {
    active: usize,
    not_before: Option<Stamp>,
}

#[derive(Debug)]
pub(super) struct Manners<T> {
    apart: Duration,
    waiting: VecDeque<Job<T>>,
    hosts: HashMap<String, Host>,
    active: usize,
}

impl<T> Manners<T> {
    /// `hurried` leaves no time between calls, as on this very machine.
    pub(super) fn new(hurried: bool) -> Self {
        let apart = if hurried { Duration::ZERO } else { APART };
        Self { apart, waiting: VecDeque::new(), hosts: HashMap::new(), active: 0 }
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.active == 0
    }

    pub(super) fn add(&mut self, item: T, host: String) {
        self.waiting.push_back(Job { item, host, tries: 0, not_before: Stamp::BIRTH });
    }

    pub(super) fn next(&mut self, now: Stamp) -> Next<T> {
        if self.active >= TOGETHER {
            return Next::Nothing;
        }
        let mut earliest: Option<Stamp> = None;
        for place in 0..self.waiting.len() {
            let job = &self.waiting[place];
            let host = self.hosts.get(&job.host);
            if host.is_some_and(|host| host.active >= TOGETHER_AT_A_HOST) {
                continue;
            }
            let due = job.not_before.max(host.and_then(|host| host.not_before).unwrap_or(Stamp::BIRTH));
            if due > now {
                earliest = Some(earliest.map_or(due, |earliest| earliest.min(due)));
                continue;
            }
            let Some(mut job) = self.waiting.remove(place) else { continue };
            job.tries += 1;
            let host = self.hosts.entry(job.host.clone()).or_default();
            host.active += 1;
            host.not_before = Some(now + self.apart);
            self.active += 1;
            return Next::Look(job);
        }
        earliest.map_or(Next::Nothing, Next::NotBefore)
    }

    /// A look has come back.
    pub(super) fn done(&mut self, host: &str, now: Stamp) {
        self.active -= 1;
        if let Some(host) = self.hosts.get_mut(host) {
            host.active -= 1;
        }
        if self.hosts.len() > REMEMBERED {
            self.hosts.retain(|_, host| host.active > 0 || host.not_before.is_some_and(|at| at > now));
        }
    }

    /// A look has come back and may be worth another; answers the job if it is not. A wait that the host
    /// has asked for holds for all that is asked of it.
    pub(super) fn again(&mut self, mut job: Job<T>, wait: Option<Duration>, now: Stamp) -> Option<Job<T>> {
        if let (Some(wait), Some(host)) = (wait, self.hosts.get_mut(&job.host)) {
            host.not_before = host.not_before.max(Some(now + wait));
        }
        self.done(&job.host, now);
        if job.tries >= TRIES {
            return Some(job);
        }
        job.not_before = now + wait.unwrap_or(FIRST_WAIT * 4_u32.pow(job.tries - 1));
        self.waiting.push_back(job);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Stamp {
        Stamp::from_millis(millis)
    }

    fn look(manners: &mut Manners<u32>, now: u64) -> Job<u32> {
        let next = manners.next(at(now));
        let Next::Look(job) = next else { panic!("{next:?}") };
        job
    }

    #[test]
    fn a_host_is_called_five_times_a_second_and_four_at_once() {
        let mut manners = Manners::new(false);
        (0..6).for_each(|item| manners.add(item, "a".into()));
        manners.add(100, "b".into());
        assert_eq!(look(&mut manners, 0).item, 0);
        assert_eq!(look(&mut manners, 0).item, 100, "another host is not held back");
        assert_eq!(manners.next(at(0)), Next::NotBefore(at(200)));
        assert_eq!(manners.next(at(199)), Next::NotBefore(at(200)));
        let jobs: Vec<_> = [200, 400, 600].map(|now| look(&mut manners, now)).into();
        assert_eq!(manners.next(at(9_000)), Next::Nothing, "four are on their way");
        manners.done(&jobs[0].host, at(9_000));
        assert_eq!(look(&mut manners, 9_000).item, 4);
    }

    #[test]
    fn no_more_than_so_many_together() {
        let mut manners = Manners::new(true);
        (0..100).for_each(|item| manners.add(item, format!("h{item}")));
        for _ in 0..TOGETHER {
            look(&mut manners, 0);
        }
        assert_eq!(manners.next(at(0)), Next::Nothing);
        manners.done("h0", at(0));
        look(&mut manners, 0);
    }

    #[test]
    fn a_host_out_of_order_is_asked_three_times_and_left_alone_as_it_wishes() {
        let mut manners = Manners::new(false);
        manners.add(1, "a".into());
        let job = look(&mut manners, 0);
        assert_eq!(manners.again(job, None, at(0)), None);
        assert_eq!(manners.next(at(500)), Next::NotBefore(at(1_000)));
        let job = look(&mut manners, 1_000);
        manners.add(2, "a".into());
        assert_eq!(manners.again(job, Some(Duration::from_secs(9)), at(1_000)), None);
        assert_eq!(manners.next(at(2_000)), Next::NotBefore(at(10_000)), "its other images wait too");
        assert_eq!(look(&mut manners, 10_000).item, 2);
        let job = look(&mut manners, 10_200);
        assert_eq!(manners.again(job, None, at(10_200)).map(|job| job.item), Some(1));
        manners.done("a", at(10_300));
        assert!(manners.is_idle());
    }

    #[test]
    fn idle_hosts_are_forgotten() {
        let mut manners = Manners::new(false);
        for item in 0..5_000_u64 {
            manners.add(0, format!("h{item}"));
            let job = look(&mut manners, item * 1_000);
            manners.done(&job.host, at(item * 1_000 + 500));
            assert!(manners.hosts.len() <= REMEMBERED + 1);
        }
    }
}
