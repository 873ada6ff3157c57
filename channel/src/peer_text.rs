//! The counterparty's own words, made safe to keep and to show: bounded, and without what could disturb a terminal.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_PEER_TEXT_BYTES;

/// At most [`MAX_PEER_TEXT_BYTES`] of what a peer said, without control characters. Empty if it said nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerText(String);

impl PeerText {
    /// Replaces what disturbs a terminal by U+FFFD, and cuts at a character's border.
    pub fn new(said: &str) -> Self {
        let mut kept = String::new();
        for character in said.chars() {
            let shown = if disturbs(character) { char::REPLACEMENT_CHARACTER } else { character };
            if kept.len() + shown.len_utf8() > MAX_PEER_TEXT_BYTES {
                break;
            }
            kept.push(shown);
        }
        Self(kept)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Control characters move the cursor; the marks of writing direction make a text read otherwise than it is.
fn disturbs(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Continues a sentence: nothing, or a colon and the words.
impl fmt::Display for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_words_are_kept_but_for_what_disturbs_a_terminal() {
        let cases = [
            ("", ""),
            ("the disk is nearly full", "the disk is nearly full"),
            ("größer als 5 ₿", "größer als 5 ₿"),
            ("a\u{1b}[2Jb\r\nc\u{7f}\u{85}", "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}\u{fffd}"),
            ("\u{202e}live\u{2069}", "\u{fffd}live\u{fffd}"),
        ];
        for (said, kept) in cases {
            assert_eq!(PeerText::new(said).as_str(), kept);
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_characters_border() {
        for (unit, kept) in [("a", 1_024), ("ä", 1_024), ("₿", 1_023), ("\u{7}", 1_023)] {
            let text = PeerText::new(&unit.repeat(MAX_PEER_TEXT_BYTES));
            assert_eq!(text.as_str().len(), kept, "{unit:?}");
        }
        assert_eq!(PeerText::new(&"a".repeat(MAX_PEER_TEXT_BYTES)).as_str().len(), MAX_PEER_TEXT_BYTES);
    }
}
