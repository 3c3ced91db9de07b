//! What callers say, as text: each caller's audio is cut into utterances ([`utterance`]), which an
//! [`engine`] recognises: the embedded one ([`moonshine`]) or one reached by HTTP.

pub mod engine;
pub mod models;
pub mod moonshine;
pub mod utterance;
pub mod vocabulary;
