//! Neural-network inference on portable graphics APIs: hand-written WGSL shaders, driven by a
//! graph executor over wgpu, on Vulkan, Metal and DX12, on software adapters too.
//!
//! Applications that generate text need [`text`] only, those that ask what photos show [`vision`]:
//!
//! ```no_run
//! # #[cfg(feature = "text")]
//! # fn main() -> wginfer::Result<()> {
//! use wginfer::text::{GenerateOptions, SamplingSettings, TextModel};
//!
//! // A model folder, or the name of a repository in the local Hugging Face hub cache.
//! let model = TextModel::load("models/pretrained/fairy-tales")?;
//! let sampling = SamplingSettings { seed: 7, ..model.default_sampling() };
//! let options = GenerateOptions { sampling, max_tokens: 100, ..model.default_options() };
//! for piece in model.generate("Once upon a time", &options)? {
//!     print!("{}", piece?.text);
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "text"))]
//! # fn main() {}
//! ```
//!
//! ```no_run
//! # #[cfg(feature = "vision")]
//! # fn main() -> wginfer::Result<()> {
//! use wginfer::vision::Classifier;
//!
//! let model = Classifier::load("models/pretrained/digits")?;
//! for entry in model.classify_one("models/pretrained/digits/samples/digit_7.png")?.top {
//!     println!("{:5.1} %  {}", 100.0 * entry.probability, entry.label.unwrap_or_default());
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "vision"))]
//! # fn main() {}
//! ```
//!
//! An application that has a wgpu device shares it: see
//! [`Gpu::from_wgpu`](gpu::Gpu::from_wgpu).
//!
//! # Architecture
//!
//! ```text
//!       bench, doctor                  measure and check kernels and models on a device
//!             text, vision             tokenizer, sampling, generation; photos, labels, boxes
//!           ┌──────┴──────┐
//!        models           │            one file per architecture family
//!           │         checkpoint       weights of files as a session reads them
//!          nn         ┌───┴────┐
//!           │      session     │       plans + resident weights + states -> run(inputs)
//!           ├──────┘ └───┐     │
//!         graph          │     │       nodes, rewrite passes, plans (steps + buffer slots)
//!           │            │     │
//!          ops          gpu    │       an operator in one file │ the device, the only user of wgpu
//!           └──────┬─────┘     │
//!               kernel      weights    WGSL -> checked shader  │ named tensors of safetensors files
//!                  └─────┬─────┘
//!                     tensor           values on the host: dtype, shape, bytes
//! ```
//!
//! A module imports only what stands below it. [`error`] and [`cancel`] are for all. What happens
//! to a model: [`models`] builds a [`Graph`](graph::Graph) out of the blocks of [`nn`];
//! [`graph::optimise`] fuses nodes; [`Plan::new`](graph::Plan::new) asks each [`Op`](ops::Op) for
//! its [`Launch`](kernel::Launch)es on the device's [`Caps`](kernel::Caps) and places values in
//! shared buffers; a [`Session`](session::Session) uploads weights and runs the plan.
//!
//! # What always holds
//!
//! - Only [`gpu`] names wgpu. [`ops`], [`graph`] and [`kernel`] are pure: no device, no files.
//! - A [`Plan`](graph::Plan) is plain data that can be printed and compared, made without a device.
//! - An operator is one file with its shape rules, its launch and its reference in plain Rust,
//!   and one shader (or a few). Tests compare the two in every form on every adapter.
//! - Kernels are chosen by what a device can do ([`Caps`](kernel::Caps)), never by its name, and
//!   specialised by class (dtype, tile, fused functions), never by exact shape.
//! - Sums are f32 at least, whatever the dtype of the weights.
//! - What a file, a request or a device does wrong is an [`Error`]; the library neither panics on
//!   it nor prints.
//! - A run makes no buffers, bind groups or pipelines; long runs are split so that a
//!   [`CancelToken`] takes effect soon.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `cli` (default) | the `wginfer` program; includes `text` and `vision` |
//! | `text` | [`text`]: tokenizer, chat template, sampling, generation; [`mod@bench`] |
//! | `vision` | [`vision`]: photos, preprocessing on the GPU, classification, detection, edges |
//! | `onnx` | [`mod@onnx`]: models in the ONNX format; those converted from it run without: [`saved`] |
//! | `hub` | downloads from a Hugging Face hub into its cache: [`weights::hub`] |
//!
//! What a GPU can do is never a feature: [`Caps`](kernel::Caps) says it at run time.

#[cfg(feature = "text")]
pub mod bench;
pub mod cancel;
pub mod checkpoint;
pub mod doctor;
mod element;
pub mod error;
mod folders;
pub mod gpu;
pub mod graph;
mod json;
pub mod kernel;
#[path = "../models/mod.rs"]
pub mod models;
pub mod nn;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod ops;
pub mod profile;
pub mod saved;
pub mod self_check;
pub mod session;
pub mod tensor;
#[cfg(feature = "text")]
pub mod text;
pub mod tuning;
#[cfg(feature = "vision")]
pub mod vision;
pub mod weights;

pub use cancel::CancelToken;
pub use error::{Error, Result};
