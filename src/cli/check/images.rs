//! `check --images`: each distinct image of the sheet, looked at once.

use std::io::Write;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::clock::Clock;
use crate::harmless::one_line;
use crate::hosts::{Hosts, Patience};
use crate::images::{Flaw, Seen, survey};
use crate::job::Stamp;
use crate::report::wording::{Count, Of};
use crate::store::{ImageUse, PROBLEMS_SHOWN, Selection, Store};
use crate::veo::BaseUrl;

/// Characters of an address that are shown.
const ADDRESS_SHOWN: usize = 120;

/// Whether to look at images, and where.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[command(next_help_heading = "Images")]
pub struct ImageArgs {
    /// Look at each image once: is it there, is it JPG, PNG or WebP, has it at most 10 MB?
    #[arg(long)]
    pub images: bool,
    /// Look at images in private networks and on this machine too
    #[arg(long, requires = "images")]
    pub allow_private_hosts: bool,
}

/// What the images come to.
#[derive(Debug, Default, Serialize)]
pub(super) struct Images {
    /// Addresses that the sheet asks for.
    distinct: u64,
    /// Those that the API will take.
    sound: u64,
    pub(super) problem_count: u64,
    /// The first of them, by line.
    problems: Vec<ImageProblem>,
}

/// An image that the API would not take.
#[derive(Debug, Serialize)]
struct ImageProblem {
    /// The first row that asks for it.
    line: u64,
    /// How many rows do.
    rows: u64,
    column: Option<String>,
    address: String,
    /// What a task would fail with.
    code: &'static str,
    what: String,
    mend: &'static str,
}

/// Looks at the images that the selected rows ask for.
///
/// # Errors
///
/// The state file fails, or TLS cannot be set up.
pub(super) fn look(
    args: ImageArgs,
    store: &Store,
    selection: &Selection,
    api: &BaseUrl,
) -> anyhow::Result<Images> {
    let mut images = Images { distinct: store.collect_images(selection)?, ..Images::default() };
    let hosts = Hosts::new(Some(api), args.allow_private_hosts);
    let client = hosts.client(Patience::default()).context("cannot set up HTTPS")?;
    let clock = Clock::real(Stamp::BIRTH, NonZeroU32::MIN);
    let bar = bar(images.distinct)?;
    let mut number = 0;
    let next = || -> anyhow::Result<Option<(String, ImageUse)>> {
        number += 1;
        Ok(store.image(number)?.map(|image| (image.address.clone(), image)))
    };
    let found = |image: ImageUse, seen: Result<Seen, Flaw>| -> anyhow::Result<()> {
        bar.inc(1);
        match seen {
            Ok(seen) => {
                tracing::debug!(address = image.address, kind = %seen.kind, bytes = seen.bytes, "an image");
                images.sound += 1;
            }
            Err(flaw) => images.tell(image, &flaw, store)?,
        }
        bar.set_message(images.problem_count.to_string());
        Ok(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(survey(&client, &clock, api.is_loopback(), next, found))?;
    bar.finish_and_clear();
    Ok(images)
}

/// Shown on a terminal alone.
fn bar(images: u64) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{pos} of {len} images looked at, {msg} with a problem")?;
    let bar = ProgressBar::new(images).with_style(style).with_message("0");
    bar.enable_steady_tick(Duration::from_millis(200));
    Ok(bar)
}

impl Images {
    fn tell(&mut self, image: ImageUse, flaw: &Flaw, store: &Store) -> anyhow::Result<()> {
        self.problem_count += 1;
        let last = self.problems.last().map_or(0, |problem| problem.line);
        if self.problems.len() >= PROBLEMS_SHOWN && image.line >= last {
            return Ok(());
        }
        let problem = ImageProblem {
            line: image.line,
            rows: image.rows,
            column: store.column_of_image(&image)?,
            address: image.address,
            code: flaw.code(),
            what: flaw.to_string(),
            mend: flaw.mend(),
        };
        let place = self.problems.partition_point(|other| other.line <= problem.line);
        self.problems.insert(place, problem);
        self.problems.truncate(PROBLEMS_SHOWN);
        Ok(())
    }

    /// Says it in lines.
    pub(super) fn write(&self, source: &dyn std::fmt::Display, out: &mut dyn Write) -> std::io::Result<()> {
        for problem in &self.problems {
            write!(out, "{source}: line {}", problem.line)?;
            if problem.rows > 1 {
                write!(out, " and {}", Of(problem.rows - 1, "more row"))?;
            }
            if let Some(column) = &problem.column {
                write!(out, ", column {}", one_line(column, 80))?;
            }
            let address = one_line(&problem.address, ADDRESS_SHOWN);
            writeln!(out, ": {address}: {} ({}): {}", problem.what, problem.code, problem.mend)?;
        }
        let shown = self.problems.len() as u64;
        if self.problem_count > shown {
            writeln!(out, "… and {} more.", Of(self.problem_count - shown, "image"))?;
        }
        match (self.distinct, self.problem_count) {
            (0, _) => writeln!(out, "The sheet asks for no image."),
            (all, 0) => writeln!(out, "{} looked at: the API will take them.", Of(all, "image")),
            (all, bad) => writeln!(out, "{} of {} would fail their tasks.", Count(bad), Of(all, "image")),
        }
    }
}
