//! When two names are one.
//!
//! Where a file system ignores case or how letters are composed, two names that differ in nothing
//! else are one file, and the second video would replace the first. A name's fold is the same for
//! all of them: a hash, because a million of them are compared.

use unicode_normalization::UnicodeNormalization;

/// What names that are one have in common.
pub type Fold = [u8; 16];

/// What does not make names differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Folding {
    /// Whatever does not on some file system: case in any script, composition, and marks that show
    /// nothing. Rather too much than too little.
    Anywhere,
    /// What does not at one place.
    At {
        /// Upper and lower case.
        case: bool,
        /// Composed and decomposed letters.
        normalization: bool,
    },
}

/// The fold of `name`.
#[must_use]
pub fn fold(name: &str, folding: Folding) -> Fold {
    let folded = match folding {
        Folding::Anywhere if name.is_ascii() => name.to_ascii_lowercase(),
        Folding::Anywhere => {
            let shown = name.chars().filter(|c| !shows_nothing(*c)).nfd();
            // To upper case first: it knows more letters to be one.
            let upper: String = shown.flat_map(char::to_uppercase).collect();
            upper.to_lowercase().nfd().collect()
        }
        Folding::At { case, normalization } => {
            let composed = if normalization { name.nfc().collect() } else { name.to_owned() };
            if case { composed.chars().map(upper).collect() } else { composed }
        }
    };
    let mut fold = [0; 16];
    fold.copy_from_slice(&blake3::hash(folded.as_bytes()).as_bytes()[..16]);
    fold
}

/// The upper case of a letter that has one of one letter: file systems compare letter by letter.
fn upper(c: char) -> char {
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) => upper,
        (_, _) => c,
    }
}

/// Whether file systems that fold names pass over `c` (the default ignorable code points).
pub(super) const fn shows_nothing(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_one_file_somewhere_has_one_fold() {
        let anywhere = |name| fold(name, Folding::Anywhere);
        for (one, other) in [
            ("Cat", "cAT"),
            ("É", "e\u{301}"),
            ("STRASSE", "straße"),
            ("\u{212a}ey", "key"),
            ("a\u{200d}b", "ab"),
            ("ΣΑΣ", "σας"),
            ("ﬁ", "FI"),
        ] {
            assert_eq!(anywhere(one), anywhere(other), "{one} {other}");
            let plain = Folding::At { case: false, normalization: false };
            assert_ne!(fold(one, plain), fold(other, plain), "{one} {other}");
        }
        assert_ne!(anywhere("a"), anywhere("ä"));
        let case = Folding::At { case: true, normalization: false };
        assert_eq!(fold("Ä", case), fold("ä", case));
        assert_ne!(fold("Ä", case), fold("a\u{308}", case));
        assert_ne!(fold("ß", case), fold("ss", case), "no file system looks at more than a letter");
    }
}
