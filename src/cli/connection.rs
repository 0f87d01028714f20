//! Where requests go and with whose key.
//!
//! The key comes from a file or the environment and never from an argument: arguments can be read
//! by every user of the machine and stay in the shell's history.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Environment, UsageError};
use crate::report::wording::command_line;
use crate::veo::{ApiKey, BaseUrl};

/// What is said when there is no key.
pub const NO_KEY: &str = "set BATCHVEO_API_KEY, or try --simulate";

/// Longest key file read, in bytes: a key is a line, and a wrong file may be anything.
const LONGEST_KEY_FILE: u64 = 4096;

/// Options that say where requests go.
#[expect(clippy::doc_markdown, reason = "these comments are the help, shown as they stand")]
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Account")]
pub struct ConnectionArgs {
    /// An account of your batchveo.toml: its key, its limits, its cap
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// The API, with or without /api/v1; plain http only to this machine [default: the vendor's]
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// A file with the API key, on one line, that nobody else can read; BATCHVEO_API_KEY and
    /// APIXO_API_KEY hold the key itself
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
}

impl ConnectionArgs {
    /// The API key: of `--api-key-file`, `BATCHVEO_API_KEY` or `APIXO_API_KEY`, in that order,
    /// trimmed; an empty variable is as good as none.
    ///
    /// # Errors
    ///
    /// There is none ([`NO_KEY`]); or the file named cannot be read, is empty, or is no key file.
    pub fn api_key(&self, environment: Environment<'_>) -> Result<ApiKey, UsageError> {
        if let Some(path) = &self.api_key_file {
            let shown = path.display();
            let unusable = |why: &str| UsageError(format!("--api-key-file {shown}: {why}"));
            let found = fs::metadata(path).map_err(|error| unusable(&error.to_string()))?;
            if others_can_read(path, &found, environment) {
                let mend = command_line(&["chmod", "600", &shown.to_string()]);
                return Err(unusable(&format!("others on this machine can read it: {mend}")));
            }
            if found.len() > LONGEST_KEY_FILE {
                return Err(unusable("too long for a key: it should hold the key on one line"));
            }
            let text = fs::read_to_string(path).map_err(|error| unusable(&error.to_string()))?;
            return ApiKey::new(&text).map_err(|error| unusable(&error.to_string()));
        }
        let key = first_set(environment, ["BATCHVEO_API_KEY", "APIXO_API_KEY"]);
        let key = key.ok_or_else(|| UsageError(NO_KEY.into()))?;
        ApiKey::new(&key).map_err(|error| UsageError(error.to_string()))
    }

    /// The base URL of `--base-url`, `BATCHVEO_BASE_URL` or `APIXO_BASE_URL`, in that order; the
    /// vendor's without any.
    ///
    /// # Errors
    ///
    /// It is not one that a key may be sent to.
    pub fn base_url(&self, environment: Environment<'_>) -> Result<BaseUrl, UsageError> {
        let variables = || first_set(environment, ["BATCHVEO_BASE_URL", "APIXO_BASE_URL"]);
        match self.base_url.clone().or_else(variables) {
            Some(given) => given.parse().map_err(|error| UsageError(format!("{error}"))),
            None => Ok(BaseUrl::default_vendor()),
        }
    }
}

/// Whether the group or everybody may read a key file, whoever owns it. Not asked where files have
/// no such bits (Windows), nor of what systemd hands to a service: that lies in a folder which the
/// service alone can enter, and its group bits stand for the service itself.
#[cfg(unix)]
fn others_can_read(path: &Path, found: &fs::Metadata, environment: Environment<'_>) -> bool {
    use std::os::unix::fs::MetadataExt;
    let handed = environment("CREDENTIALS_DIRECTORY").filter(|folder| Path::new(folder).is_absolute());
    let everybody = if handed.is_some_and(|folder| path.starts_with(folder)) { 0o004 } else { 0o044 };
    found.is_file() && found.mode() & everybody != 0
}

#[cfg(not(unix))]
fn others_can_read(_: &Path, _: &fs::Metadata, _: Environment<'_>) -> bool {
    false
}

