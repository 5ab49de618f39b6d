//! A tensor: spec and bytes.

use super::{DType, Shape, Spec};
use half::{bf16, f16};

/// A dense row-major tensor on the host.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    spec: Spec,
    bytes: Vec<u8>,
}

impl Tensor {
    /// Makes a tensor from little-endian bytes.
    ///
    /// # Panics
    /// When the number of bytes is not that of the spec.
    pub fn from_bytes(spec: Spec, bytes: Vec<u8>) -> Self {
        assert_eq!(bytes.len() as u64, spec.bytes(), "bytes of a tensor {spec}");
        Self { spec, bytes }
    }

    /// An f32 tensor.
    pub fn from_f32(shape: impl Into<Shape>, values: &[f32]) -> Self {
        Self::from_bytes(Spec::f32(shape), bytemuck::cast_slice(values).to_vec())
    }

    /// A u32 tensor.
    pub fn from_u32(shape: impl Into<Shape>, values: &[u32]) -> Self {
        Self::from_bytes(Spec::u32(shape), bytemuck::cast_slice(values).to_vec())
    }

    /// An i32 tensor.
    pub fn from_i32(shape: impl Into<Shape>, values: &[i32]) -> Self {
        Self::from_bytes(Spec::new(DType::I32, shape), bytemuck::cast_slice(values).to_vec())
    }

    /// An i64 tensor.
    pub fn from_i64(shape: impl Into<Shape>, values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::from_bytes(Spec::new(DType::I64, shape), bytes)
    }

    /// A tensor of any dtype from f64 values, rounded to nearest; integers saturate.
    pub fn from_f64(dtype: DType, shape: impl Into<Shape>, values: &[f64]) -> Self {
        let bytes = match dtype {
            DType::F32 => pack(values, |v| (v as f32).to_le_bytes()),
            DType::F16 => pack(values, |v| f16::from_f64(v).to_le_bytes()),
            DType::BF16 => pack(values, |v| bf16::from_f64(v).to_le_bytes()),
            DType::I32 => pack(values, |v| (v as i32).to_le_bytes()),
            DType::U32 => pack(values, |v| (v as u32).to_le_bytes()),
            DType::F64 => pack(values, f64::to_le_bytes),
            DType::I64 => pack(values, |v| (v as i64).to_le_bytes()),
            DType::U8 => pack(values, |v| [v as u8]),
        };
        Self::from_bytes(Spec::new(dtype, shape), bytes)
    }

    /// Zeros.
    pub fn zeros(spec: Spec) -> Self {
        let bytes = vec![0; usize::try_from(spec.bytes()).expect("a tensor fits in memory")];
        Self { spec, bytes }
    }

    /// Dtype and shape.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Sizes of the dimensions.
    pub fn dims(&self) -> &[usize] {
        self.spec.shape.dims()
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.spec.dtype
    }

    /// The little-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All values as f64, exact for every dtype but large i64.
    pub fn to_f64(&self) -> Vec<f64> {
        let b = &self.bytes;
        match self.spec.dtype {
            DType::F32 => unpack(b, |v| f64::from(f32::from_le_bytes(v))),
            DType::F16 => unpack(b, |v| f16::from_le_bytes(v).to_f64()),
            DType::BF16 => unpack(b, |v| bf16::from_le_bytes(v).to_f64()),
            DType::I32 => unpack(b, |v| f64::from(i32::from_le_bytes(v))),
            DType::U32 => unpack(b, |v| f64::from(u32::from_le_bytes(v))),
            DType::F64 => unpack(b, f64::from_le_bytes),
            DType::I64 => unpack(b, |v| i64::from_le_bytes(v) as f64),
            DType::U8 => unpack(b, |v: [u8; 1]| f64::from(v[0])),
        }
    }

    /// All values as f32, rounded to nearest.
    pub fn to_f32(&self) -> Vec<f32> {
        if self.spec.dtype == DType::F32 {
            return unpack(&self.bytes, f32::from_le_bytes);
        }
        self.to_f64().into_iter().map(|v| v as f32).collect()
    }

    /// All values as u32; the dtype must be u32 or i32 (then bit for bit).
    pub fn to_u32(&self) -> Vec<u32> {
        debug_assert!(matches!(self.spec.dtype, DType::U32 | DType::I32));
        unpack(&self.bytes, u32::from_le_bytes)
    }

    /// All values as i64; the dtype must be i64.
    pub fn to_i64(&self) -> Vec<i64> {
        debug_assert_eq!(self.spec.dtype, DType::I64);
        unpack(&self.bytes, i64::from_le_bytes)
    }

    /// The same data under another shape.
    ///
    /// # Panics
    /// When the number of elements differs.
    #[must_use]
    pub fn reshaped(mut self, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.elements(), self.spec.elements(), "reshape keeps the number of elements");
        self.spec.shape = shape;
        self
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let values = self.to_f64();
        let shown = &values[..values.len().min(8)];
        write!(f, "Tensor({} {shown:?}{})", self.spec, if values.len() > 8 { " ..." } else { "" })
    }
}

fn pack<const N: usize>(values: &[f64], to_bytes: impl Fn(f64) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&value| to_bytes(value)).collect()
}

fn unpack<T, const N: usize>(bytes: &[u8], from_bytes: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| from_bytes(chunk)).collect()
}
