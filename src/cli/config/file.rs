//! One `batchveo.toml`, read into settings that know their line.
//!
//! Every problem of a file is told, each with its line: whoever mends a file mends it once. A value
//! is judged by the option it stands for, so that a file and the command line cannot differ.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::keys::{ACCOUNT, Key, Keys, OF_AN_ACCOUNT, is_of_a_project, nearest};
use crate::cli::paths::lies_inside;
use crate::download::{Destination, PlaceError};

/// Longest file read, in bytes: a configuration is a page, and a wrong file may be anything.
const LONGEST: u64 = 1 << 20;

/// In the table of accounts, the key that says which is used where none is named.
const DEFAULT: &str = "default";

/// Whose a file is, which decides what it may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// It lies beside a sheet, and may come from anywhere.
    Project,
    /// It is in the user's own configuration, or was named by the user.
    User,
}

/// Where in a file something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    /// From 1.
    pub(super) line: usize,
}

/// A value for a setting, in the words of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) words: Vec<String>,
    pub(super) place: Place,
}

/// Values of settings by their name.
pub(super) type Values = BTreeMap<String, Value>;

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) values: Values,
    /// The account that is used where none is named.
    pub(super) account: Option<Value>,
    pub(super) accounts: BTreeMap<String, Values>,
}

/// Reads the file at `path`; `None` if there is none. `home` is what `~` stands for.
///
/// # Errors
///
/// All that is wrong with it, a line for each.
pub(super) fn read(
    path: &Path,
    whose: Whose,
    keys: &Keys,
    home: Option<&Path>,
) -> Result<Option<Contents>, Vec<String>> {
    let told = |why: String| vec![format!("{}: {why}", plainly(path).display())];
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(told(error.to_string())),
    };
    // Reading a pipe or a device might never end.
    if !found.is_file() || found.len() > LONGEST {
        return Err(told("not a configuration: it should be a TOML file of a page or so".into()));
    }
    let text = fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
    let mut reading =
        Reading { path, whose, keys, home, text: &text, problems: Vec::new(), contents: Contents::default() };
    match DeTable::parse(&text) {
        Ok(table) => reading.whole(table.get_ref()),
        Err(error) => {
            let at = error.span().unwrap_or_default();
            reading.problem(&at, error.message());
        }
    }
    let mut problems = reading.problems;
    problems.sort();
    if problems.is_empty() {
        Ok(Some(reading.contents))
    } else {
        Err(problems.into_iter().map(|(_, problem)| problem).collect())
    }
}

/// A file on its way to [`Contents`].
struct Reading<'a> {
    path: &'a Path,
    whose: Whose,
    keys: &'a Keys,
    home: Option<&'a Path>,
    text: &'a str,
    /// With the place in the text, which is the order they are told in.
    problems: Vec<(usize, String)>,
    contents: Contents,
}

