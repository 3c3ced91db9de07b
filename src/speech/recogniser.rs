//! What callers say, as text. The [`ear`] hears each caller's own audio from the rooms' taps and cuts it
//! into utterances ([`utterance`]); they wait in a [`queue`] for an [`engine`], which recognises one after
//! the other, the embedded one ([`moonshine`]) or one reached by [`http`]. A recogniser that listens along
//! ([`websocket`]) is given each voice as it comes instead ([`live`]). [`service`] is the two threads.

pub mod counters;
pub mod ear;
pub mod engine;
pub mod http;
pub mod live;
pub mod models;
pub mod moonshine;
pub mod queue;
pub mod service;
pub mod utterance;
pub mod vocabulary;
pub mod websocket;
