//! What can be set in a file: the long options of the commands that read one.
//!
//! Rule: options are found on the commands themselves, so a new one is a setting at once, in the
//! user's own file. What a sheet's folder may set is listed here one by one: such a folder may come
//! from anywhere, and whoever wrote it must not choose where a key goes, what files outside are
//! written, or whether a purchase is asked about.

use std::any::TypeId;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

use crate::cli::values::{MaxFailures, dollars, share};

/// The commands that take settings from files.
pub(super) const CONFIGURED: [&str; 4] = ["run", "check", "download", "verify"];

/// The key that chooses an account, and the table that holds them.
pub(super) const ACCOUNT: &str = "account";

/// The key that names a file with the API key.
pub(super) const KEY_FILE: &str = "api-key-file";

/// The key that says where requests go.
pub(super) const BASE_URL: &str = "base-url";

/// The key that says where videos go.
pub(super) const DOWNLOAD: &str = "download";

/// Variables that hold the API key itself, the stronger first.
pub(super) const KEY_VARIABLES: [&str; 2] = ["BATCHVEO_API_KEY", "APIXO_API_KEY"];

/// Options that mean one call, one sheet or a rehearsal, and are no settings.
const OF_THE_MOMENT: [&str; 25] = [
    "accept-changes",
    "balance",
    "check",
    "config",
    "dry-run",
    "events",
    "help",
    "json",
    "limit",
    "no-buy",
    "no-config",
    "output",
    "retry",
    "scenario",
    "sim-balance",
    "sim-fail-rate",
    "sim-seed",
    "simulate",
    "state",
    "status",
    "summary",
    "time-scale",
    "verbose",
    "version",
    "where",
];

/// What the file in a sheet's folder may set.
///
/// Not among them, and why: `base-url` and `api-key-file` send a key somewhere, `price` and `yes`
/// keep a purchase from being asked about, `quiet` and `progress` keep it from being seen, `images` calls
/// hosts that the sheet names, `allow-private-hosts` opens the network behind a firewall, `metrics` and
/// `metrics-file` open a port and replace a file, `callback-listen` opens a port and `callback-url` tells
/// a host of every video. An account it may choose
/// by its name: it is one that the user has set up, and its key goes where the user said. The account's
/// limits and bounds of what is spent it may only lower ([`allows_more`]).
const OF_A_PROJECT: [&str; 28] = [
    ACCOUNT,
    "aspect-ratio",
    "concurrency",
    "download",
    "download-concurrency",
    "format",
    "grace",
    "log-format",
    "map",
    "max-cost",
    "max-duration",
    "max-failures",
    "mode",
    "name",
    "names",
    "no-download",
    "outage-timeout",
    "paid-retries",
    "poll",
    "poll-share",
    "provider",
    "rpm",
    "samples",
    "share",
    "sheet",
    "sidecar",
    "skip-invalid",
    "task-timeout",
];

/// What belongs to an account.
pub(super) const OF_AN_ACCOUNT: [&str; 7] =
    [KEY_FILE, BASE_URL, "concurrency", "max-cost", "price", "rpm", "share"];

/// Settings that a variable of the environment can hold, and its names, the stronger first.
pub(super) const VARIABLES: [(&str, &[&str]); 12] = [
    (ACCOUNT, &["BATCHVEO_ACCOUNT"]),
    (KEY_FILE, &["BATCHVEO_API_KEY_FILE"]),
    (BASE_URL, &["BATCHVEO_BASE_URL", "APIXO_BASE_URL"]),
    ("concurrency", &["BATCHVEO_CONCURRENCY"]),
    ("download", &["BATCHVEO_DOWNLOAD"]),
    ("log-format", &["BATCHVEO_LOG_FORMAT"]),
    ("max-cost", &["BATCHVEO_MAX_COST"]),
    ("metrics", &["BATCHVEO_METRICS"]),
    ("metrics-file", &["BATCHVEO_METRICS_FILE"]),
    ("progress", &["BATCHVEO_PROGRESS"]),
    ("rpm", &["BATCHVEO_RPM"]),
    ("share", &["BATCHVEO_SHARE"]),
];

/// A setting: the option it is the name of.
#[derive(Debug, Clone)]
pub(super) struct Key {
    arg: Arg,
}

/// All settings, by name.
#[derive(Debug)]
pub(super) struct Keys(BTreeMap<String, Key>);