impl Reading<'_> {
    fn place(&self, at: &Range<usize>) -> Place {
        let before = self.text.bytes().take(at.start);
        let line = before.filter(|byte| *byte == b'\n').count() + 1;
        Place { file: self.path.to_owned(), line }
    }

    fn problem(&mut self, at: &Range<usize>, why: &str) {
        self.problems.push((at.start, format!("{}: {why}", self.place(at))));
    }

    fn whole(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            if name.get_ref() == ACCOUNT {
                self.account(value);
            } else if let Some(value) = self.setting(name, value) {
                self.contents.values.insert(name.get_ref().to_string(), value);
            }
        }
    }

    /// `account = "acme"`, or the accounts themselves.
    fn account(&mut self, value: &Spanned<DeValue<'_>>) {
        let found = value.get_ref();
        if let Some(name) = found.as_str() {
            self.contents.account = Some(self.choice(name, value));
        } else if let Some(accounts) = found.as_table() {
            for (name, account) in accounts {
                self.named_account(name.get_ref(), &name.span(), account);
            }
        } else {
            let why = format!("{ACCOUNT}: a name or a table is wanted, and this is {}", found.type_str());
            self.problem(&value.span(), &why);
        }
    }

    fn choice(&self, name: &str, value: &Spanned<DeValue<'_>>) -> Value {
        Value { words: vec![name.to_owned()], place: self.place(&value.span()) }
    }

    fn named_account(&mut self, name: &str, at: &Range<usize>, account: &Spanned<DeValue<'_>>) {
        if self.whose == Whose::Project {
            let why = format!("[{ACCOUNT}.{name}]: for your own file alone: accounts say where a key goes");
            return self.problem(at, &why);
        }
        let found = account.get_ref();
        if let (true, Some(chosen)) = (name == DEFAULT, found.as_str()) {
            self.contents.account = Some(self.choice(chosen, account));
        } else if let (false, Some(table)) = (name == DEFAULT, found.as_table()) {
            let mut values = Values::new();
            for (key, value) in table {
                if !OF_AN_ACCOUNT.contains(&key.get_ref().as_ref()) {
                    self.problem(&key.span(), &not_of_an_account(key.get_ref()));
                } else if let Some(value) = self.setting(key, value) {
                    values.insert(key.get_ref().to_string(), value);
                }
            }
            self.contents.accounts.insert(name.to_owned(), values);
        } else {
            let why = format!(
                "{ACCOUNT}.{name}: write [{ACCOUNT}.NAME] for an account, or {ACCOUNT}.{DEFAULT} = \"NAME\""
            );
            self.problem(at, &why);
        }
    }

    /// The value of a setting, if it has one that its option takes.
    fn setting(&mut self, name: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let keys = self.keys;
        let at = name.span();
        let name = name.get_ref().as_ref();
        let Some(key) = keys.get(name) else {
            self.problem(&at, &keys.unknown(name));
            return None;
        };
        if self.whose == Whose::Project && !is_of_a_project(name) {
            self.problem(
                &at,
                &format!("{name}: for your own file alone, since a sheet's folder may come from anywhere"),
            );
            return None;
        }
        let found = words(value.get_ref(), key).and_then(|words| {
            words.into_iter().map(|word| self.located(key, word)).collect::<Result<Vec<_>, _>>()
        });
        let refused = |words: Vec<String>| match key.refusal(&words) {
            Some(why) => Err(why),
            None => Ok(words),
        };
        match found.and_then(refused) {
            Ok(words) => Some(Value { words, place: self.place(&value.span()) }),
            Err(why) => {
                self.problem(&value.span(), &format!("{name}: {why}"));
                None
            }
        }
    }

    /// `word`, from the folder of this file if it is a path.
    fn located(&self, key: &Key, word: String) -> Result<String, String> {
        if !key.is_path(&word) {
            return Ok(word);
        }
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let is_bucket = match word.parse().map_err(|error: PlaceError| error.to_string())? {
            Destination::Bucket { .. } => true,
            Destination::Folder(_) => false,
        };
        if self.whose == Whose::Project
            && (is_bucket || word.starts_with('~') || !stays_inside(folder, Path::new(&word)))
        {
            return Err(format!(
                "`{word}` leads out of the folder of this file, which may come from anywhere"
            ));
        }
        if is_bucket {
            return Ok(word);
        }
        let path = match (word.strip_prefix("~/"), self.home) {
            (Some(below), Some(home)) => home.join(below),
            _ => folder.join(&word),
        };
        path.into_os_string().into_string().map_err(|path| {
            format!(
                "{} is not in UTF-8, which a path in a configuration has to be",
                Path::new(&path).display()
            )
        })
    }
}

/// Whether `path` is relative, and inside `folder`.
fn stays_inside(folder: &Path, path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        && lies_inside(folder, path)
}

fn not_of_an_account(name: &str) -> String {
    nearest(name, OF_AN_ACCOUNT.into_iter()).map_or_else(
        || format!("`{name}` is nothing that an account has; it may have {}", OF_AN_ACCOUNT.join(", ")),
        |near| format!("`{name}` is nothing that an account has: did you mean `{near}`?"),
    )
}

