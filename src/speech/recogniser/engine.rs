//! What turns an utterance into text.

use super::utterance::Utterance;

/// A recogniser. It is used by one thread at a time.
pub trait Engine: Send {
    /// What is said in `utterance`, in words; empty when nothing is.
    ///
    /// # Errors
    /// [`EngineError::Passing`] for this utterance, [`EngineError::Broken`] for good.
    fn recognise(&mut self, utterance: &Utterance, language: &str, care: Care)
    -> Result<String, EngineError>;

    /// Whether it is asked for utterances that go on.
    fn takes_partials(&self) -> bool {
        true
    }
}

/// How much work an utterance is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Quick is better than right: it goes on, or others wait.
    Quick,
    /// What is heard stays.
    Thorough,
}

/// Why an utterance was not recognised.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// This one could not be; the next may.
    #[error("{0}")]
    Passing(String),
    /// The engine cannot work at all.
    #[error("{0}")]
    Broken(String),
}
