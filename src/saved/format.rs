//! What a file of graphs says, as JSON.

use crate::element::ElementType;
use crate::tensor::DType;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What the field `format` must be.
pub(super) const FORMAT: &str = "wginfer graph";

/// The version that is written, and the only one that is read.
pub(super) const VERSION: u64 = 1;

/// Key in the metadata of the file of tensors under which [`SavedFile::content`] stands.
pub(super) const CONTENT_KEY: &str = "wginfer.content";

/// The first fields of a file, by which it is recognised.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    pub(super) format: String,
    pub(super) version: u64,
}

/// A whole file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedFile {
    pub(super) format: String,
    pub(super) version: u64,
    /// Program and version that wrote it.
    pub(super) producer: String,
    /// Versions of operator sets of the original by domain; "" is the standard's.
    pub(super) opsets: BTreeMap<String, i64>,
    /// A hash of graphs and tensors that both files carry: those of two conversions do not fit.
    pub(super) content: String,
    pub(super) graphs: Vec<SavedGraph>,
}

/// The computation for some input shapes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedGraph {
    pub(super) inputs: Vec<PortInfo>,
    pub(super) outputs: Vec<SavedOutput>,
    /// Values by their number.
    pub(super) values: Vec<SavedValue>,
    /// In an order in which every value is made before it is read.
    pub(super) nodes: Vec<SavedNode>,
}

/// Name, type and shape of an input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortInfo {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub element: ElementType,
    /// Sizes of its dimensions.
    pub dims: Vec<usize>,
}

impl std::fmt::Display for PortInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}{:?}", self.name, self.element, self.dims)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedOutput {
    pub(super) port: PortInfo,
    pub(super) from: Origin,
}

/// Where an output comes from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Origin {
    /// The value of this number.
    Value(usize),
    /// This input as it is.
    Input(String),
    /// This tensor of the file, the same in every run.
    Tensor(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedValue {
    /// On the device.
    pub(super) dtype: DType,
    pub(super) dims: Vec<usize>,
    pub(super) from: ValueOrigin,
}

/// Where a value comes from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum ValueOrigin {
    /// The input of this name.
    Input(String),
    /// A whole tensor of the file, in its dtype there or converted from it.
    Weight {
        tensor: String,
        /// Whether the file holds the transpose.
        transposed: bool,
    },
    /// A tensor of the file as it is.
    Constant(String),
    /// A node.
    Node,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedNode {
    /// Name of the original's node, behind those around it; may be empty.
    pub(super) name: String,
    /// Name of the operator.
    pub(super) op: String,
    pub(super) attributes: Value,
    /// Numbers of values.
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<usize>,
}
