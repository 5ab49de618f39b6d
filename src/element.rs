//! Element types of ONNX, and how they lie on the host and on the device: of models in that format
//! and of those that were converted from it.

use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};

/// Type of a tensor's elements in an ONNX model.
///
/// On the host all integers and booleans are i64, floats are as they are. On the device floats
/// are f32, signed integers i32, unsigned ones and booleans (0 or 1) u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElementType {
    /// IEEE 754 binary32.
    Float,
    /// IEEE 754 binary16.
    Float16,
    /// The upper half of a binary32.
    Bfloat16,
    /// IEEE 754 binary64; f32 on the device.
    Double,
    /// Signed 4-bit integer.
    Int4,
    /// Signed 8-bit integer.
    Int8,
    /// Signed 16-bit integer.
    Int16,
    /// Signed 32-bit integer.
    Int32,
    /// Signed 64-bit integer; values on the device must fit 32 bits.
    Int64,
    /// Unsigned 4-bit integer.
    Uint4,
    /// Unsigned 8-bit integer.
    Uint8,
    /// Unsigned 16-bit integer.
    Uint16,
    /// Unsigned 32-bit integer.
    Uint32,
    /// Unsigned 64-bit integer; values on the host must fit i64, on the device 32 bits.
    Uint64,
    /// True or false.
    Bool,
}

/// Names of all data types of the standard by their number.
const NAMES: [&str; 27] = [
    "undefined",
    "float",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "string",
    "bool",
    "float16",
    "double",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bfloat16",
    "float8e4m3fn",
    "float8e4m3fnuz",
    "float8e5m2",
    "float8e5m2fnuz",
    "uint4",
    "int4",
    "float4e2m1",
    "float8e8m0",
    "uint2",
    "int2",
];

impl ElementType {
    const BY_NUMBER: [(usize, Self); 15] = [
        (1, Self::Float),
        (2, Self::Uint8),
        (3, Self::Int8),
        (4, Self::Uint16),
        (5, Self::Int16),
        (6, Self::Int32),
        (7, Self::Int64),
        (9, Self::Bool),
        (10, Self::Float16),
        (11, Self::Double),
        (12, Self::Uint32),
        (13, Self::Uint64),
        (16, Self::Bfloat16),
        (21, Self::Uint4),
        (22, Self::Int4),
    ];

    /// The type of this number in a file.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the type's name.
    pub fn from_number(number: i64) -> Result<Self> {
        let found = Self::BY_NUMBER.iter().find(|(known, _)| i64::try_from(*known) == Ok(number));
        found.map(|(_, element)| *element).ok_or_else(|| {
            let name = usize::try_from(number).ok().and_then(|number| NAMES.get(number));
            let name = name.map_or_else(|| format!("of number {number}"), |name| (*name).to_owned());
            Error::Unsupported(format!("element type {name}"))
        })
    }

    /// Name in the standard's terms: "float16", "int64".
    pub fn name(self) -> &'static str {
        let found = Self::BY_NUMBER.iter().find(|(_, element)| *element == self);
        found.map_or("undefined", |(number, _)| NAMES[*number])
    }

    /// Whether this is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::Float | Self::Float16 | Self::Bfloat16 | Self::Double)
    }

    /// Size of an element in bits.
    pub const fn bits(self) -> usize {
        match self {
            Self::Int4 | Self::Uint4 => 4,
            Self::Int8 | Self::Uint8 | Self::Bool => 8,
            Self::Int16 | Self::Uint16 | Self::Float16 | Self::Bfloat16 => 16,
            Self::Float | Self::Int32 | Self::Uint32 => 32,
            Self::Double | Self::Int64 | Self::Uint64 => 64,
        }
    }

    /// Whether this is an integer type without sign, or bool.
    pub const fn is_unsigned(self) -> bool {
        matches!(self, Self::Uint4 | Self::Uint8 | Self::Uint16 | Self::Uint32 | Self::Uint64 | Self::Bool)
    }

    /// Dtype on the device.
    pub const fn device_dtype(self) -> DType {
        match self {
            _ if self.is_float() => DType::F32,
            _ if self.is_unsigned() => DType::U32,
            _ => DType::I32,
        }
    }

    /// Dtype on the host.
    pub const fn host_dtype(self) -> DType {
        match self {
            Self::Float => DType::F32,
            Self::Float16 => DType::F16,
            Self::Bfloat16 => DType::BF16,
            Self::Double => DType::F64,
            _ => DType::I64,
        }
    }

    /// An integer modulo 2^bits, as the type's arithmetic gives it; floats as they are.
    pub const fn wrap(self, value: i64) -> i64 {
        match self {
            Self::Bool => (value != 0) as i64,
            Self::Int4 => value << 60 >> 60,
            Self::Int8 => value as i8 as i64,
            Self::Int16 => value as i16 as i64,
            Self::Int32 => value as i32 as i64,
            Self::Uint4 => value & 15,
            Self::Uint8 => value as u8 as i64,
            Self::Uint16 => value as u16 as i64,
            Self::Uint32 => value as u32 as i64,
            _ => value,
        }
    }
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor with its element type: what goes into an ONNX model and comes out of it.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxTensor {
    element: ElementType,
    tensor: Tensor,
}

