//! ONNX models: files of the standard that most tools export to, run on the engine's operators.
//!
//! An [`OnnxModel`] is a checked file and a session. For each set of input shapes its nodes become
//! nodes of [`Graph`](crate::graph::Graph)s; what depends on shapes and constants only is computed
//! on the host meanwhile. Where the value of something computed decides what is computed next (a
//! condition, a shape), the graph is cut there: the part before is run, its value is read, and the
//! rest is built. What was built is kept for the next run.
//!
//! An operator of the standard is a function from a `Node` to its output
//! `Value`s, in the table of its family in `operators`.

mod cache;
mod check;
mod compare;
mod compose;
mod conformance;
mod convert;
mod decoder;
mod definition;
mod dequantize;
mod dot;
mod file;
mod host;
mod importer;
mod kept;
mod model;
mod node;
mod operators;
mod proto;
mod stored;
mod stream;
mod trace;
mod value;

use crate::element;

pub use check::{LargeTensor, NodeNote, OnnxReport, check_bytes, check_model};
pub use compare::NodeDifference;
pub use conformance::{ConformanceCase, Outcome, Score, Scores, difference, score_table};
pub use convert::{Conversion, InputShapes, convert};
pub use decoder::{OnnxDecoder, OnnxDecoderOptions};
pub use definition::DeclaredDim;
pub use dot::model_dot;
pub use element::{ElementType, OnnxTensor};
pub use file::{NEWEST_OPSET, OnnxLimits, read_tensor};

pub use model::{OnnxModel, OnnxOptions, OnnxValueInfo};
pub use stream::OnnxStream;

/// Domains ("" is the standard's) and names of the operators that are known.
pub fn known_operators() -> impl Iterator<Item = (&'static str, &'static str)> {
    operators::names()
}
