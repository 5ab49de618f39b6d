//! Values of a model while its graph is built: known on the host, stored in the file, or made on
//! the device.

use super::definition::StoredTensor;
use super::element::ElementType;
use super::stored::Stored;
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;

/// A value with its ONNX type; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(super) element: ElementType,
    pub(super) shape: Shape,
    pub(super) data: Data,
}

/// Where a value is.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// Known now, in the host's dtype of its element type.
    Host(Arc<Tensor>),
    /// In the file, or computed of what is there.
    Stored(Stored),
    /// Made on the device.
    Device(Arc<DeviceValue>),
}

/// A value on the device. While anything holds one of these it is kept when a graph is cut.
#[derive(Debug)]
pub(super) struct DeviceValue {
    pub(super) number: usize,
    pub(super) place: Place,
}

/// Where a value on the device is between graphs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// An input of the model.
    Input(String),
    /// A state of the session as it is now; its name.
    State(String),
    /// All rows but one of a state, to which one is appended; the model's input.
    Past(String),
    /// Made by a node; the number of its [`DeviceValue`].
    Slot(usize),
}

impl Value {
    /// A value that is known now: `tensor` has the host's dtype of `element`.
    pub(super) fn host(element: ElementType, tensor: Tensor) -> Self {
        debug_assert_eq!(tensor.dtype(), element.host_dtype());
        let shape = tensor.spec().shape.clone();
        Self { element, shape, data: Data::Host(Arc::new(tensor)) }
    }

    /// Integers that are known now.
    pub(super) fn integers(element: ElementType, shape: impl Into<Shape>, values: &[i64]) -> Self {
        Self::host(element, Tensor::from_i64(shape, values))
    }

    /// A float that is known now.
    pub(super) fn float(element: ElementType, value: f64) -> Self {
        Self::host(element, Tensor::from_f64(element.host_dtype(), vec![], &[value]))
    }

    /// A tensor of the file.
    pub(super) fn stored(tensor: Arc<StoredTensor>) -> Self {
        Self::read(Stored::file(tensor))
    }

    /// A value that is read when it is needed.
    pub(super) fn read(stored: Stored) -> Self {
        Self { element: stored.element, shape: stored.shape.clone(), data: Data::Stored(stored) }
    }

    /// What is read when it is needed, if its elements can be taken one by one and there are any.
    pub(super) fn divisible(&self) -> Option<&Stored> {
        match &self.data {
            Data::Stored(stored) => Some(stored).filter(|s| s.is_divisible() && s.shape.elements() > 0),
            _ => None,
        }
    }

    /// Sizes of the dimensions.
    pub(super) fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    pub(super) fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// Whether it is known without running anything.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self.data, Data::Device(_))
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.element, self.shape)
    }
}
