//! The question before a larger purchase.
//!
//! On a terminal it is asked and must be answered; elsewhere the same text is printed and the run
//! goes on, since nobody is there to answer and the command was somebody's decision.

use std::fmt;
use std::io::{self, BufRead, Write};

use crate::generation::Mode;
use crate::job::Usd;

/// A purchase above this is asked about.
pub const ASK_ABOVE: Usd = Usd::from_cents(1_000);

/// What a run is about to buy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purchase {
    /// Samples still to be bought in each mode, and what they cost together.
    pub lines: Vec<PurchaseLine>,
    /// What the account has, if it said so.
    pub balance: Option<Usd>,
    /// Paid attempts a sample may need beyond its first.
    pub paid_retries: u32,
}

/// The part of a purchase in one mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurchaseLine {
    /// The mode.
    pub mode: Mode,
    /// How many samples.
    pub samples: u64,
    /// What they cost together.
    pub cost: Usd,
}

impl Purchase {
    /// What it costs if every first attempt succeeds.
    #[must_use]
    pub fn cost(&self) -> Usd {
        self.lines.iter().fold(Usd::ZERO, |sum, line| sum + line.cost)
    }

    /// What it costs if every sample uses all its paid retries.
    #[must_use]
    pub fn at_worst(&self) -> Usd {
        self.cost().times(u64::from(self.paid_retries) + 1)
    }

    /// Whether it is large enough to be asked about.
    #[must_use]
    pub fn wants_confirmation(&self) -> bool {
        self.cost() > ASK_ABOVE
    }
}

impl fmt::Display for Purchase {
    /// Lines for a person, without a line feed at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "About to buy:")?;
        for PurchaseLine { mode, samples, cost } in &self.lines {
            writeln!(f, "  {samples} in {} mode  ${cost}", mode.as_str())?;
        }
        write!(f, "Together ${}", self.cost())?;
        if self.paid_retries > 0 {
            write!(f, ", at worst ${} with paid retries", self.at_worst())?;
        }
        match self.balance {
            Some(balance) if balance < self.cost() => {
                write!(f, ". The balance is ${balance}: the run will stop when it is used up.")
            }
            Some(balance) => write!(f, ". The balance is ${balance}."),
            None => write!(f, ". The balance is not known."),
        }
    }
}

/// Shows `purchase` on `output` and asks for a yes on `input`. Anything but `y` or `yes` is a no,
/// the end of the input too.
///
/// # Errors
///
/// The question could not be asked or the answer not read.
pub fn confirm(purchase: &Purchase, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<bool> {
    writeln!(output, "{purchase}")?;
    write!(output, "Go on? [y/N] ")?;
    output.flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purchase(balance: Option<Usd>) -> Purchase {
        let line = |mode, samples, cents| PurchaseLine { mode, samples, cost: Usd::from_cents(cents) };
        Purchase {
            lines: vec![line(Mode::Quality, 6, 900), line(Mode::Fast, 10, 200)],
            balance,
            paid_retries: 1,
        }
    }

    #[test]
    fn the_text_says_what_how_much_and_from_what() {
        assert_eq!(
            purchase(Some(Usd::from_cents(2_000))).to_string(),
            "About to buy:\n  6 in quality mode  $9.00\n  10 in fast mode  $2.00\n\
             Together $11.00, at worst $22.00 with paid retries. The balance is $20.00."
        );
        assert!(purchase(Some(Usd::from_cents(1_099))).to_string().contains("will stop when it is used up"));
        assert!(purchase(None).to_string().ends_with("The balance is not known."));
    }

    #[test]
    fn more_than_ten_dollars_is_asked_about() {
        let mut purchase = purchase(None);
        assert!(purchase.wants_confirmation());
        purchase.lines[0].cost = Usd::from_cents(800);
        assert!(!purchase.wants_confirmation());
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        for (answer, yes) in [
            ("y\n", true),
            (" YES \r\n", true),
            ("yes", true),
            ("\n", false),
            ("", false),
            ("n\n", false),
            ("yesterday\n", false),
        ] {
            let mut output = Vec::new();
            assert_eq!(
                confirm(&purchase(None), &mut answer.as_bytes(), &mut output).unwrap(),
                yes,
                "{answer:?}"
            );
            assert!(String::from_utf8(output).unwrap().ends_with("Go on? [y/N] "));
        }
    }
}
