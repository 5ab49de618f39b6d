//! Photos in, labels and boxes out: decoding, preprocessing on the GPU, classification.

mod detection;
mod draw;
mod font;
mod image;
mod jpeg;
mod labels;
mod preprocessor;

pub use crate::models::preprocess::{Axis, Channels, Preprocess, PreprocessChanges, Resize};
pub use detection::{BoundingBox, Detection, read_candidates, suppress};
pub use draw::draw_detections;
pub use image::{Image, ImageLimits};
pub use labels::Labels;
pub use preprocessor::{Pixels, Preprocessor, network_input};
