//! A prompt as a word: `A cat, asleep` becomes `a-cat-asleep`.

/// The letters and digits of `text` in ASCII and lower case, with `-` between words, at most
/// `longest` of them; empty if nothing of it can be spelt so.
pub(super) fn slug(text: &str, longest: usize) -> String {
    let mut slug = String::new();
    let mut word_ended = false;
    let mut letters = text.chars().map(|c| if c.is_ascii() { Ok(c) } else { Err(c) }).flat_map(|c| {
        let (ascii, spelt) = match c {
            Ok(c) => (Some(c), ""),
            // What it does not know is between words.
            Err(c) => (None, deunicode::deunicode_char(c).unwrap_or(" ")),
        };
        ascii.into_iter().chain(spelt.chars())
    });
    while slug.len() < longest
        && let Some(c) = letters.next()
    {
        if !c.is_ascii_alphanumeric() {
            word_ended = true;
            continue;
        }
        if std::mem::take(&mut word_ended) && !slug.is_empty() {
            if slug.len() + 1 == longest {
                break;
            }
            slug.push('-');
        }
        slug.push(c.to_ascii_lowercase());
    }
    slug
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn words_are_spelt_in_ascii() {
        for (text, longest, expected) in [
            ("A cat, asleep", 60, "a-cat-asleep"),
            ("  Ünïcödé   straße!", 60, "unicode-strasse"),
            ("東京の夜", 60, "dong-jing-noye"),
            ("don't stop", 60, "don-t-stop"),
            ("one two three", 7, "one-two"),
            ("one two three", 8, "one-two"),
            ("one two three", 9, "one-two-t"),
            ("\u{e000}\u{1b}[2J…", 60, "2j"),
            ("\u{e000}", 60, ""),
        ] {
            assert_eq!(slug(text, longest), expected, "{text}");
        }
    }
}
