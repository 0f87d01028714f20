//! A bar for what is counted: so many of so many.

use indicatif::{ProgressBar, ProgressStyle};

use super::screen::Screen;

/// A bar of one line on a terminal, and nothing elsewhere; gone when it is dropped.
#[derive(Debug)]
pub struct Meter(ProgressBar);

impl Meter {
    /// A bar that says how many of `what` are done.
    #[must_use]
    pub fn new(screen: &Screen, what: &'static str) -> Self {
        let bar = screen.bars().add(ProgressBar::new(0));
        let template = format!("[{{wide_bar}}] {{human_pos}} of {{human_len}} {what}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(bar)
    }

    /// `done` of `total` are done.
    pub fn set(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
