//! Whether bytes are a whole MP4 or MOV, by the lengths that its boxes give themselves.
//!
//! For what comes without a length: then a broken connection looks like the end.

/// Bytes of a box that say how long it is: 4 for the length, 4 for the kind, 8 for a length that
/// needs more.
const LONGEST_HEAD: usize = 16;

/// Walks the boxes of the outermost level, as their bytes pass.
#[derive(Debug, Default)]
pub(super) struct Boxes {
    head: Vec<u8>,
    /// Bytes of the current box that are still to come, once its head is known.
    left: u64,
    /// Whether the current box says that it goes on to the end, wherever that is.
    open: bool,
    /// Whether it was no box.
    odd: bool,
    seen: [bool; NEEDED.len()],
}

/// The boxes without which nothing can be shown.
const NEEDED: [&[u8; 4]; 3] = [b"ftyp", b"moov", b"mdat"];

/// How far bytes are a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walked {
    /// All of it, up to the end of its last box.
    Whole,
    /// Nothing is missing that can be told; its last box goes on to wherever the end is, or these are
    /// no boxes.
    Untold,
    /// A piece is missing.
    Cut,
}

impl Boxes {
    /// Takes the next bytes.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.open && !self.odd {
            if self.left > 0 {
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= count as u64;
                bytes = &bytes[count..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            self.begin();
        }
    }

    /// Begins a box, if all of its head is there.
    fn begin(&mut self) {
        let (Some(short), Some(kind)) = (self.head.first_chunk::<4>(), self.head.get(4..8)) else { return };
        let length = match u32::from_be_bytes(*short) {
            1 if self.head.len() < LONGEST_HEAD => return,
            1 => self.head.last_chunk().map_or(0, |long| u64::from_be_bytes(*long)),
            0 => u64::MAX,
            length => length.into(),
        };
        // Something else, as WebM is.
        self.odd |= kind != NEEDED[0] && !self.seen[0];
        for (seen, needed) in self.seen.iter_mut().zip(NEEDED) {
            *seen |= kind == needed;
        }
        self.open = length == u64::MAX;
        match length.checked_sub(self.head.len() as u64) {
            Some(left) => self.left = left,
            None => self.odd = true,
        }
        self.head.clear();
    }

    /// What they are, if this was the end.
    pub(super) fn end(&self) -> Walked {
        if self.odd || self.open {
            return Walked::Untold;
        }
        let whole = self.left == 0 && self.head.is_empty() && self.seen.iter().all(|seen| *seen);
        if whole { Walked::Whole } else { Walked::Cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(bytes: &[u8]) -> Walked {
        let (mut at_once, mut one_by_one) = (Boxes::default(), Boxes::default());
        at_once.pass(bytes);
        bytes.chunks(1).for_each(|byte| one_by_one.pass(byte));
        assert_eq!(at_once.end(), one_by_one.end());
        at_once.end()
    }

    #[test]
    fn a_video_is_whole_at_the_end_of_its_last_box_only() {
        let video = [
            &b"\0\0\0\x0cftypisom\0\0\0\x08moov\0\0\0\x01mdat\0\0\0\0\0\0\0\x14abcd"[..],
            b"\0\0\0\x09freex",
        ]
        .concat();
        let ends = (0..=video.len()).filter(|end| walked(&video[..*end]) == Walked::Whole);
        assert_eq!(ends.collect::<Vec<_>>(), [video.len() - 9, video.len()]);
        assert!((0..video.len() - 9).all(|end| walked(&video[..end]) == Walked::Cut));
        // Without a picture, to whatever end, and no boxes at all.
        assert_eq!(walked(b"\0\0\0\x0cftypisom\0\0\0\x08mdat"), Walked::Cut);
        assert_eq!(walked(b"\0\0\0\x0cftypisom\0\0\0\x08moov\0\0\0\0mdatabc"), Walked::Untold);
        assert_eq!(walked(b"\x1a\x45\xdf\xa3\0\0\0\0"), Walked::Untold);
        assert_eq!(walked(b"\0\0\0\x07ftyp"), Walked::Untold);
    }
}
