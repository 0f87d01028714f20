//! Why a name cannot be, to the letter, at some place.

use super::file_system::Longest;
use super::portable::is_reserved;
use super::{EXTENSION, FileSystem};
use crate::harmless::one_line;

/// Characters of a name that a message shows.
const SHOWN: usize = 60;

/// Why a sample cannot have its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// What is wrong, as a clause.
    pub what: String,
    /// What to do about it.
    pub mend: String,
}

/// The folder of unfinished videos at every place.
pub const DRAFTS: &str = ".batchveo";

const SHORTEN: &str = "cut it in the template, such as {prompt:.180}, or use --names portable";
const ALTER: &str = "change the cell, use another --name, or --names portable, which alters it";

impl FileSystem {
    /// That `name`, a path without an extension, can be there to the letter.
    ///
    /// # Errors
    ///
    /// Why it cannot, and what to do about it.
    pub fn check(&self, name: &str) -> Result<(), Unfit> {
        self.check_parts(name.split('/'))
    }

    /// The same of the folders and the file of a name.
    pub(super) fn check_parts<'a>(&self, parts: impl Iterator<Item = &'a str>) -> Result<(), Unfit> {
        let mut parts = parts.peekable();
        let mut length = EXTENSION;
        let mut is_first = true;
        while let Some(part) = parts.next() {
            let is_file = parts.peek().is_none();
            let same = |other| part == other || (self.ignores_case && part.eq_ignore_ascii_case(other));
            if is_first && !is_file && same(DRAFTS) {
                let what = format!("its name would lie in `{DRAFTS}`, where unfinished videos are");
                return Err(Unfit { what, mend: ALTER.to_owned() });
            }
            is_first = false;
            check(part, if is_file { EXTENSION } else { 0 }, self)?;
            length += part.len() + usize::from(!is_file);
        }
        if length > self.longest_path {
            let most = self.longest_path;
            return Err(Unfit {
                what: format!("its name would have {length} bytes in all, and {self} takes {most}"),
                mend: SHORTEN.to_owned(),
            });
        }
        Ok(())
    }
}

/// That `part`, a folder or a file, can be at `place` with an extension of `extension` bytes.
fn check(part: &str, extension: usize, place: &FileSystem) -> Result<(), Unfit> {
    let shown = || one_line(part, SHOWN);
    let unfit = |what: String| Err(Unfit { what, mend: ALTER.to_owned() });
    // A file goes on with its extension.
    let ends = extension == 0;
    if part.is_empty() {
        return unfit("its name would be empty".to_owned());
    }
    if part == ".." || (part == "." && ends) {
        return unfit(format!("its name would be `{part}`, which leads out of the folder"));
    }
    for c in part.chars() {
        if c == '/' {
            return unfit(format!("its name would hold a `/` that is not the template's: `{}`", shown()));
        }
        if c == '\0' {
            return unfit(format!("its name would hold a NUL character: `{}`", shown()));
        }
        if place.refuses(c) {
            let which = if c.is_control() { format!("{:?}", c.to_string()) } else { format!("`{c}`") };
            return unfit(format!("its name would hold {which}, which {place} does not take: `{}`", shown()));
        }
    }
    if ends && place.alters_end && part.ends_with(['.', ' ']) {
        return unfit(format!("{place} does not keep the end of `{}`", shown()));
    }
    if place.has_devices && is_reserved(part) {
        return unfit(format!("{place} has a device of that name: `{}`", shown()));
    }
    let (length, most, counted) = match place.longest {
        Longest::Bytes(most) => (part.len(), most, "bytes"),
        Longest::Utf16(most) => (part.encode_utf16().count(), most, "UTF-16 units"),
    };
    let room = most.saturating_sub(extension);
    if length > room {
        return Err(Unfit {
            what: format!(
                "its name would have {length} {counted}, and {place} takes {room} before the extension: `{}`",
                shown()
            ),
            mend: SHORTEN.to_owned(),
        });
    }
    Ok(())
}