/// A value in the words of the command line: a list gives an option that can be repeated several,
/// and one that cannot a list with commas; a table gives pairs, `name=value`.
fn words(value: &DeValue<'_>, key: &Key) -> Result<Vec<String>, String> {
    if key.is_switch() {
        let on = value
            .as_bool()
            .ok_or_else(|| format!("true or false is wanted, and this is {}", value.type_str()))?;
        return Ok(vec![on.to_string()]);
    }
    if let (true, Some(on)) = (key.goes_without_value(), value.as_bool()) {
        return Ok(on.then(String::new).into_iter().collect());
    }
    let several = if let Some(values) = value.as_array() {
        all(values)?
    } else if let Some(table) = value.as_table() {
        let pair = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            let value = value.get_ref();
            let values = value.as_array().map_or_else(|| Ok(vec![word(value)?]), all)?;
            Ok::<_, String>(format!("{}={}", name.get_ref(), values.join(",")))
        };
        table.iter().map(pair).collect::<Result<_, _>>()?
    } else {
        vec![word(value)?]
    };
    Ok(if key.is_repeated() { several } else { vec![several.join(",")] })
}

fn all(values: &DeArray<'_>) -> Result<Vec<String>, String> {
    values.iter().map(|value| word(value.get_ref())).collect()
}

/// One value as a word.
fn word(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| "the number is too large".to_owned()),
        // `1e3` is a number to TOML and none to our options.
        DeValue::Float(number) => {
            number.as_str().parse::<f64>().map(|number| number.to_string()).map_err(|error| error.to_string())
        }
        other @ (DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_)) => {
            Err(format!("a text or a number is wanted, and this is {}", other.type_str()))
        }
    }
}

