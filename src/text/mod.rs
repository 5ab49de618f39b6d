//! The host side of text generation: tokenizer, streaming text, stop strings, chat templates and the files
//! that configure them. Nothing here knows of a device.

pub mod chat;
pub mod config;
pub mod detokenizer;
mod python;
pub mod sampling;
pub mod stop;
mod strftime;
pub mod tokenizer;
mod tokenizer_checks;

pub use chat::{ChatMessage, ChatTemplate, Fallback};
pub use config::{GenerationConfig, TokenizerConfig};
pub use detokenizer::StreamDecoder;
pub use stop::{StopMatcher, StopOutput};
pub use tokenizer::Tokenizer;
