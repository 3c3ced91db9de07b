//! The recogniser's vocabulary: what its tokens mean as text. Read from a Hugging Face
//! `tokenizer.json` of a byte-fallback BPE; only the way from tokens to text is needed here.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Tokens a vocabulary may have.
const TOKENS_MAX: usize = 1 << 17;
/// What stands for a space in the tokens' text (U+2581).
const SPACE: char = '\u{2581}';

/// A vocabulary that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// It is not a tokenizer.json.
    #[error("the vocabulary is not a tokenizer.json: {0}")]
    Form(#[from] serde_json::Error),
    /// It is longer than [`TOKENS_MAX`] or empty.
    #[error("the vocabulary has {0} tokens")]
    Size(usize),
}

/// The parts of the file that matter.
#[derive(Deserialize)]
struct File {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
    #[serde(default, rename = "merges")]
    _merges: IgnoredAny,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    special: bool,
}

/// The bytes of every token.
#[derive(Debug)]
pub struct Vocabulary {
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<u32>,
}

impl Vocabulary {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// When it is none, or of an unreasonable size.
    pub fn parse(json: &[u8]) -> Result<Self, VocabularyError> {
        let file: File = serde_json::from_slice(json)?;
        let size = file.model.vocab.values().max().map_or(0, |last| *last as usize + 1);
        if size == 0 || size > TOKENS_MAX {
            return Err(VocabularyError::Size(size));
        }
        let mut texts = vec![""; size];
        for (text, &id) in &file.model.vocab {
            texts[id as usize] = text;
        }
        // Special tokens steer and are no text.
        for added in file.added_tokens.iter().filter(|added| added.special) {
            if let Some(text) = texts.get_mut(added.id as usize) {
                *text = "";
            }
        }
        let mut vocabulary = Self { bytes: Vec::new(), ends: Vec::with_capacity(size) };
        for text in texts {
            match byte_of(text) {
                Some(byte) => vocabulary.bytes.push(byte),
                None => vocabulary.bytes.extend(text.replace(SPACE, " ").bytes()),
            }
            vocabulary.ends.push(u32::try_from(vocabulary.bytes.len()).unwrap_or(u32::MAX));
        }
        Ok(vocabulary)
    }

    /// The text of a sequence of tokens, without blanks around it.
    pub fn text(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| self.token(token)).copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }

    /// A token's bytes; none for one that does not exist.
    fn token(&self, token: u32) -> &[u8] {
        let end_of = |index: usize| self.ends.get(index).map_or(0, |end| *end as usize);
        let index = token as usize;
        let begin = index.checked_sub(1).map_or(0, end_of);
        self.bytes.get(begin..end_of(index)).unwrap_or_default()
    }
}

/// The byte that a fallback token such as `<0x0A>` stands for.
fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"version":"1.0","truncation":null,"added_tokens":[{"id":1,"content":"<s>","special":true}],
        "model":{"type":"BPE","vocab":{"<unk>":0,"<s>":1,"▁the":2,"▁":3,"bird":4,"<0xC3>":5,"<0xA9>":6,"s":7},
        "merges":["a b",["c","d"]]}}"#;

    #[test]
    fn tokens_become_text() {
        let vocabulary = Vocabulary::parse(JSON.as_bytes()).expect("a vocabulary");
        assert_eq!(vocabulary.text(&[1, 2, 3, 4, 7]), "the birds");
        assert_eq!(vocabulary.text(&[4, 5, 6]), "birdé");
        assert_eq!(vocabulary.text(&[4, 5]), "bird\u{fffd}");
        assert_eq!(vocabulary.text(&[]), "");
        assert_eq!(vocabulary.text(&[8, u32::MAX]), "");
    }

    #[test]
    fn what_is_no_vocabulary_is_refused() {
        assert!(matches!(Vocabulary::parse(b"{}"), Err(VocabularyError::Form(_))));
        assert!(matches!(Vocabulary::parse(b"\xff"), Err(VocabularyError::Form(_))));
        let empty = br#"{"model":{"vocab":{}}}"#;
        assert!(matches!(Vocabulary::parse(empty), Err(VocabularyError::Size(0))));
        let huge = br#"{"model":{"vocab":{"a":4000000000}}}"#;
        assert!(matches!(Vocabulary::parse(huge), Err(VocabularyError::Size(_))));
    }
}
