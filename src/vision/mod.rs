//! Photos in, labels, boxes and edges out: decoding, preprocessing on the GPU, classification,
//! detection, brightness and edges.
//!
//! ```no_run
//! # fn main() -> wginfer::Result<()> {
//! use wginfer::vision::Classifier;
//!
//! let model = Classifier::load("my-model")?;
//! for entry in model.classify_one("photo.jpg")?.top {
//!     println!("{:5.1} %  {}", 100.0 * entry.probability, entry.label.unwrap_or_default());
//! }
//! # Ok(())
//! # }
//! ```

mod builder;
mod classifier;
mod detection;
mod detector;
mod draw;
mod edges;
mod font;
mod image;
mod info;
mod jpeg;
mod labels;
mod network;
mod photo;
mod preprocessor;

pub use crate::models::preprocess::{Axis, Channels, Preprocess, PreprocessChanges, Resize};
pub use crate::models::vision::{Architecture, Task};
pub use crate::ops::ResampleFilter;
pub use builder::{LoadProgress, ModelBuilder};
pub use classifier::{ClassEntry, Classification, Classifier, ClassifyOptions};
pub use detection::{BoundingBox, Detection, read_candidates, suppress};
pub use detector::{DetectOptions, Detector};
pub use draw::draw_detections;
pub use edges::{grayscale, luma, sobel, sobel_edges};
pub use image::{Image, ImageLimits};
pub use info::{NetworkInfo, NetworkInfoOptions, NetworkMemory};
pub use labels::Labels;
pub use network::is_network;
pub use photo::Photo;
pub use preprocessor::{Pixels, Preprocessor, network_input};
