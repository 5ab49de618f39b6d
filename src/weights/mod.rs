//! Named tensors from outside: files of a model, or a map in memory.
//!
//! This folder knows no GPU. It hands out bytes as they lie in the file (little-endian, not
//! necessarily aligned) and converts rows to the dtype and pitch in which they are uploaded.
//! Everything that a file says is checked before a byte of its data is handed out; a dtype that
//! is not read is an error only for who asks for the tensor (masks are often stored as BOOL).

#![warn(clippy::cast_possible_truncation)]

mod convert;
#[cfg(feature = "hub")]
pub mod download;
mod folder;
mod header;
#[cfg(feature = "hub")]
mod http;
pub mod hub;
mod safetensors;

pub use convert::{ConversionReport, RowFormat, convert_rows, convert_rows_into};
pub use folder::{FileWeights, ModelHeader, StoredDtype, folder_of};
pub use header::{Header, TensorHeader, read_header};
pub use safetensors::Access;
#[cfg(feature = "onnx")]
pub(crate) use safetensors::FileBytes;

use crate::tensor::{Shape, Spec, Tensor};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// A tensor whose bytes lie elsewhere, for example in a mapped file.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// Dtype and shape.
    pub spec: &'a Spec,
    /// The elements, row-major, little-endian, tightly packed, at any alignment.
    pub bytes: &'a [u8],
}

impl TensorView<'_> {
    /// Copies the values.
    pub fn to_tensor(&self) -> Tensor {
        Tensor::from_bytes(self.spec.clone(), self.bytes.to_vec())
    }
}

/// Tensors by name.
pub trait Weights: std::fmt::Debug + Send + Sync {
    /// Names of all tensors, sorted; also of those whose dtype this crate does not read.
    fn names(&self) -> Vec<&str>;

    /// Dtype and shape of a tensor; `None` where [`absent`](Self::absent) has a reason.
    fn spec(&self, name: &str) -> Option<&Spec>;

    /// Names and shapes of the tensors whose dtype this crate reads, by name.
    fn shapes(&self) -> Vec<(String, Shape)> {
        let shape = |name: &str| Some((name.to_owned(), self.spec(name)?.shape.clone()));
        self.names().into_iter().filter_map(shape).collect()
    }

    /// A tensor; `None` where [`absent`](Self::absent) has a reason.
    fn get(&self, name: &str) -> Option<TensorView<'_>>;

    /// The error that says why [`get`](Self::get) has no tensor of this name: there is none,
    /// or its dtype cannot be read.
    fn absent(&self, name: &str) -> Error;

    /// Says that the bytes of a tensor are not needed for now, so that a mapped file does not
    /// count as memory of the process. They can still be asked for again.
    fn release(&self, _name: &str) {}

    /// A tensor, or the reason why there is none.
    ///
    /// # Errors
    /// Those of [`absent`](Self::absent).
    fn require(&self, name: &str) -> Result<TensorView<'_>> {
        self.get(name).ok_or_else(|| self.absent(name))
    }
}

/// Tensors in memory, for tests and for weights that a program makes itself.
#[derive(Debug, Clone, Default)]
pub struct MemoryWeights(BTreeMap<String, Tensor>);

impl MemoryWeights {
    /// No tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor, or replaces the one of this name.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.0.insert(name.into(), tensor);
    }
}

impl<N: Into<String>> FromIterator<(N, Tensor)> for MemoryWeights {
    fn from_iter<I: IntoIterator<Item = (N, Tensor)>>(tensors: I) -> Self {
        Self(tensors.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect())
    }
}

impl Weights for MemoryWeights {
    fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    fn spec(&self, name: &str) -> Option<&Spec> {
        self.0.get(name).map(Tensor::spec)
    }

    fn get(&self, name: &str) -> Option<TensorView<'_>> {
        self.0.get(name).map(|tensor| TensorView { spec: tensor.spec(), bytes: tensor.bytes() })
    }

    fn absent(&self, name: &str) -> Error {
        Error::Request(format!("no tensor `{name}` among {} in memory", self.0.len()))
    }
}

/// At most this many names are listed in one message.
const LISTED: usize = 20;

/// Joins names for a message: "a, b, c and 7 more".
fn list<T: AsRef<str>>(items: &[T]) -> String {
    let shown: Vec<&str> = items.iter().take(LISTED).map(AsRef::as_ref).collect();
    match items.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
