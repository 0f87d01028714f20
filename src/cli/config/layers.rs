//! Which value of a setting holds: the strength of options, environment and files.
//!
//! From the strongest: the option itself; an account that `--account` or `BATCHVEO_ACCOUNT` chose;
//! the environment; the file in the sheet's folder; an account that a file chose; the user's file;
//! the default. Bounds of what is spent and sent are the exception: of the file in the sheet's folder
//! and what is weaker, the stricter holds. An account goes with its choice, so that a key and the address it is sent to come
//! from one place: an account's key goes to its own address, the vendor's if it names none, unless
//! `--base-url` is given; `BATCHVEO_API_KEY` is an account of its own, and puts one that only a file chose
//! aside rather than going to that one's address.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::file::{Contents, Place, Value, Values, Whose, read};
use super::keys::{ACCOUNT, BASE_URL, KEY_FILE, KEY_VARIABLES, Key, Keys, VARIABLES, allows_more, nearest};
use crate::cli::{Environment, UsageError};
use crate::veo::BaseUrl;

/// The name of a file of settings.
const FILE: &str = "batchveo.toml";

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// An option on the command line.
    Option,
    /// A variable.
    Environment(&'static str),
    /// A line of a file.
    File(Place),
    /// A line about an account.
    Account(String, Place),
}

/// A value that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) words: Vec<String>,
    pub(super) origin: Origin,
}

/// What the command line says about where settings come from.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    /// `--config`.
    pub(super) config: Option<PathBuf>,
    /// `--no-config`.
    pub(super) no_config: bool,
    /// `--account`.
    pub(super) account: Option<String>,
    /// The sheet, whose folder may hold a file.
    pub(super) sheet: Option<PathBuf>,
}

/// A file that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Looked {
    pub(super) file: PathBuf,
    pub(super) found: bool,
}

/// What holds, options aside.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) values: BTreeMap<String, Setting>,
    /// The file in the sheet's folder.
    pub(super) project: Option<Looked>,
    /// The user's file.
    pub(super) user: Option<Looked>,
    /// The variable that holds the key, unless a file does that is stronger.
    pub(super) key: Option<&'static str>,
    /// An account that was chosen and put aside, because the environment has a key.
    pub(super) aside: Option<Setting>,
    /// Bounds that the file in the sheet's folder would loosen, and does not.
    pub(super) refused: BTreeMap<String, Place>,
}

/// Finds what holds.
///
/// # Errors
///
/// All that is wrong with the files and variables, a line for each.
pub(super) fn resolve(
    keys: &Keys,
    given: &Given,
    environment: Environment<'_>,
) -> Result<Settings, UsageError> {
    let mut problems = Vec::new();
    let home = set(environment, "HOME").map(PathBuf::from);
    let mut contents = |path: &Path, whose| match read(path, whose, keys, home.as_deref()) {
        Ok(contents) => contents,
        Err(told) => {
            problems.extend(told);
            None
        }
    };
    let mut settings = Settings::default();
    let (mut project, mut user) = (Contents::default(), Contents::default());
    if !given.no_config {
        let (mine, named) = user_file(given, environment);
        let theirs = project_file(given.sheet.as_deref());
        if let Some(mine) = &mine {
            let found = contents(mine, Whose::User);
            if named && found.is_none() && !mine.exists() {
                return Err(UsageError(format!("{}: there is no such configuration", mine.display())));
            }
            settings.user = Some(Looked { file: mine.clone(), found: found.is_some() });
            user = found.unwrap_or_default();
        }
        // The user's own folder may hold a sheet too.
        let is_mine = mine.as_ref().is_some_and(|mine| same_file(mine, &theirs));
        if !is_mine {
            let found = contents(&theirs, Whose::Project);
            settings.project = Some(Looked { file: theirs, found: found.is_some() });
            project = found.unwrap_or_default();
        }
    }
    let variables = variables(keys, environment, &mut problems);
    if !problems.is_empty() {
        return Err(UsageError(problems.join("\n")));
    }
    settings.key = KEY_VARIABLES.into_iter().find(|name| set(environment, name).is_some());
    settings.put_together(keys, given, project, user, variables)?;
    Ok(settings)
}