impl OnnxTensor {
    /// A tensor of an element type from values of any dtype: integers are converted exactly, and
    /// must fit the type; floats are rounded.
    ///
    /// # Errors
    /// [`Error::Request`] with a value that does not fit.
    pub fn new(element: ElementType, tensor: &Tensor) -> Result<Self> {
        if element.is_float() {
            return Ok(Self { element, tensor: to_dtype(tensor, element.host_dtype()) });
        }
        let integers = to_integers(tensor);
        let bad = integers.iter().find(|&&value| element.wrap(value) != value);
        let negative = (element == ElementType::Uint64).then(|| integers.iter().find(|&&value| value < 0));
        if let Some(value) = bad.or_else(|| negative.flatten()) {
            return Err(Error::Request(format!("{value} does not fit {element}")));
        }
        Ok(Self { element, tensor: Tensor::from_i64(tensor.dims(), &integers) })
    }

    /// A tensor of floats.
    pub fn from_f32(shape: impl Into<Shape>, values: &[f32]) -> Self {
        Self { element: ElementType::Float, tensor: Tensor::from_f32(shape, values) }
    }

    /// A tensor of 64-bit integers.
    pub fn from_i64(shape: impl Into<Shape>, values: &[i64]) -> Self {
        Self { element: ElementType::Int64, tensor: Tensor::from_i64(shape, values) }
    }

    /// A tensor of booleans.
    pub fn from_bool(shape: impl Into<Shape>, values: &[bool]) -> Self {
        let values: Vec<i64> = values.iter().map(|&value| i64::from(value)).collect();
        Self { element: ElementType::Bool, tensor: Tensor::from_i64(shape, &values) }
    }

    /// A tensor from elements as they lie in memory, little-endian and row by row; two elements of
    /// 4 bits a byte, the low one first.
    ///
    /// # Errors
    /// [`Error::Request`] when there are more or fewer bytes than the shape takes.
    pub fn from_bytes(element: ElementType, shape: impl Into<Shape>, bytes: &[u8]) -> Result<Self> {
        let shape = shape.into();
        let tensor = match elements(shape.dims()) {
            Some(_) => decode(element, &shape, bytes),
            None => Err(format!("{element}{shape} has more elements than fit in memory")),
        };
        Ok(Self { element, tensor: tensor.map_err(Error::Request)? })
    }

    /// The elements as [`from_bytes`](Self::from_bytes) takes them.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.element.is_float() {
            return self.tensor.bytes().to_vec();
        }
        let values = self.tensor.to_i64();
        if self.element.bits() == 4 {
            let nibble = |value: Option<&i64>| value.map_or(0, |value| (value & 15) as u8);
            return values.chunks(2).map(|pair| nibble(pair.first()) | nibble(pair.get(1)) << 4).collect();
        }
        let size = self.element.bits() / 8;
        values.iter().flat_map(|value| value.to_le_bytes().into_iter().take(size)).collect()
    }

    /// A tensor that already lies as the host wants it.
    pub(crate) fn of_host(element: ElementType, tensor: Tensor) -> Self {
        debug_assert_eq!(tensor.dtype(), element.host_dtype());
        Self { element, tensor }
    }

    /// Type of the elements.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// The values: integers and booleans as i64, floats as they are.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Sizes of the dimensions.
    pub fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }

    /// All values as f32.
    pub fn to_f32(&self) -> Vec<f32> {
        self.tensor.to_f32()
    }

    /// All values as i64; floats without their fraction.
    pub fn to_i64(&self) -> Vec<i64> {
        to_integers(&self.tensor)
    }
}

impl std::fmt::Display for OnnxTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.element, self.dims())
    }
}

