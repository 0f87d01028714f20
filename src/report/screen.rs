//! Standard error, shared by the bar and everything that writes lines.
//!
//! Rule: whoever writes to standard error during a run writes through a [`Screen`], which takes
//! the bar off for the moment of a write. Otherwise a log line lands in the middle of the bar.
//! What is written may hold text from outside, so all of it is made harmless here.
//!
//! Whoever reads may go away: a terminal is closed, `2>&1 | head` has had enough, the disk of a log
//! is full. What a run does and how it ends depends on none of that, so writing here never fails.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressDrawTarget};
use tracing_subscriber::fmt::MakeWriter;

use crate::harmless;

/// A handle on standard error; clones share the terminal and its bar.
#[derive(Clone)]
pub struct Screen {
    bars: MultiProgress,
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    /// Whether only problems are told.
    quiet: bool,
}

impl Screen {
    /// Standard error. Bars are drawn only if it is a terminal that can move its cursor.
    #[must_use]
    pub fn stderr() -> Self {
        Self::new(ProgressDrawTarget::stderr(), Box::new(io::stderr()))
    }

    /// Draws bars on `target` and writes lines to `out`, which should be the same place.
    #[must_use]
    pub fn new(target: ProgressDrawTarget, out: Box<dyn Write + Send>) -> Self {
        Self { bars: MultiProgress::with_draw_target(target), out: Arc::new(Mutex::new(out)), quiet: false }
    }

    /// Whether a bar would be seen.
    #[must_use]
    pub fn shows_bars(&self) -> bool {
        !self.bars.is_hidden()
    }

    /// The same screen, for problems alone if it is to be `quiet`.
    #[must_use]
    pub fn quietly(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }

    /// Whether only problems are told.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Where to write what is no problem: nowhere on a quiet screen.
    #[must_use]
    pub fn notes(&self) -> Self {
        if self.quiet { Self::new(ProgressDrawTarget::hidden(), Box::new(io::sink())) } else { self.clone() }
    }

    pub(super) const fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    fn write_as_it_is(&self, text: &str) {
        let _ = self
            .bars
            .suspend(|| self.out.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes()));
    }
}

impl Write for Screen {
    /// Writes all of `lines` above the bar, made harmless. Give whole lines: the bar is drawn again
    /// after them. Never fails: what nobody can read is lost.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.write_as_it_is(&harmless::lines(&String::from_utf8_lossy(lines)));
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.out.lock().unwrap_or_else(PoisonError::into_inner).flush();
        Ok(())
    }
}

/// Log lines on their way to a [`Screen`], with colours of their own or without.
#[derive(Clone)]
pub(super) struct LogLines {
    pub(super) screen: Screen,
    pub(super) colours: bool,
}

impl Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.colours {
            return self.screen.write(line);
        }
        // What is in the log's fields is harmless already; the colours around it are its own.
        self.screen.write_as_it_is(&harmless::coloured_lines(&String::from_utf8_lossy(line)));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.screen.flush()
    }
}

impl MakeWriter<'_> for LogLines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
