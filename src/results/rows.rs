//! Rows of results on their way into a file.

use std::io::{self, Write};

use super::PIECE;
use super::layout::Cell;
use crate::manifest::guarded;

/// Writes rows as lines of CSV.
pub(super) struct Rows<W: Write>(csv::Writer<W>);

impl<W: Write> Rows<W> {
    /// Rows into `out`, below a header that is written at once if there is to be one.
    pub(super) fn new(out: W) -> Self {
        Self(csv::WriterBuilder::new().buffer_capacity(PIECE).from_writer(out))
    }

    pub(super) fn header(&mut self, names: &[String]) -> io::Result<()> {
        self.0.write_record(names.iter().map(|name| guarded(name).into_owned())).map_err(Into::into)
    }

    pub(super) fn write(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        for cell in cells {
            match cell {
                Cell::Blank => self.0.write_field(""),
                Cell::Text(text) => self.0.write_field(&*guarded(text)),
                Cell::Number(number) => self.0.write_field(number),
                Cell::List(list) => self.0.write_field(serde_json::to_string(list)?),
            }?;
        }
        Ok(self.0.write_record(None::<&[u8]>)?)
    }

    /// Hands everything to the system.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.0.flush()
    }
}
