//! How numbers and reasons are put in words, the same everywhere a person reads them.
//!
//! Pure formatting: no state and no streams. Each wrapper is a [`fmt::Display`], so that nothing
//! is built that is not printed.

use std::fmt;
use std::time::Duration;

use crate::event::Callbacks;
use crate::job::{Stamp, Usd};
use crate::schedule::{Awaited, Halt};

/// A whole number with separators: `1,649`.
#[derive(Debug, Clone, Copy)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&grouped(&self.0.to_string()))
    }
}

/// A count and its noun: `1 sample`, `1,649 samples`.
#[derive(Debug, Clone, Copy)]
pub struct Of(pub u64, pub &'static str);

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", Count(self.0), self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// A number of bytes in three figures and a unit of thousands, as disks are sold: `999 B`, `1.65 GB`.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    #[expect(clippy::cast_precision_loss, reason = "three figures for a person")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1_000 {
            return write!(f, "{} B", self.0);
        }
        let mut size = self.0 as f64 / 1_000.0;
        let mut units = ["kB", "MB", "GB", "TB", "PB", "EB"].into_iter();
        let mut unit = units.next().unwrap_or_default();
        while size >= 999.5
            && let Some(larger) = units.next()
        {
            size /= 1_000.0;
            unit = larger;
        }
        let decimals = if size < 9.995 { 2 } else { usize::from(size < 99.95) };
        write!(f, "{size:.decimals$} {unit}")
    }
}

/// Money: `$1,240.00`; more than two decimals only where the amount has them.
#[derive(Debug, Clone, Copy)]
pub struct Money(pub Usd);

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.0.to_string();
        let (dollars, fraction) = plain.split_once('.').unwrap_or((&plain, "00"));
        write!(f, "${}.{fraction}", grouped(dollars))
    }
}

/// `digits` with a comma before each group of three.
fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// That videos which were saved are fetched again.
pub(super) fn lost(videos: u64) -> String {
    format!("{} no longer there or not whole: fetching again", Of(videos, "saved video"))
}

/// How callbacks went, in lines that each say one thing.
pub(super) fn called(callbacks: &Callbacks) -> Vec<String> {
    let Callbacks { ended, settled, early, odd, nothing, refused, uncalled } = *callbacks;
    let clauses = [
        (ended, "ended a task"),
        (settled, "settled a doubt"),
        (early, "came before the answer to the submission"),
        (odd, "odd, so that the task was looked at"),
        (nothing, "changed nothing"),
    ];
    let clauses = clauses.into_iter().map(|(count, words)| (count, format!("{} {words}", Count(count))));
    let others = [
        (refused, format!("{} to no address of ours refused", Of(refused, "request"))),
        (uncalled, format!("{} found by polling", Of(uncalled, "end"))),
    ];
    let told = clauses.chain(others).filter(|(count, _)| *count > 0).map(|(_, line)| line);
    [format!("{} received", Count(callbacks.received()))].into_iter().chain(told).collect()
}

/// That no callback has come yet, and what to look at.
pub(super) fn uncalled(ends: u64) -> String {
    format!(
        "{} found by polling and not one callback: does --callback-url lead to --callback-listen? \
         Ask for its /healthz from outside, and see whether the proxy keeps the query",
        Of(ends, "end")
    )
}

/// That only doubts are left, how long that may take, and how to do without.
pub(super) fn awaited(awaited: &Awaited, now: Stamp) -> String {
    format!(
        "waiting up to {} for {} in doubt: {}",
        Span(awaited.until.since(now)),
        Of(awaited.doubts.into(), "submission"),
        settling(awaited),
    )
}

/// What may end a wait for doubts.
pub(super) fn settling(awaited: &Awaited) -> String {
    let them = if awaited.doubts == 1 { "it" } else { "them" };
    format!("a callback may settle {them}; Ctrl-C ends the wait, the next run goes on")
}

/// `bytes` as hexadecimal digits, as `sha256sum` prints them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
        }
        text
    })
}

/// A length of time in its two largest units, cut to whole ones: `45 s`, `1 m 40 s`, `2 h 05 m`,
/// `3 d 04 h`; a second unit of zero is left out.
#[derive(Debug, Clone, Copy)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (large, unit, small, part) = match seconds {
            0..60 => return write!(f, "{seconds} s"),
            60..3_600 => (seconds / 60, "m", seconds % 60, "s"),
            3_600..86_400 => (seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
            _ => (seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
        };
        if small == 0 { write!(f, "{large} {unit}") } else { write!(f, "{large} {unit} {small:02} {part}") }
    }
}

/// A guessed length of time, rounded up to what a guess is worth: `1 m 40 s`, `4 m 20 s`, `35 m`.
#[derive(Debug, Clone, Copy)]
pub struct About(pub Duration);

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grain = match self.0.as_secs() {
            0..60 => 5,
            60..600 => 10,
            600..36_000 => 60,
            _ => 3_600,
        };
        let seconds = self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0);
        write!(f, "about {}", Span(Duration::from_secs(seconds.next_multiple_of(grain).max(grain))))
    }
}

