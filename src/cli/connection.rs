//! Where requests go and with whose key.
//!
//! The key comes from a file or the environment and never from an argument: arguments can be read
//! by every user of the machine and stay in the shell's history.

use std::fs;
use std::path::PathBuf;

use super::{Environment, UsageError};
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
    /// The API, with or without /api/v1; plain http only to this machine [env: BATCHVEO_BASE_URL,
    /// APIXO_BASE_URL] [default: the vendor's]
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// A file with the API key, on one line [env: BATCHVEO_API_KEY, APIXO_API_KEY hold the key itself]
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
            let size = fs::metadata(path).map_err(|error| unusable(&error.to_string()))?.len();
            if size > LONGEST_KEY_FILE {
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

    #[test]
    fn the_file_comes_first_then_our_variable_then_the_vendors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "\u{20}from-file\r\n").unwrap();
        let file = ConnectionArgs { api_key_file: Some(path), base_url: None };
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
                fs::write(&path, content).unwrap();
            }
            let args = ConnectionArgs { api_key_file: Some(path), base_url: None };
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
            let args = ConnectionArgs { base_url: url.map(Into::into), api_key_file: None };
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
