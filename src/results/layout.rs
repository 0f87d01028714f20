//! Which columns results have, and what a sample says in each.

use std::borrow::Cow;

use super::VIDEO_LIFETIME_MILLIS;
use crate::job::UnixMillis;
use crate::store::{Cells, ResultRow, Store, StoreError};

/// Our columns, in order, without `sample` before them and [`OF_MANY`] behind.
const OURS: [&str; 13] = [
    "status",
    "task_id",
    "video_url",
    "error_kind",
    "error_code",
    "error_message",
    "attempts",
    "cost_usd",
    "submitted_at",
    "completed_at",
    "expires_at",
    "generation_seconds",
    "file",
];

/// What is added behind where a task made more than one video.
pub(super) const OF_MANY: [&str; 2] = ["video_urls", "files"];

/// What is in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    /// Nothing.
    Blank,
    /// A text, whoever wrote it.
    Text(Cow<'a, str>),
    /// A number in plain decimals.
    Number(String),
    /// Several texts.
    List(&'a [String]),
}

impl<'a> Cell<'a> {
    /// A text; blank if it is empty or not there.
    fn text(text: Option<impl Into<Cow<'a, str>>>) -> Self {
        let text = text.map(Into::into).filter(|text| !text.is_empty());
        text.map_or(Self::Blank, Self::Text)
    }
}

/// Which columns there are.
#[derive(Debug)]
pub(super) struct Layout {
    /// The columns' names.
    pub(super) names: Vec<String>,
    /// How many of them are the sheet's own.
    own: usize,
    samples: bool,
    many_urls: bool,
}

impl Layout {
    pub(super) fn of(store: &Store, removed: bool, many_urls: bool) -> Result<Self, StoreError> {
        let samples = store.uses_samples(removed)?;
        let mut names = store.columns_of(removed, Cells::All)?;
        let own = names.len();
        let of_many = OF_MANY.into_iter().filter(|_| many_urls);
        let ours = samples.then_some("sample").into_iter().chain(OURS).chain(of_many);
        for name in ours {
            let mut name = name.to_owned();
            while names.iter().any(|taken| taken.eq_ignore_ascii_case(&name)) {
                name.insert_str(0, "veo_");
            }
            names.push(name);
        }
        Ok(Self { names, own, samples, many_urls })
    }

    /// The cells of one sample, as many as there are columns.
    pub(super) fn cells<'a>(&self, row: &'a ResultRow) -> Vec<Cell<'a>> {
        let own = row.fields.iter().map(|text| Cell::Text(text.into()));
        let mut cells: Vec<_> =
            own.chain(std::iter::repeat_with(|| Cell::Text("".into()))).take(self.own).collect();
        if self.samples {
            cells.push(Cell::Number(row.index.to_string()));
        }
        let time = |time: Option<UnixMillis>| Cell::text(time.map(UnixMillis::to_rfc3339));
        let url = row.urls.first();
        let expires = row.completed.filter(|_| url.is_some());
        let failure = row.failure.as_ref();
        cells.extend([
            Cell::text(Some(row.status.as_str())),
            Cell::text(row.task.as_deref()),
            Cell::text(url.map(String::as_str)),
            Cell::text(failure.map(|failure| failure.kind.as_str())),
            Cell::text(failure.and_then(|failure| failure.code.as_deref())),
            Cell::text(failure.map(|failure| failure.message.as_str())),
            Cell::Number(row.attempts.to_string()),
            Cell::Number(row.cost.to_string()),
            time(row.submitted),
            time(row.completed),
            time(expires.map(|at| UnixMillis(at.0.saturating_add(VIDEO_LIFETIME_MILLIS)))),
            row.generation_time.map_or(Cell::Blank, |took| Cell::Number(took.as_secs_f64().to_string())),
            // `file`: always there, so that readers can rely on the column.
            Cell::text(row.files.first().map(String::as_str)),
        ]);
        if self.many_urls {
            let list = |list| if row.urls.len() > 1 { Cell::List(list) } else { Cell::Blank };
            cells
                .extend([list(&row.urls), if row.files.is_empty() { Cell::Blank } else { list(&row.files) }]);
        }
        cells
    }
}
