//! wginfer
pub mod error;
pub mod gpu;
pub mod graph;
pub mod kernel;
pub mod ops;
pub mod session;
pub mod tensor;
#[cfg(feature = "text")]
pub mod text;
pub use error::{Error, Result};
