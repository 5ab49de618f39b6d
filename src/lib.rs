//! wginfer
pub mod error;
pub mod gpu;
pub mod graph;
mod json;
pub mod kernel;
#[path = "../models/mod.rs"]
pub mod models;
pub mod ops;
pub mod session;
pub mod tensor;
#[cfg(feature = "text")]
pub mod text;
pub use error::{Error, Result};