impl Settings {
    fn put_together(
        &mut self,
        keys: &Keys,
        given: &Given,
        project: Contents,
        user: Contents,
        mut variables: BTreeMap<String, Setting>,
    ) -> Result<(), UsageError> {
        let by_file = |chosen: Value| Setting { words: chosen.words, origin: Origin::File(chosen.place) };
        let by_option =
            given.account.clone().map(|name| Setting { words: vec![name], origin: Origin::Option });
        let firm = by_option.or_else(|| variables.remove(ACCOUNT));
        let chosen = firm.or_else(|| project.account.or(user.account).map(by_file));
        let account = chosen.as_ref().map(|chosen| self.account(chosen, &user.accounts)).transpose()?;
        let loose = matches!(chosen.as_ref().map(|chosen| &chosen.origin), Some(Origin::File(_)));
        let own_key = account.as_ref().is_some_and(|account| account.contains_key(KEY_FILE));
        let of_environment = self.key.is_some() || variables.contains_key(KEY_FILE);
        self.take(user.values, Origin::File);
        if loose && own_key && of_environment {
            self.aside = chosen;
            self.take_stricter(keys, project.values);
            self.values.append(&mut variables);
        } else {
            let name = chosen.as_ref().map(|chosen| chosen.words.concat()).unwrap_or_default();
            let of_account = |place| Origin::Account(name.clone(), place);
            let account = account.unwrap_or_default();
            if loose {
                self.take(account.clone(), of_account);
            }
            self.take_stricter(keys, project.values);
            self.values.append(&mut variables);
            if !loose {
                self.take(account.clone(), of_account);
            }
            if let Some(file) = account.get(KEY_FILE) {
                // Its key goes nowhere but to its own address, which is the vendor's unless it says so.
                let vendors = || Value { words: vec![BaseUrl::default_vendor().to_string()], ..file.clone() };
                let Value { words, place } = account.get(BASE_URL).cloned().unwrap_or_else(vendors);
                self.values.insert(BASE_URL.to_owned(), Setting { words, origin: of_account(place) });
            }
            self.values.extend(chosen.map(|chosen| (ACCOUNT.to_owned(), chosen)));
        }
        self.one_key(loose);
        if loose && !own_key { self.no_key_by_chance() } else { Ok(()) }
    }

    /// That no key of the environment goes to the address of an account that only a file chose.
    fn no_key_by_chance(&self) -> Result<(), UsageError> {
        let file = self.values.get(KEY_FILE).map(|setting| &setting.origin);
        let by_file = match file {
            Some(Origin::Environment(variable)) => Some(*variable),
            Some(Origin::Option | Origin::File(_) | Origin::Account(..)) | None => None,
        };
        let Some(variable) = self.key.or(by_file) else { return Ok(()) };
        let Some(Setting { words, origin: Origin::Account(name, place) }) = self.values.get(BASE_URL) else {
            return Ok(());
        };
        Err(UsageError(format!(
            "{place}: account {name} has an address and no key, and a file chose it: {variable} would go to {}. Give the \
             account its {KEY_FILE}, or choose it by --account {name}",
            words.concat()
        )))
    }

    /// Takes what the file in the sheet's folder says. It loosens no bound of the user, nor a default.
    fn take_stricter(&mut self, keys: &Keys, values: Values) {
        for (name, Value { words, place }) in values {
            let default = || keys.get(&name).map(Key::defaults).unwrap_or_default();
            let standing = self.values.get(&name).map_or_else(default, |setting| setting.words.clone());
            if allows_more(&name, &words, &standing) {
                self.refused.insert(name, place);
            } else {
                self.values.insert(name, Setting { words, origin: Origin::File(place) });
            }
        }
    }

    fn take(&mut self, values: Values, origin: impl Fn(Place) -> Origin) {
        self.values.extend(
            values
                .into_iter()
                .map(|(name, value)| (name, Setting { words: value.words, origin: origin(value.place) })),
        );
    }