/// All values as i64; floats without their fraction.
pub(crate) fn to_integers(tensor: &Tensor) -> Vec<i64> {
    match tensor.dtype() {
        DType::I64 => tensor.to_i64(),
        _ => tensor.to_f64().into_iter().map(|value| value as i64).collect(),
    }
}

/// The same values in another dtype, without a copy where it is the same.
pub(crate) fn to_dtype(tensor: &Tensor, dtype: DType) -> Tensor {
    match (tensor.dtype(), dtype) {
        (from, to) if from == to => tensor.clone(),
        (_, DType::I64) => Tensor::from_i64(tensor.dims(), &to_integers(tensor)),
        (_, DType::F32) => Tensor::from_f32(tensor.dims(), &tensor.to_f32()),
        _ => Tensor::from_f64(dtype, tensor.dims(), &tensor.to_f64()),
    }
}

/// A host tensor as it lies on the device.
///
/// # Errors
/// [`Error::Request`] naming a 64-bit integer that does not fit 32 bits.
pub(crate) fn to_device(tensor: &Tensor, element: ElementType) -> Result<Tensor> {
    let dtype = element.device_dtype();
    if dtype == DType::F32 {
        return Ok(to_dtype(tensor, dtype));
    }
    let integers = tensor.to_i64();
    let spec = Spec::new(dtype, tensor.dims());
    let (low, high) = match dtype {
        DType::U32 => (0, i64::from(u32::MAX)),
        _ => (i64::from(i32::MIN), i64::from(i32::MAX)),
    };
    if let Some(value) = integers.iter().find(|&&value| !(low..=high).contains(&value)) {
        let message = format!("{value} is outside of {low} to {high}, which {element} has on the device");
        return Err(Error::Request(message));
    }
    let bytes = integers.iter().flat_map(|&value| (value as u32).to_le_bytes()).collect();
    Ok(Tensor::from_bytes(spec, bytes))
}

/// A tensor from the device as it lies on the host.
pub(crate) fn from_device(tensor: &Tensor, element: ElementType) -> Tensor {
    to_dtype(tensor, element.host_dtype())
}

/// A tensor from the bytes of a file.
///
/// # Errors
/// The reason why the bytes are not such a tensor.
pub(crate) fn decode(element: ElementType, shape: &Shape, bytes: &[u8]) -> Result<Tensor, String> {
    let wanted = stored_bytes(element, shape.elements());
    if bytes.len() != wanted {
        return Err(format!("{element}{shape} takes {wanted} bytes, got {}", bytes.len()));
    }
    if element.is_float() {
        return Ok(Tensor::from_bytes(Spec::new(element.host_dtype(), shape.clone()), bytes.to_vec()));
    }
    let nibble = |byte: u8| element.wrap(i64::from(byte));
    let mut values: Vec<i64> = match element {
        ElementType::Int4 | ElementType::Uint4 => {
            bytes.iter().flat_map(|&byte| [nibble(byte & 15), nibble(byte >> 4)]).collect()
        }
        ElementType::Bool | ElementType::Uint8 | ElementType::Int8 => {
            bytes.iter().map(|&byte| element.wrap(i64::from(byte))).collect()
        }
        ElementType::Int16 | ElementType::Uint16 => {
            chunks(bytes, |value| element.wrap(i64::from(u16::from_le_bytes(value))))
        }
        ElementType::Int32 | ElementType::Uint32 => {
            chunks(bytes, |value| element.wrap(i64::from(u32::from_le_bytes(value))))
        }
        _ => chunks(bytes, i64::from_le_bytes),
    };
    values.truncate(shape.elements());
    if let (ElementType::Uint64, Some(value)) = (element, values.iter().find(|&&value| value < 0)) {
        return Err(format!("{} is beyond the largest 64-bit integer with a sign", value.cast_unsigned()));
    }
    Ok(Tensor::from_i64(shape.clone(), &values))
}

/// Bytes that elements take in a file.
pub(crate) fn stored_bytes(element: ElementType, elements: usize) -> usize {
    match element.bits() {
        4 => elements.div_ceil(2),
        bits => elements.saturating_mul(bits / 8),
    }
}

fn chunks<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> i64) -> Vec<i64> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| value(chunk)).collect()
}

/// Product of dimensions; of those that are not zero too, so that no part of it overflows.
pub(crate) fn elements(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim.max(1)))?;
    Some(dims.iter().product())
}
