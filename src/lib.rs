//! wginfer
#[cfg(feature = "text")]
pub mod bench;
pub mod cancel;
pub mod checkpoint;
pub mod doctor;
pub mod error;
pub mod gpu;
pub mod graph;
mod json;
pub mod kernel;
#[path = "../models/mod.rs"]
pub mod models;
pub mod nn;
pub mod ops;
pub mod session;
pub mod tensor;
#[cfg(feature = "text")]
pub mod text;
pub mod weights;
pub use cancel::CancelToken;
pub use error::{Error, Result};
