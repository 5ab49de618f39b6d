//! Photos in, labels and boxes out: decoding, preprocessing on the GPU, classification.

mod image;
mod jpeg;
mod labels;
mod preprocessor;

pub use crate::models::preprocess::{Axis, Channels, Preprocess, PreprocessChanges, Resize};
pub use image::{Image, ImageLimits};
pub use labels::Labels;
pub use preprocessor::{Pixels, Preprocessor, network_input};