impl Keys {
    /// The settings of the whole command line.
    pub(super) fn of(whole: &Command) -> Self {
        let subcommands = whole.get_subcommands().filter(|command| CONFIGURED.contains(&command.get_name()));
        let mut keys = BTreeMap::new();
        for arg in subcommands.chain([whole]).flat_map(Command::get_arguments) {
            let Some(long) = arg.get_long().filter(|long| !OF_THE_MOMENT.contains(long)) else { continue };
            keys.entry(long.to_owned()).or_insert_with(|| Key { arg: arg.clone() });
        }
        Self(keys)
    }

    /// The setting of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Key> {
        self.0.get(name)
    }

    /// The names, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Why there is no setting `name`, and what may be meant.
    pub(super) fn unknown(&self, name: &str) -> String {
        if name == "api-key" {
            return format!(
                "`{name}` is no setting: put the key into a file of its own, and name it with {KEY_FILE}"
            );
        }
        if OF_THE_MOMENT.contains(&name) {
            return format!("`{name}` is for the command line alone");
        }
        nearest(name, self.names()).map_or_else(
            || format!("`{name}` is no setting; batchveo config show lists them"),
            |near| format!("`{name}` is no setting: did you mean `{near}`?"),
        )
    }
}

/// Whether the file in a sheet's folder may set `name`.
pub(super) fn is_of_a_project(name: &str) -> bool {
    OF_A_PROJECT.contains(&name)
}

/// Whether `new` allows more spending or more requests than what stands, or may; only then has the file
/// in a sheet's folder no say in it. Nothing stands where there is no bound.
pub(super) fn allows_more(name: &str, new: &[String], standing: &[String]) -> bool {
    fn more<T: PartialOrd + Copy>(new: Option<T>, standing: Option<T>) -> bool {
        new.partial_cmp(&standing).is_none_or(Ordering::is_gt)
    }
    let (Some(new), Some(standing)) = (new.first(), standing.first()) else { return false };
    match name {
        "rpm" | "concurrency" | "paid-retries" => more(new.parse::<u32>().ok(), standing.parse::<u32>().ok()),
        "share" => more(share(new).ok(), share(standing).ok()),
        "max-cost" => more(dollars(new).ok(), dollars(standing).ok()),
        "max-failures" => more(new.parse::<MaxFailures>().ok(), standing.parse::<MaxFailures>().ok()),
        _ => false,
    }
}

/// The one of `names` that `name` most likely stands for.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this, two names have only letters in common.
    const ALIKE: f64 = 0.8;
    let wanted = name.to_lowercase().replace('_', "-");
    let slips = |known: &str| strsim::damerau_levenshtein(&wanted, known);
    let known: Vec<&str> = names.collect();
    let mistyped = known.iter().copied().min_by_key(|known| slips(known)).filter(|known| slips(known) <= 1);
    mistyped.or_else(|| {
        let likeness = known.into_iter().map(|known| (strsim::jaro_winkler(&wanted, known), known));
        likeness
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .map(|(_, known)| known)
    })
}

impl Key {
    /// Whether it is either on or off.
    pub(super) fn is_switch(&self) -> bool {
        matches!(self.arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse)
    }

    /// Whether the option can be given without a value, so that it can be just on or off.
    pub(super) fn goes_without_value(&self) -> bool {
        self.arg.get_num_args().is_some_and(|values| values.min_values() == 0)
    }

    /// Whether the option can be given several times, so that a list gives several values.
    pub(super) fn is_repeated(&self) -> bool {
        matches!(self.arg.get_action(), ArgAction::Append)
    }

    /// Whether `word` is a path for it, which is then relative to the file that says so, or the
    /// address of a place.
    pub(super) fn is_path(&self, word: &str) -> bool {
        let a_path = self.arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
        let a_place = self.arg.get_long() == Some(DOWNLOAD);
        !word.is_empty() && (a_path || a_place)
    }

