//! What turns an utterance into text.

use super::utterance::Utterance;

/// A recogniser. It is used by one thread at a time.
pub trait Engine: Send {
    /// What is said in `utterance`, in words; empty when nothing is.
    ///
    /// # Errors
    /// [`EngineError::Passing`] for this utterance, [`EngineError::Broken`] for good.
    fn recognise(
        &mut self,
        utterance: &Utterance,
        language: &str,
        care: Care<'_>,
    ) -> Result<String, EngineError>;

    /// Whether it is asked for utterances that go on or may do so.
    fn takes_partials(&self) -> bool {
        true
    }
}

/// How much work an utterance is worth.
#[derive(Clone, Copy)]
pub enum Care<'a> {
    /// It goes on: it may be given up as soon as this tells that something more pressing waits.
    WhileNobodyWaits(&'a dyn Fn() -> bool),
    /// Quick is better than right: others wait.
    Quick,
    /// What is heard stays.
    Thorough,
}

impl Care<'_> {
    /// Whether the work is to be given up.
    pub fn is_over(self) -> bool {
        matches!(self, Care::WhileNobodyWaits(awaited) if awaited())
    }
}

/// Why an utterance was not recognised.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It was told to.
    #[error("given up")]
    GivenUp,
    /// This one could not be; the next may.
    #[error("{0}")]
    Passing(String),
    /// The engine cannot work at all.
    #[error("{0}")]
    Broken(String),
}
