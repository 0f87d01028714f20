//! When a fault strikes, on the simulation's clock.

use std::time::Duration;

use crate::job::Stamp;

/// A span of the simulation's clock, perhaps with a beat: `from 2m until 12m, every 3m for 20s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Window {
    pub(super) from: Stamp,
    /// For ever, if `None`.
    pub(super) until: Option<Stamp>,
    pub(super) beat: Option<Beat>,
}

/// Open for `lasts` at the beginning of `every`, counted from the window's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beat {
    /// Never zero.
    pub(super) every: Duration,
    /// Never zero, and shorter than `every`.
    pub(super) lasts: Duration,
}

impl Beat {
    /// How much of the current beat has passed `since` the window's beginning.
    const fn phase(self, since: Duration) -> Duration {
        Duration::from_nanos_u128(since.as_nanos() % self.every.as_nanos())
    }
}

impl Window {
    /// Whether `now` is in it. Beginnings are in it, ends are not.
    pub(super) fn holds(&self, now: Stamp) -> bool {
        let since = now.since(self.from);
        now >= self.from
            && self.until.is_none_or(|until| now < until)
            && self.beat.is_none_or(|beat| beat.phase(since) < beat.lasts)
    }

    /// The next moment after `now` at which [`Window::holds`] may answer otherwise, if there is one.
    pub(super) fn next_edge(&self, now: Stamp) -> Option<Stamp> {
        let edge = if now < self.from {
            self.from
        } else {
            let since = now.since(self.from);
            let Some(beat) = self.beat else { return self.until.filter(|until| now < *until) };
            let (phase, begun) = (beat.phase(since), since.saturating_sub(beat.phase(since)));
            self.from + begun + if phase < beat.lasts { beat.lasts } else { beat.every }
        };
        match self.until {
            None => Some(edge),
            Some(until) if now < until => Some(edge.min(until)),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: u64, until: Option<u64>, beat: Option<(u64, u64)>) -> Window {
        let beat = beat.map(|(every, lasts)| Beat {
            every: Duration::from_secs(every),
            lasts: Duration::from_secs(lasts),
        });
        Window { from: at(from), until: until.map(at), beat }
    }

    fn at(seconds: u64) -> Stamp {
        Stamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_window_opens_and_closes_where_it_says() {
        for (window, open) in [
            (window(0, None, None), (0..30).collect::<Vec<u64>>()),
            (window(5, Some(8), None), vec![5, 6, 7]),
            (window(4, None, Some((10, 2))), vec![4, 5, 14, 15, 24, 25]),
            (window(4, Some(15), Some((10, 2))), vec![4, 5, 14]),
            (window(9, Some(9), None), vec![]),
        ] {
            let holds: Vec<u64> = (0..30).filter(|second| window.holds(at(*second))).collect();
            assert_eq!(holds, open, "{window:?}");
            // From edge to edge nothing changes, and every change is at one.
            let mut now = at(0);
            let mut edges = vec![0];
            while let Some(edge) = window.next_edge(now).filter(|edge| *edge < at(30)) {
                assert!(edge > now, "{window:?}");
                edges.push(edge.as_millis() / 1_000);
                now = edge;
            }
            for second in 1..30 {
                let changes = window.holds(at(second)) != window.holds(at(second - 1));
                assert!(!changes || edges.contains(&second), "{window:?} {second} {edges:?}");
            }
        }
    }
}