    /// The values it has where nobody says anything.
    pub(super) fn defaults(&self) -> Vec<String> {
        self.arg.get_default_values().iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// What the option itself has against `words`.
    pub(super) fn refusal(&self, words: &[String]) -> Option<String> {
        use std::error::Error;
        if self.is_switch() {
            return words
                .iter()
                .find(|word| !matches!(word.as_str(), "true" | "false"))
                .map(|word| format!("`{word}` is neither true nor false"));
        }
        let name = self.arg.get_long().unwrap_or_default().to_owned();
        let words: Vec<_> = words.iter().map(|word| format!("--{name}={word}")).collect();
        // Alone: what it needs or excludes is for the command line.
        let mut alone = Arg::new("alone")
            .long(name)
            .action(self.arg.get_action().clone())
            .value_parser(self.arg.get_value_parser().clone());
        if let Some(delimiter) = self.arg.get_value_delimiter() {
            alone = alone.value_delimiter(delimiter);
        }
        let whole = Command::new("batchveo").no_binary_name(true).disable_help_flag(true).arg(alone);
        let error = whole.try_get_matches_from(words).err()?;
        Some(error.source().map_or_else(
            || {
                let text = error.to_string();
                text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
            },
            ToString::to_string,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_the_lasting_options_of_the_commands() {
        let keys = Keys::of(&super::super::super::command());
        for name in ["rpm", "map", "poll", "price", "api-key-file", "yes", "log-format", "account"] {
            assert!(keys.get(name).is_some(), "{name}");
        }
        for name in OF_THE_MOMENT {
            assert!(keys.get(name).is_none(), "{name}");
        }
        for name in ["manifest", "sim-seed", "listen", "as-manifest"] {
            assert!(keys.get(name).is_none(), "{name}");
        }
    }

    #[test]
    fn what_sends_keys_or_spends_unseen_is_not_for_a_sheets_folder() {
        for name in [
            "base-url",
            "api-key-file",
            "yes",
            "quiet",
            "progress",
            "price",
            "images",
            "allow-private-hosts",
            "metrics",
            "metrics-file",
            "callback-url",
            "callback-listen",
        ] {
            assert!(!is_of_a_project(name), "{name}");
        }
    }

    #[test]
    fn more_is_what_spends_or_asks_more_or_may() {
        let more = |name, new: &str, standing: &str| allows_more(name, &[new.into()], &[standing.into()]);
        for (name, less, greater) in [
            ("rpm", "900", "10000"),
            ("concurrency", "9", "10"),
            ("paid-retries", "0", "1"),
            ("share", "9.5%", "10%"),
            ("max-cost", "9.99", "50"),
            ("max-failures", "9", "10"),
            ("max-failures", "9%", "10%"),
        ] {
            let compared = [more(name, less, greater), more(name, less, less), more(name, greater, less)];
            assert_eq!(compared, [false, false, true], "{name}");
            assert!(!allows_more(name, &[greater.into()], &[]), "{name}: nothing stands");
            assert!(OF_A_PROJECT.contains(&name), "{name}");
        }
        assert!(more("max-failures", "1%", "100") && more("max-failures", "1", "100%"));
        assert!(!more("samples", "9", "1"));
    }

    #[test]
    fn what_a_file_may_hold_is_a_setting() {
        let keys = Keys::of(&super::super::super::command());
        for name in OF_A_PROJECT.into_iter().chain(OF_AN_ACCOUNT) {
            assert!(keys.get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_told_with_what_may_be_meant() {
        let keys = Keys::of(&super::super::super::command());
        for (name, words) in [
            ("max_cost", "did you mean `max-cost`?"),
            ("RPM", "did you mean `rpm`?"),
            ("concurency", "did you mean `concurrency`?"),
            ("zzz", "config show"),
            ("retry", "command line alone"),
            ("api-key", "api-key-file"),
        ] {
            assert!(keys.unknown(name).contains(words), "{name}: {}", keys.unknown(name));
        }
    }

    #[test]
    fn an_option_judges_its_values_itself() {
        let keys = Keys::of(&super::super::super::command());
        let refusal = |name: &str, words: &[&str]| {
            keys.get(name).unwrap().refusal(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        };
        for (name, words) in [
            ("rpm", &["5000"][..]),
            ("poll", &["fixed:90s,5s"]),
            ("map", &["prompt=caption", "id=name"]),
            ("price", &["quality=1.5,fast=0.2"]),
            ("skip-invalid", &["true"]),
        ] {
            assert_eq!(refusal(name, words), None, "{name}");
        }
        assert!(refusal("rpm", &["0"]).unwrap().contains("zero"));
        assert!(refusal("share", &["150%"]).unwrap().contains("30%"));
        assert!(refusal("skip-invalid", &["maybe"]).is_some());
    }
}
