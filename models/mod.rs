//! Model architectures: one file per family, and the reading of their published configuration.
//! They build graphs out of `nn` blocks and know nothing of devices or files of weights.

pub mod config;
pub mod decoder;
pub mod preprocess;
pub mod vision;
