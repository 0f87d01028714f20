//! What bytes are, by the marks that files begin with.

use std::fmt;

/// A kind of image that the API takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// JPG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    Webp,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Jpeg => "JPG",
            Self::Png => "PNG",
            Self::Webp => "WebP",
        })
    }
}

/// What is said of no bytes.
pub(super) const EMPTY: &str = "an empty file";

/// Marks of binary files that people take for such images, or find in their place.
const OTHERS: [(&[u8], &str); 16] = [
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"\0\0\x01\0", "an icon (ICO)"),
    (b"8BPS", "a Photoshop file (PSD)"),
    (b"\xFF\x0A", "a JPEG XL"),
    (b"\0\0\0\x0CJXL ", "a JPEG XL"),
    (b"\0\0\0\x0CjP  ", "a JPEG 2000"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1F\x8B", "gzip-compressed data"),
    (b"RIFF", "a RIFF file that is no WebP"),
    (b"\x1A\x45\xDF\xA3", "a film (Matroska or WebM)"),
    (b"version https://git-lfs", "a pointer of Git LFS in the place of a file"),
    (b"data:", "the text of a data: URL"),
];

/// Brands of the container that AVIF, HEIC and MP4 share.
const BRANDS: [(&[u8], &str); 8] = [
    (b"avif", "an AVIF"),
    (b"avis", "an AVIF"),
    (b"heic", "a HEIC"),
    (b"heix", "a HEIC"),
    (b"hevc", "a HEIC"),
    (b"heim", "a HEIC"),
    (b"mif1", "a HEIF"),
    (b"msf1", "a HEIF"),
];

/// Words that texts begin with.
const TEXTS: [(&str, &str); 9] = [
    ("<svg", "an SVG"),
    ("<!doctype svg", "an SVG"),
    ("<!doctype html", "an HTML page"),
    ("<html", "an HTML page"),
    ("<head", "an HTML page"),
    ("<body", "an HTML page"),
    ("<script", "an HTML page"),
    ("{", "JSON"),
    ("[", "JSON"),
];

/// What `bytes`, the beginning of a file, are, or in words what else.
pub(super) fn kind_of(bytes: &[u8]) -> Result<Kind, &'static str> {
    match bytes {
        [] => return Err(EMPTY),
        [0xFF, 0xD8, 0xFF, ..] => return Ok(Kind::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => return Ok(Kind::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => return Ok(Kind::Webp),
        [_, _, _, _, b'f', b't', b'y', b'p', rest @ ..] => {
            let brand = BRANDS.iter().find(|(brand, _)| rest.starts_with(brand));
            return Err(brand.map_or("a film (MP4) or the like", |(_, what)| what));
        }
        _ => {}
    }
    let other = OTHERS.iter().find(|(mark, _)| bytes.starts_with(mark)).map(|(_, what)| *what);
    Err(other.or_else(|| text(bytes)).unwrap_or("something unknown"))
}

/// What a text is. Before its first tag there may be a mark, white space, a declaration and comments.
fn text(bytes: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    let mut xml = false;
    loop {
        let end = if rest.starts_with("<!--") {
            "-->"
        } else if rest.starts_with("<?") {
            xml = true;
            "?>"
        } else {
            break;
        };
        let Some((_, behind)) = rest.split_once(end) else { break };
        rest = behind.trim_start();
    }
    let found = TEXTS.iter().find(|(word, _)| rest.starts_with(word)).map(|(_, what)| *what);
    found.or(xml.then_some("an XML document")).or_else(|| {
        let readable = !text.is_empty() && !text.chars().any(|c| c == '\u{fffd}' || c == '\0');
        readable.then_some("text")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_their_bytes() {
        for (bytes, kind) in [
            (&b"\xFF\xD8\xFF\xE0"[..], Ok(Kind::Jpeg)),
            (b"\x89PNG\r\n\x1A\n", Ok(Kind::Png)),
            (b"RIFF\x01\x02\x03\x04WEBPVP8 ", Ok(Kind::Webp)),
            (b"", Err(EMPTY)),
            (b"\xFF\xD8", Err("something unknown")),
            (b"\x89PNG\n\x1A\n", Err("something unknown")),
            (b"GIF89a", Err("a GIF")),
            (b"RIFF\x01\x02\x03\x04WAVE", Err("a RIFF file that is no WebP")),
            (b"\0\0\0\x20ftypavif", Err("an AVIF")),
            (b"\0\0\0\x20ftypheic", Err("a HEIC")),
            (b"\0\0\0\x20ftypisom", Err("a film (MP4) or the like")),
            (b"BM\x10", Err("a BMP")),
            (b"II*\0", Err("a TIFF")),
            (b"%PDF-1.7", Err("a PDF")),
            (b"\n <!DOCTYPE HTML>", Err("an HTML page")),
            (b"\xEF\xBB\xBF<html lang", Err("an HTML page")),
            (b"<!-- a --><svg", Err("an SVG")),
            (b"<?xml version='1.0'?>\n<!-- > --><SVG", Err("an SVG")),
            (b"<?xml version='1.0'?><Error><Code>AccessDenied", Err("an XML document")),
            (b"<?xml", Err("an XML document")),
            (b"{\"error\":1}", Err("JSON")),
            (b"Not found", Err("text")),
            (
                b"version https://git-lfs.github.com/spec/v1",
                Err("a pointer of Git LFS in the place of a file"),
            ),
            (b"\0\0\0\0", Err("something unknown")),
        ] {
            assert_eq!(kind_of(bytes), kind, "{}", bytes.escape_ascii());
        }
    }
}