/// The word for why buying stopped, as `--events` and `--summary` write it.
#[must_use]
pub const fn halt_word(halt: &Halt) -> &'static str {
    match halt {
        Halt::Interrupted => "interrupted",
        Halt::NoMoney(_) => "no_money",
        Halt::KeyRefused(_) => "key_refused",
        Halt::Outage(_) => "outage",
        Halt::TooManyFailures(_) => "too_many_failures",
        Halt::TasksVanish(_) => "tasks_vanish",
        Halt::NothingAccepted(_) => "nothing_accepted",
        Halt::CostCap(_) => "max_cost",
        Halt::TimeUp => "max_duration",
        Halt::Disk(_) => "disk",
        Halt::CollectOnly => "no_buy",
    }
}

/// Why buying stopped, as a clause for a person.
#[derive(Debug, Clone, Copy)]
pub struct HaltReason<'a>(pub &'a Halt);

impl fmt::Display for HaltReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Halt::Interrupted => f.write_str("interrupted"),
            Halt::NoMoney(failure) => write!(f, "the account has no money ({})", failure.message),
            Halt::KeyRefused(failure) => write!(f, "the API key was refused ({})", failure.message),
            Halt::Outage(failure) => write!(f, "the service has been away too long ({})", failure.message),
            Halt::TooManyFailures(count) => write!(f, "too many failures: {}", Of(*count, "sample")),
            Halt::TasksVanish(failure) => {
                write!(f, "the API does not know tasks it accepted ({})", failure.message)
            }
            Halt::NothingAccepted(failure) => {
                write!(f, "not one submission was accepted, the last because of {}", failure.message)
            }
            Halt::CostCap(cap) => {
                write!(f, "the next video would cost more than --max-cost {} leaves", Money(*cap))
            }
            Halt::TimeUp => f.write_str("the time of --max-duration is over"),
            Halt::Disk(why) => write!(f, "what happens cannot be written down ({why})"),
            Halt::CollectOnly => f.write_str("with --no-buy nothing is bought"),
        }
    }
}

/// The words of a command as a POSIX shell takes them, quoted where needed.
#[must_use]
pub fn command_line<S: AsRef<str>>(words: &[S]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    let quoted = words.iter().map(AsRef::as_ref).map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_money() {
        for (count, text) in [(0, "0"), (999, "999"), (1_649, "1,649"), (1_000_000, "1,000,000")] {
            assert_eq!(Count(count).to_string(), text);
        }
        for (micros, text) in [
            (0, "$0.00"),
            (12_400_000, "$12.40"),
            (1_240_000_000, "$1,240.00"),
            (1_000_125_000, "$1,000.125"),
        ] {
            assert_eq!(Money(Usd::from_micros(micros)).to_string(), text);
        }
        assert_eq!(format!("[{:>7}]", Count(1_649)), "[  1,649]");
        assert_eq!([Of(1, "video"), Of(0, "video")].map(|of| of.to_string()), ["1 video", "0 videos"]);
    }

    #[test]
    fn bytes() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (9_996, "10.0 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (1_649_000_000, "1.65 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn spans() {
        for (seconds, text, about) in [
            (0, "0 s", "about 5 s"),
            (41, "41 s", "about 45 s"),
            (59, "59 s", "about 1 m"),
            (100, "1 m 40 s", "about 1 m 40 s"),
            (258, "4 m 18 s", "about 4 m 20 s"),
            (600, "10 m", "about 10 m"),
            (2_041, "34 m 01 s", "about 35 m"),
            (7_500, "2 h 05 m", "about 2 h 05 m"),
            (90_000, "1 d 01 h", "about 1 d 01 h"),
            (172_800, "2 d", "about 2 d"),
        ] {
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), text);
            assert_eq!(About(Duration::from_secs(seconds)).to_string(), about, "{seconds}");
        }
        assert_eq!(About(Duration::from_millis(99_001)).to_string(), "about 1 m 40 s");
    }

    #[test]
    fn callbacks_are_told_by_what_came_of_them() {
        let some = Callbacks {
            ended: 1_600,
            settled: 2,
            nothing: 31,
            refused: 1,
            uncalled: 14,
            ..Callbacks::default()
        };
        let lines = [
            "1,633 received",
            "1,600 ended a task",
            "2 settled a doubt",
            "31 changed nothing",
            "1 request to no address of ours refused",
            "14 ends found by polling",
        ];
        assert_eq!(called(&some), lines);
        assert_eq!(called(&Callbacks::default()), ["0 received"]);
    }

    #[test]
    fn commands_can_be_pasted() {
        for (words, text) in [
            (&["batchveo", "run", "prompts.csv"][..], "batchveo run prompts.csv"),
            (&["run", "my prompts.csv", "--map", "prompt=name"], "run 'my prompts.csv' --map prompt=name"),
            (&["run", "it's", ""], r"run 'it'\''s' ''"),
        ] {
            assert_eq!(command_line(words), text);
        }
    }
}
