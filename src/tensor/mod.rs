//! Values on the host: dtype, shape, data, and comparison with tolerances.
//!
//! This folder knows no GPU. References of the operators compute on these
//! tensors in f64; the engine uploads and reads back their bytes.

mod compare;
mod dtype;
mod shape;
mod values;

pub use compare::{Mismatch, Tolerance};
pub use dtype::DType;
pub use shape::Shape;
pub use values::Tensor;

/// Dtype and shape of a value, without its data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Type of the elements.
    pub dtype: DType,
    /// Sizes of the dimensions.
    pub shape: Shape,
}

impl Spec {
    /// Makes a spec.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self { dtype, shape: shape.into() }
    }

    /// An f32 spec.
    pub fn f32(shape: impl Into<Shape>) -> Self {
        Self::new(DType::F32, shape)
    }

    /// A u32 spec.
    pub fn u32(shape: impl Into<Shape>) -> Self {
        Self::new(DType::U32, shape)
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }

    /// Size of the tightly packed data in bytes.
    pub fn bytes(&self) -> u64 {
        self.elements() as u64 * self.dtype.size() as u64
    }
}

impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}
