//! What names a place for videos, before anything there is touched.

use std::path::PathBuf;
use std::str::FromStr;

use super::place::PlaceError;

/// A place by its name: told apart here and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A folder of this machine.
    Folder(PathBuf),
    /// `s3://bucket/prefix`.
    Bucket {
        /// What is in front of every name in it; may be empty.
        prefix: String,
    },
}

impl FromStr for Destination {
    type Err = PlaceError;

    /// A folder, or `s3://bucket/prefix`.
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let Some((scheme, address)) = text.split_once("://") else { return Ok(Self::Folder(text.into())) };
        if scheme != "s3" {
            let why = format!("`{scheme}` is no kind of place: name a folder, or s3://bucket/prefix");
            return Err(PlaceError::Unusable { place: text.to_owned(), why });
        }
        let prefix = address.split_once('/').map_or("", |(_, prefix)| prefix);
        Ok(Self::Bucket { prefix: prefix.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_a_bucket_or_nothing() {
        let bucket = |prefix: &str| Destination::Bucket { prefix: prefix.into() };
        for (text, named) in [
            ("films", Destination::Folder("films".into())),
            ("/mnt/s3:/films", Destination::Folder("/mnt/s3:/films".into())),
            ("s3://bucket", bucket("")),
            ("s3://bucket/a/b", bucket("a/b")),
        ] {
            assert_eq!(text.parse::<Destination>().unwrap(), named, "{text}");
        }
        for text in ["file:///films", "gs://bucket", "S3://bucket", "://"] {
            let told = text.parse::<Destination>().unwrap_err().to_string();
            assert!(told.starts_with(text) && told.contains("name a folder, or s3://"), "{told}");
        }
    }
}
