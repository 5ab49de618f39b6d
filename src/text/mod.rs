//! Text in and out of language models: tokenizer, chat template, sampling, and the generation
//! loop over an engine of slots.

pub mod chat;
pub mod config;
pub mod detokenizer;
pub mod engine;
pub mod generate;
pub mod info;
pub mod model;
#[cfg(feature = "onnx")]
pub mod onnx;
mod python;
pub mod sampling;
pub mod score;
mod sequence;
pub mod stop;
pub mod stream;
mod strftime;
pub mod tokenizer;
mod tokenizer_checks;

pub use chat::{ChatMessage, ChatTemplate, Fallback};
pub use config::{GenerationConfig, TokenizerConfig};
pub use detokenizer::StreamDecoder;
pub use engine::Engine;
pub use generate::{Batch, FinishReason, GenerateOptions, Generation, Piece, Prompt, TextStream, Timing};
pub use info::{InfoOptions, ModelInfo, model_graphs};
pub use model::{ModelBuilder, TextModel};
#[cfg(feature = "onnx")]
pub use onnx::{OnnxTextModel, OnnxTextOptions};
pub use sampling::SamplingSettings;
pub use score::{Score, ScoreOptions};
pub use stop::{StopMatcher, StopOutput};
pub use stream::PieceStream;
pub use tokenizer::Tokenizer;
