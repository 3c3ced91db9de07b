//! The embedded recogniser on spoken text: an embedded voice and public-domain speech, over G.711.
//! Needs the models: `make models` fetches them, and without them these tests fail and say so.

mod accuracy;
mod speech;
mod words;
