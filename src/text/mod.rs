//! Text in and out of language models.

pub mod sampling;
