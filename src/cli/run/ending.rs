//! The end of `run`: what is printed and written of it, and how the process ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

use super::perform::Job;
use super::sinks::Sinks;
use crate::batch::{Finished, UNSUCCESSFUL};
use crate::cli::download::is_in_folder_of;
use crate::cli::downloads;
use crate::cli::exit::Exit;
use crate::cli::paths::state_of;
use crate::cli::sheet::Source;
use crate::harmless;
use crate::job::Status;
use crate::report::wording::{HaltReason, Of, command_line};
use crate::report::{DOUBTS_SHOWN, Facts, Summary};
use crate::schedule::Halt;
use crate::store::Selection;

impl Job<'_> {
    /// Prints the summary, writes it where asked, and says how the process ends.
    pub(super) fn tell_end(
        &mut self,
        finished: Finished,
        selection: &Selection,
        sinks: &mut Sinks,
        asked_to_stop: Option<Exit>,
    ) -> anyhow::Result<Exit> {
        let store = finished.batch.store();
        let delivered = self.download.as_deref().map(|at| downloads::delivered(store, at)).transpose()?;
        let mut exit = self.exit_of(&finished, selection, asked_to_stop)?;
        if exit == Exit::Succeeded && delivered.as_ref().is_some_and(|delivered| delivered.left > 0) {
            exit = Exit::Unsuccessful;
        }
        let mut failures = BTreeMap::new();
        for count in store.outcomes(&Selection::default())? {
            if let Some(kind) = count.kind {
                *failures.entry(kind).or_insert(0) += count.samples;
            }
        }
        let simulated = self.args.rehearsal.simulate;
        let facts = Facts {
            failures,
            doubts: store.doubts(DOUBTS_SHOWN)?,
            links: store.unsaved_links(store.birth().at(finished.progress.now))?,
            delivered,
            fetch: self.fetch_words(),
            results: self.paths.results.clone(),
            state: self.paths.state.clone(),
            resume: resume_words(std::env::args(), finished.halt.is_none()),
            simulated,
            exit_code: exit.code(),
        };
        let summary = Summary::new(&sinks.digest, facts);
        write!(self.screen.notes(), "{summary}")?;
        if self.screen.is_quiet() {
            self.tell_problems(&finished, summary.not_delivered(), exit)?;
        }
        let all_ended = finished.progress.tally.count(Status::Pending) == 0;
        if simulated && finished.progress.requests == 0 && all_ended {
            writeln!(
                self.screen.notes(),
                "Nothing was left to rehearse: remove {} to begin anew",
                self.paths.state.display()
            )?;
        }
        if let Err(error) = finished.results {
            writeln!(
                self.screen,
                "batchveo: {:#}. Everything is in the state file: when that is mended, the same command or batchveo \
                 export writes the results again.",
                anyhow::Error::from(error)
            )?;
        }
        if let Some(path) = &self.args.summary {
            let json = harmless::json(&summary)? + "\n";
            // The run is over: how it went does not depend on who is told.
            if let Err(error) = fs::write(path, json) {
                writeln!(self.screen, "batchveo: --summary {}: {error}", path.display())?;
            }
        }
        Ok(exit)
    }

    /// What is left of the summary on a quiet screen: why the run stopped, and that not all is well.
    fn tell_problems(&mut self, finished: &Finished, undelivered: u64, exit: Exit) -> anyhow::Result<()> {
        if let Some(halt) = finished.halt.as_ref().filter(|_| exit == Exit::Stopped) {
            writeln!(self.screen, "batchveo: stopped: {}", HaltReason(halt))?;
        }
        let tally = finished.progress.tally;
        let failed: u64 = UNSUCCESSFUL.iter().map(|status| tally.count(*status)).sum();
        if failed > 0 && exit != Exit::Succeeded {
            let results = self.paths.results.display();
            writeln!(self.screen, "batchveo: {} without a video: {results} says why", Of(failed, "sample"))?;
        }
        if undelivered > 0 {
            let fetch = command_line(&self.fetch_words());
            let samples = Of(undelivered, "sample");
            writeln!(self.screen, "batchveo: {samples} not downloaded: {fetch}")?;
        }
        Ok(())
    }

    /// The command that downloads what is not there, with what it has to be told by hand.
    fn fetch_words(&self) -> Vec<String> {
        let mut words = vec!["batchveo".to_owned(), "download".to_owned(), self.what_to_fetch()];
        let mut add = |option: &str, value: &str| words.extend([option.to_owned(), value.to_owned()]);
        let outside = |place: &&str| !is_in_folder_of(&self.paths.state, place);
        if let Some(place) = self.download.as_deref().filter(outside) {
            add("--to", place);
        }
        let connection = &self.args.connection;
        if let Some(account) = &connection.account {
            add("--account", account);
        }
        if let Some(base_url) = &connection.base_url {
            add("--base-url", base_url);
        }
        words
    }

    /// What `batchveo download` is to be told of: the sheet where that leads to the state file.
    fn what_to_fetch(&self) -> String {
        match &self.source {
            Source::File(sheet) if state_of(sheet, false) == self.paths.state => sheet.display().to_string(),
            Source::File(_) | Source::Stdin => self.paths.state.display().to_string(),
        }
    }

    fn exit_of(
        &self,
        finished: &Finished,
        selection: &Selection,
        asked_to_stop: Option<Exit>,
    ) -> anyhow::Result<Exit> {
        match (&finished.halt, asked_to_stop) {
            (Some(Halt::Interrupted), Some(exit)) => return Ok(exit),
            (None | Some(Halt::CollectOnly), _) if finished.results.is_err() => return Ok(Exit::Stopped),
            // As asked: what was bought is collected, and the rest counts as not succeeded.
            (None | Some(Halt::CollectOnly), _) => {}
            (Some(_), _) => return Ok(Exit::Stopped),
        }
        let tally = finished.batch.store().tally(selection)?;
        let failed: u64 = UNSUCCESSFUL.iter().map(|status| tally.count(*status)).sum();
        let allowed = self.args.max_failures.map_or(0, |most| most.of(tally.total()));
        let all_ended = tally.count(Status::Pending) == 0;
        Ok(if all_ended && failed <= allowed { Exit::Succeeded } else { Exit::Unsuccessful })
    }
}

/// The command that goes on with this run: its own words without `--retry`, which is done, without
/// `--no-buy`, which would not go on, and, when all the rows it chose have been run, without the
/// choice.
fn resume_words(words: impl Iterator<Item = String>, chosen_are_done: bool) -> Vec<String> {
    let done = |word: &str| word == "--retry" || (chosen_are_done && matches!(word, "--limit" | "--where"));
    let mut words = words.skip(1);
    let mut kept = vec!["batchveo".to_owned()];
    while let Some(word) = words.next() {
        match word.split_once('=') {
            None if word == "--no-buy" => {}
            Some((option, _)) if done(option) => {}
            None if done(&word) => drop(words.next()),
            Some(_) | None => kept.push(word),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_resumes_repeats_nothing_that_is_done() {
        let words = "/usr/bin/batchveo run a.csv --retry failed,lost --limit 5 --where=a=b --no-buy --retry=rejected -y";
        let kept = |done| resume_words(words.split(' ').map(str::to_owned), done).join(" ");
        assert_eq!(kept(false), "batchveo run a.csv --limit 5 --where=a=b -y");
        assert_eq!(kept(true), "batchveo run a.csv -y");
    }
}