/// The first of `names` that is set and not blank.
fn first_set(environment: Environment<'_>, names: [&str; 2]) -> Option<String> {
    let mut values = names.into_iter().filter_map(environment);
    values.find_map(|value| Some(value.trim().to_owned()).filter(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        let variables: Vec<_> = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        move |name| variables.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
    }

    /// Writes a file that its owner alone can read.
    fn write_key(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        #[cfg(unix)]
        set_mode(path, 0o600);
    }

    #[cfg(unix)]
    fn set_mode(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_refused_with_the_mend() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my key");
        write_key(&path, "secret");
        let args = ConnectionArgs { api_key_file: Some(path.clone()), ..ConnectionArgs::default() };
        let handed = folder.path().display().to_string();
        for (mode, good, good_as_credential) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o620, true, true),
            (0o640, false, true),
            (0o604, false, false),
            (0o444, false, false),
        ] {
            set_mode(&path, mode);
            let plain = args.api_key(&|_| None);
            let credential = args.api_key(&|name| (name == "CREDENTIALS_DIRECTORY").then(|| handed.clone()));
            assert_eq!((plain.is_ok(), credential.is_ok()), (good, good_as_credential), "{mode:o}");
            if let Err(error) = plain {
                let mend = format!("can read it: chmod 600 '{}'", path.display());
                assert!(error.to_string().ends_with(&mend), "{error}");
            }
        }
    }

    #[test]
    fn the_file_comes_first_then_our_variable_then_the_vendors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_key(&path, "\u{20}from-file\r\n");
        let file = ConnectionArgs { api_key_file: Some(path), ..ConnectionArgs::default() };
        let none = ConnectionArgs::default();
        let both: &[_] = &[("BATCHVEO_API_KEY", "ours"), ("APIXO_API_KEY", "theirs")];
        for (args, variables, key) in [
            (&file, both, "from-file"),
            (&none, both, "ours"),
            (&none, &[("BATCHVEO_API_KEY", " \n"), ("APIXO_API_KEY", " theirs\n")], "theirs"),
        ] {
            assert_eq!(args.api_key(&environment(variables)).unwrap().expose(), key);
        }
        for unset in [&[][..], &[("BATCHVEO_API_KEY", ""), ("APIXO_API_KEY", " ")]] {
            let error = none.api_key(&environment(unset)).unwrap_err();
            assert_eq!(error.to_string(), "set BATCHVEO_API_KEY, or try --simulate");
        }
    }

    #[test]
    fn a_wrong_key_file_is_named_and_never_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let env = environment(&[("BATCHVEO_API_KEY", "ours")]);
        let file = |name: &str, content: Option<&str>| {
            let path = folder.path().join(name);
            if let Some(content) = content {
                write_key(&path, content);
            }
            let args = ConnectionArgs { api_key_file: Some(path), ..ConnectionArgs::default() };
            args.api_key(&env).unwrap_err().to_string()
        };
        assert!(file("absent", None).contains("absent: "));
        assert!(file("empty", Some(" \n")).contains("empty: "));
        let long = file("long", Some(&"secret ".repeat(1_000)));
        assert!(long.contains("too long for a key") && !long.contains("secret "), "{long}");
    }

    #[test]
    fn base_urls() {
        let url = |url: Option<&str>, variables: &[(&str, &str)]| {
            let args = ConnectionArgs { base_url: url.map(Into::into), ..ConnectionArgs::default() };
            args.base_url(&environment(variables)).map(|url| url.to_string())
        };
        let both = [
            ("BATCHVEO_BASE_URL", "https://ours.example"),
            ("APIXO_BASE_URL", "https://theirs.example/api/v1/"),
        ];
        assert_eq!(url(Some(" https://given.example "), &both).as_deref(), Ok("https://given.example"));
        assert_eq!(url(None, &both).as_deref(), Ok("https://ours.example"));
        assert_eq!(url(None, &both[1..]).as_deref(), Ok("https://theirs.example"));
        assert_eq!(url(None, &[("BATCHVEO_BASE_URL", " ")]), Ok(BaseUrl::default_vendor().to_string()));
        assert!(url(Some("http://api.example"), &[]).unwrap_err().to_string().contains("https://"));
    }
}
