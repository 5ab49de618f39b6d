//! wginfer
pub mod error;
pub mod gpu;
pub mod graph;
pub mod kernel;
pub mod ops;
pub mod session;
pub mod tensor;
pub use error::{Error, Result};
