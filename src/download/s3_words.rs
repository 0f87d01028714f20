//! What an S3-compatible service says, in words for a person, and what it is told, in words for it.

use std::fmt::Write as _;

use object_store::MultipartId;

/// Whether this account may not do this; it may still be allowed to do other things.
pub(super) fn is_denied(error: &object_store::Error) -> bool {
    is_refused(error) && error.to_string().contains("AccessDenied")
}

pub(super) fn is_refused(error: &object_store::Error) -> bool {
    matches!(
        error,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
    )
}

/// An error in a few words: what the service says, or what the system does.
pub(super) fn told(error: &object_store::Error) -> String {
    let text = error.to_string();
    if text.contains("169.254.169.254") {
        return "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (files in ~/.aws \
                are not read)"
            .to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let cause = cause.to_string();
    let text = shortened(&text);
    if text.contains(&cause) || cause.contains("<Error>") { text } else { format!("{text}: {cause}") }
}

/// What an XML error says, instead of all of it.
pub(super) fn shortened(text: &str) -> String {
    match (between(text, "<Code>", "</Code>"), between(text, "<Message>", "</Message>")) {
        (Some(code), Some(message)) => format!("{message} ({code})"),
        _ => text.chars().take(500).collect(),
    }
}

/// The last part of the key, and the id, of each upload in a listing.
pub(super) fn uploads_in(listing: &str) -> Vec<(String, MultipartId)> {
    let uploads = listing.split("<Upload>").skip(1);
    let upload = |text: &str| {
        let key = between(text, "<Key>", "</Key>")?;
        let id = between(text, "<UploadId>", "</UploadId>")?;
        // Ours are letters, digits, hyphens and dots after the last slash, whatever the prefix is.
        Some((key.rsplit('/').next().unwrap_or_default().to_owned(), id.replace("&amp;", "&")))
    };
    uploads.filter_map(upload).collect()
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    text.split_once(begin)?.1.split_once(end).map(|(inner, _)| inner)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string never fails");
        text
    })
}

/// As headers want a key: everything but letters, digits, `-_.~/` as `%XX`.
pub(super) fn encoded(key: &str) -> String {
    key.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            text.push(byte.into());
        } else {
            write!(text, "%{byte:02X}").expect("writing to a string never fails");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_found_in_a_listing() {
        let listing = "<ListMultipartUploadsResult><Bucket>b</Bucket><Prefix>a&amp;b/.batchveo/s-</Prefix>\
            <Upload><Key>a&amp;b/.batchveo/s-1-1.part</Key><UploadId>X_1</UploadId></Upload>\
            <Upload><Key>.batchveo/s-2-1.part</Key><Initiator><ID>me</ID></Initiator><UploadId>Y</UploadId></Upload>\
            <Upload><Key>broken";
        let found = uploads_in(listing);
        assert_eq!(found, [("s-1-1.part", "X_1"), ("s-2-1.part", "Y")].map(|(k, i)| (k.into(), i.into())));
        assert_eq!(uploads_in("<html>"), []);
    }

    #[test]
    fn an_error_is_its_message() {
        let xml = "403: <?xml?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
        assert_eq!(shortened(xml), "Access Denied (AccessDenied)");
        assert_eq!(shortened("plain"), "plain");
    }

    #[test]
    fn keys_and_hashes_as_text() {
        assert_eq!(encoded("b/a b+\u{e4}/x.part"), "b/a%20b%2B%C3%A4/x.part");
        assert_eq!(hex(&[0, 0xab]), "00ab");
    }
}
