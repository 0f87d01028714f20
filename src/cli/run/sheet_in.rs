//! The sheet on its way into the state file, and what is said of its mistakes.

use std::io::Write;

use crate::batch::Batch;
use crate::cli::sheet::{SheetArgs, Source};
use crate::manifest::{Problem, fingerprint};
use crate::report::wording::{Money, Of};
use crate::store::{Differences, Import, ImportOptions};

/// Whether the sheet is in the state file and sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is.
    Yes,
    /// It is not, and why has been said.
    No,
}

/// Reads the sheet into the state, unless the very same one is there, and tells `out` about it.
///
/// # Errors
///
/// The sheet or the state file cannot be read, or `out` cannot be written.
pub(super) fn take(
    source: &Source,
    args: &SheetArgs,
    options: ImportOptions,
    batch: &mut Batch,
    out: &mut impl Write,
) -> anyhow::Result<Taken> {
    let read = args.options();
    if let (Source::File(path), Some((known, skipped))) = (source, batch.store().imported()?) {
        // A sheet taken with its bad rows skipped must be looked at again once that is not asked.
        let same_rules = !skipped || options.skip_invalid;
        if same_rules && fingerprint(path, &read)? == known {
            return Ok(Taken::Yes);
        }
    }
    let import = batch.import(source.open(&read)?, options)?;
    describe(source, &import, options, out)?;
    Ok(if import.applied { Taken::Yes } else { Taken::No })
}

/// Says what the import found, as far as there is anything to say.
fn describe(
    source: &Source,
    import: &Import,
    options: ImportOptions,
    out: &mut impl Write,
) -> std::io::Result<()> {
    write_problems(source, &import.problems, import.problem_count, out)?;
    if import.problem_count > 0 {
        if options.skip_invalid {
            writeln!(
                out,
                "{} of {} rows are reported as invalid, the others are run.",
                import.invalid_rows, import.rows
            )?;
        } else {
            writeln!(
                out,
                "Nothing was bought: mend the sheet, or add --skip-invalid to run the other rows."
            )?;
        }
    }
    let Differences { edited, removed, samples, cost } = import.differences;
    if import.differences != Differences::default() {
        writeln!(
            out,
            "{source} no longer asks for all that was bought or is in doubt: {edited} rows edited, {removed} rows \
             gone or with fewer samples; {samples} videos, {}.",
            Money(cost)
        )?;
        if import.applied {
            writeln!(out, "They stay in the state file: batchveo export --removed shows them.")?;
        } else {
            writeln!(
                out,
                "Nothing was bought. Is this the sheet of that state file, with the same --mode, --map and other \
                 defaults as before? Take the edits back, or go on with --accept-changes."
            )?;
        }
    }
    Ok(())
}

/// The first problems, and how many more of `count` there are.
///
/// # Errors
///
/// `out` cannot be written.
pub fn write_problems(
    source: &Source,
    problems: &[Problem],
    count: u64,
    out: &mut impl Write,
) -> std::io::Result<()> {
    for problem in problems {
        writeln!(out, "{source}: {problem}")?;
    }
    let shown = problems.len() as u64;
    if count > shown {
        writeln!(out, "… and {} more.", Of(count - shown, "problem"))?;
    }
    Ok(())
}