/// `path` so that it is seen to be one: a bare name is in the current folder.
pub(super) fn plainly(path: &Path) -> Cow<'_, Path> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new(".").join(path).into(),
        Some(_) | None => path.into(),
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", plainly(&self.file).display(), self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(text: &str, whose: Whose) -> Result<Contents, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("batchveo.toml");
        fs::write(&path, text).unwrap();
        let keys = Keys::of(&crate::cli::command());
        let home = folder.path().join("home");
        let read = read(&path, whose, &keys, Some(&home)).map(Option::unwrap_or_default);
        let shown = folder.path().display().to_string();
        read.map_err(|problems| problems.join("\n").replace(&shown, "F"))
    }

    fn words_of(text: &str, name: &str) -> Vec<String> {
        contents(text, Whose::User).unwrap().values[name].words.clone()
    }

    #[test]
    fn values_are_in_the_words_of_the_command_line() {
        assert_eq!(words_of("rpm = 5_000", "rpm"), ["5000"]);
        assert_eq!(words_of("rpm = 0x10", "rpm"), ["16"]);
        assert_eq!(words_of("poll = 'fixed:90s,5s'", "poll"), ["fixed:90s,5s"]);
        assert_eq!(words_of("price = {quality = 1.5, fast = 0.2}", "price"), ["fast=0.2,quality=1.5"]);
        assert_eq!(words_of("map = {prompt = 'caption'}", "map"), ["prompt=caption"]);
        assert_eq!(words_of("map = {image_urls = ['a', 'b']}", "map"), ["image_urls=a,b"]);
        assert_eq!(words_of("map = ['prompt=a', 'id=b']", "map"), ["prompt=a", "id=b"]);
        assert_eq!(words_of("max-cost = 1e2", "max-cost"), ["100"]);
        assert_eq!(words_of("yes = true", "yes"), ["true"]);
    }

    #[test]
    fn every_problem_is_told_with_its_line() {
        let text = "rpm = 0\n\nmax_cost = 5\nyes = 1\nshare = 0.3\nmode = ['a', {}]\n[account.acme]\nmode = 'fast'\n";
        let told = contents(text, Whose::User).unwrap_err();
        assert_eq!(
            told.lines().collect::<Vec<_>>(),
            [
                "F/batchveo.toml:1: rpm: number would be zero for non-zero type",
                "F/batchveo.toml:3: `max_cost` is no setting: did you mean `max-cost`?",
                "F/batchveo.toml:4: yes: true or false is wanted, and this is integer",
                "F/batchveo.toml:5: share: `0.3` is not a part of the account such as 30%",
                "F/batchveo.toml:6: mode: a text or a number is wanted, and this is table",
                "F/batchveo.toml:8: `mode` is nothing that an account has; it may have api-key-file, base-url, \
                 concurrency, max-cost, price, rpm, share",
            ]
        );
        let broken = contents("rpm = 1\nrpm = = 2\n", Whose::User).unwrap_err();
        assert!(broken.starts_with("F/batchveo.toml:2: "), "{broken}");
    }

    #[test]
    fn a_sheets_folder_sends_no_key_elsewhere_and_writes_nothing_outside() {
        for text in [
            "base-url = 'https://example.com'",
            "api-key-file = 'key'",
            "yes = true",
            "price = {quality = 0.01}",
            "[account.acme]\nrpm = 1",
            "account.default = 'acme'",
        ] {
            assert!(contents(text, Whose::Project).unwrap_err().starts_with("F/batchveo.toml:1: "), "{text}");
            assert!(contents(text, Whose::User).is_ok(), "{text}");
        }
        let chosen = contents("account = 'acme'", Whose::Project).unwrap().account.unwrap();
        assert_eq!(chosen.words, ["acme"]);
    }

    #[test]
    fn paths_lead_from_the_file_and_a_projects_not_out_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        for (path, inside) in [
            ("videos/new", true),
            ("./in/a", true),
            ("../out", false),
            ("in/../../out", false),
            ("/etc", false),
        ] {
            assert_eq!(stays_inside(folder.path(), Path::new(path)), inside, "{path}");
        }
        #[cfg(unix)]
        for (name, target) in [("link", "/"), ("dangling", "/nowhere/at/all")] {
            std::os::unix::fs::symlink(target, folder.path().join(name)).unwrap();
            assert!(!stays_inside(folder.path(), &Path::new(name).join("videos")), "{name}");
        }
        for place in ["~/evil", "~", "s3://bucket/stolen", "../out", "/etc"] {
            let text = format!("download = '{place}'");
            let told = contents(&text, Whose::Project).unwrap_err();
            assert!(told.contains(&format!("`{place}` leads out of the folder")), "{told}");
            assert!(contents(&text, Whose::User).is_ok(), "{place}");
        }
        let told = contents("download = 'file:///films'", Whose::User).unwrap_err();
        assert!(told.starts_with("F/batchveo.toml:1: download: file:///films cannot be used"), "{told}");
        assert_eq!(words_of("download = 's3://bucket/mine'", "download"), ["s3://bucket/mine"]);
        assert!(words_of("download = '~/films'", "download").concat().ends_with("/home/films"));
        let key = |text| words_of(text, "api-key-file").concat();
        assert!(key("api-key-file = 'keys/acme'").ends_with("keys/acme"));
        assert!(Path::new(&key("api-key-file = 'keys/acme'")).is_absolute());
        assert!(key("api-key-file = '~/acme'").ends_with("/home/acme"));
    }

    #[test]
    fn accounts() {
        let text =
            "[account]\ndefault = 'acme'\n[account.acme]\napi-key-file = 'k'\nrpm = 5\n[account.other]\n";
        let contents = contents(text, Whose::User).unwrap();
        assert_eq!(contents.account.unwrap().words, ["acme"]);
        assert_eq!(contents.accounts["acme"]["rpm"].words, ["5"]);
        assert_eq!(contents.accounts["acme"]["rpm"].place.line, 5);
        assert!(contents.accounts["other"].is_empty());
    }
}
