//! wginfer
pub mod error;
pub mod kernel;
pub mod ops;
pub mod tensor;
pub use error::{Error, Result};