    /// Of a key in the environment and one in a file, the stronger alone stays.
    fn one_key(&mut self, loose: bool) {
        let weaker = match self.values.get(KEY_FILE).map(|setting| &setting.origin) {
            None | Some(Origin::File(_)) => true,
            Some(Origin::Account(..)) => loose,
            Some(Origin::Option | Origin::Environment(_)) => false,
        };
        match (self.key, weaker) {
            (Some(_), true) => drop(self.values.remove(KEY_FILE)),
            (Some(_), false) => self.key = None,
            (None, _) => {}
        }
    }

    /// The values of the account that was chosen.
    fn account(&self, chosen: &Setting, accounts: &BTreeMap<String, Values>) -> Result<Values, UsageError> {
        let name = chosen.words.concat();
        if let Some(values) = accounts.get(&name) {
            return Ok(values.clone());
        }
        let by = match &chosen.origin {
            Origin::Option => "--account".to_owned(),
            origin @ (Origin::Environment(_) | Origin::File(_) | Origin::Account(..)) => origin.to_string(),
        };
        if name.trim().is_empty() {
            return Err(UsageError(format!("{by}: an account has a name, and this is none")));
        }
        let known: Vec<_> = accounts.keys().map(String::as_str).collect();
        let meant = nearest(&name, known.iter().copied());
        let known = match (&self.user, meant, known.as_slice()) {
            (None, ..) => "no file is read that could have one".into(),
            (Some(_), Some(meant), _) => format!("did you mean `{meant}`?"),
            (Some(Looked { file, .. }), None, []) => {
                format!("write [account.{name}] into {}", file.display())
            }
            (Some(Looked { file, .. }), None, known) => {
                format!("{} has {}", file.display(), known.join(", "))
            }
        };
        Err(UsageError(format!("{by}: there is no account `{name}`: {known}")))
    }
}

/// What the variables say.
fn variables(
    keys: &Keys,
    environment: Environment<'_>,
    problems: &mut Vec<String>,
) -> BTreeMap<String, Setting> {
    let mut values = BTreeMap::new();
    for (name, variables) in VARIABLES {
        let Some(key) = keys.get(name) else { continue };
        let found = variables.iter().find_map(|variable| Some((*variable, set(environment, variable)?)));
        let Some((variable, word)) = found else { continue };
        let words = vec![word];
        if let Some(why) = key.refusal(&words) {
            problems.push(format!("{variable}: {why}"));
        } else {
            values.insert(name.to_owned(), Setting { words, origin: Origin::Environment(variable) });
        }
    }
    values
}

/// The file in the folder of the sheet, or in the current one.
fn project_file(sheet: Option<&Path>) -> PathBuf {
    let folder = sheet.filter(|sheet| sheet.as_os_str() != "-").and_then(Path::parent);
    folder.unwrap_or(Path::new("")).join(FILE)
}

/// The user's file, by the conventions of the system, and whether it was named.
fn user_file(given: &Given, environment: Environment<'_>) -> (Option<PathBuf>, bool) {
    let named = given.config.clone().or_else(|| set(environment, "BATCHVEO_CONFIG").map(PathBuf::from));
    if named.is_some() {
        return (named, true);
    }
    let folder = |name| set(environment, name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let home = || folder("HOME").map(|home| home.join(".config"));
    let config = folder("XDG_CONFIG_HOME").or_else(home).or_else(|| folder("APPDATA"));
    (config.map(|config| config.join("batchveo").join(FILE)), false)
}

fn same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(one).is_some_and(|one| Some(one) == real(other))
}

/// The variable `name`, unless it is blank.
fn set(environment: Environment<'_>, name: &str) -> Option<String> {
    environment(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option => f.write_str("command line"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(place) => write!(f, "{place}"),
            Self::Account(name, place) => write!(f, "account {name}, {place}"),
        }
    }
}

#[cfg(test)]
mod tests;
