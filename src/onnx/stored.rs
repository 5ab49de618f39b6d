//! Tensors that are read when they are needed: those of the file, in their own order or another,
//! and what is computed of them alone. Nothing of them is kept on the host.

use super::definition::StoredTensor;
use super::dequantize::Dequantized;
use super::element::{ElementType, OnnxTensor, decode, to_dtype};
use super::value::{Data, Value};
use crate::ops::SliceRange;
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::weights::{ConversionReport, RowFormat, TensorView, convert_rows};
use crate::{Error, Result};
use prost::bytes::Bytes;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

/// What elements are read from.
#[derive(Debug)]
pub(super) enum Base {
    /// A tensor of the file.
    File(Arc<StoredTensor>),
    /// Computed of such.
    Made(Box<Made>),
}

/// A tensor that is computed whenever it is read.
#[derive(Debug)]
pub(super) struct Made {
    /// The same for the same rule and inputs.
    key: String,
    element: ElementType,
    shape: Shape,
    rule: Rule,
}

/// How a tensor is computed.
#[derive(Debug)]
pub(super) enum Rule {
    /// Tensors of one element type behind each other along an axis.
    Joined { axis: usize, parts: Vec<Stored> },
    /// Floats of integers that share factors.
    Dequantized(Box<Dequantized>),
}

impl Rule {
    /// What it computes of.
    fn inputs(&self) -> Vec<Data> {
        match self {
            Self::Joined { parts, .. } => parts.iter().cloned().map(Data::Stored).collect(),
            Self::Dequantized(rule) => rule.inputs().into_iter().map(|value| value.data.clone()).collect(),
        }
    }
}

impl Base {
    fn key(&self) -> &str {
        match self {
            Self::File(tensor) => &tensor.key,
            Self::Made(made) => &made.key,
        }
    }

    fn element(&self) -> ElementType {
        match self {
            Self::File(tensor) => tensor.element,
            Self::Made(made) => made.element,
        }
    }

    fn shape(&self) -> &Shape {
        match self {
            Self::File(tensor) => &tensor.shape,
            Self::Made(made) => &made.shape,
        }
    }

    /// Its bytes as they would lie in a file.
    pub(super) fn bytes(&self) -> Result<Bytes> {
        match self {
            Self::File(tensor) => Ok(tensor.bytes.clone()),
            Self::Made(made) => match &made.rule {
                Rule::Joined { axis, parts } => joined(*axis, parts).map(Bytes::from),
                Rule::Dequantized(rule) => rule.bytes(made.element, &made.shape).map(Bytes::from),
            },
        }
    }
}

/// Elements of a tensor in some order.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) base: Arc<Base>,
    /// That of the base, or a wider type of floats, which has the same values.
    pub(super) element: ElementType,
    pub(super) shape: Shape,
    offset: usize,
    strides: Vec<isize>,
}

impl Stored {
    fn whole(base: Base) -> Self {
        let (element, shape) = (base.element(), base.shape().clone());
        let strides = signed(&shape);
        Self { base: Arc::new(base), element, shape, offset: 0, strides }
    }

    /// A tensor of the file.
    pub(super) fn file(tensor: Arc<StoredTensor>) -> Self {
        Self::whole(Base::File(tensor))
    }

    /// A tensor that is computed when it is read.
    pub(super) fn made(element: ElementType, shape: impl Into<Shape>, rule: Rule) -> Self {
        let shape = shape.into();
        let of = rule.inputs();
        let hash = |seed: u64| {
            let mut hasher = DefaultHasher::new();
            (seed, element, &shape).hash(&mut hasher);
            of.iter().for_each(|data| hash_data(data, &mut hasher));
            match &rule {
                Rule::Joined { axis, .. } => axis.hash(&mut hasher),
                Rule::Dequantized(rule) => rule.identity().hash(&mut hasher),
            }
            hasher.finish()
        };
        let name = of.iter().find_map(|data| match data {
            Data::Stored(stored) => Some(stored.base.key().split(" (").next().unwrap_or_default()),
            _ => None,
        });
        let what = match &rule {
            Rule::Joined { .. } => "joined",
            Rule::Dequantized(_) => "dequantised",
        };
        let key = format!("{} ({what} {:016x}{:016x})", name.unwrap_or_default(), hash(0), hash(1));
        Self::whole(Base::Made(Box::new(Made { key, element, shape, rule })))
    }

    /// Name of these elements in this order: a weight of this name is uploaded once.
    pub(super) fn key(&self) -> String {
        let base = self.base.key();
        if self.is_whole() {
            return base.to_owned();
        }
        format!("{base} [{} {} {:?}]", self.offset, self.shape, self.strides)
    }

    /// Whether these are all elements of the base in its order.
    pub(super) fn is_whole(&self) -> bool {
        self.offset == 0 && self.is_contiguous() && self.shape.elements() == self.base.shape().elements()
    }

    fn is_contiguous(&self) -> bool {
        let strides = signed(&self.shape);
        (0..strides.len()).all(|axis| self.shape.dims()[axis] == 1 || self.strides[axis] == strides[axis])
    }

    /// Whether its elements can be taken one by one: those of 4 bits lie two in a byte.
    pub(super) fn is_divisible(&self) -> bool {
        self.base.element().bits() >= 8
    }

    /// The type of its floats in the file, which may be shorter than its own.
    pub(super) fn stored_element(&self) -> ElementType {
        self.base.element()
    }

    /// The same elements in the same order under another shape; none where they would have to be
    /// moved.
    pub(super) fn reshaped(&self, dims: &[usize]) -> Option<Self> {
        let shape = Shape::from(dims);
        self.is_contiguous().then(|| Self { strides: signed(&shape), shape, ..self.clone() })
    }

    /// Axis i of the result is axis `permutation[i]`.
    pub(super) fn permuted(&self, permutation: &[usize]) -> Self {
        let dims: Vec<usize> = permutation.iter().map(|&axis| self.shape.dims()[axis]).collect();
        let strides = permutation.iter().map(|&axis| self.strides[axis]).collect();
        Self { shape: dims.into(), strides, ..self.clone() }
    }

    /// A range of each axis, all within it and none empty.
    pub(super) fn sliced(&self, ranges: &[SliceRange]) -> Self {
        let start = |(range, stride): (&SliceRange, &isize)| range.start as isize * stride;
        let first: isize = ranges.iter().zip(&self.strides).map(start).sum();
        let offset = self.offset.saturating_add_signed(first);
        let strides = ranges.iter().zip(&self.strides).map(|(range, stride)| range.step * stride).collect();
        let dims: Vec<usize> = ranges.iter().map(|range| range.count).collect();
        Self { offset, strides, shape: dims.into(), ..self.clone() }
    }

    /// The same floats in a wider type; none where `to` is no such type.
    pub(super) fn widened(&self, to: ElementType) -> Option<Self> {
        let wider = match self.element {
            ElementType::Float16 | ElementType::Bfloat16 => {
                matches!(to, ElementType::Float | ElementType::Double)
            }
            ElementType::Float => to == ElementType::Double,
            _ => false,
        };
        wider.then(|| Self { element: to, ..self.clone() })
    }

    /// The values on the host.
    pub(super) fn tensor(&self) -> Result<Tensor> {
        let bytes = self.base.bytes()?;
        let (element, whole) = (self.base.element(), self.shape.elements());
        let tensor = if element.bits() >= 8 {
            decode(element, &self.shape, &self.gathered(&bytes, 0..whole))
        } else {
            decode(element, &self.shape, &bytes)
        };
        let tensor = tensor
            .map_err(|message| Error::op("onnx", format!("tensor `{}`: {message}", self.base.key())))?;
        Ok(to_dtype(&tensor, self.element.host_dtype()))
    }

    /// Rows of a matrix of floats, all leading dimensions being rows. `bytes` are the base's.
    pub(super) fn rows(&self, bytes: &[u8], rows: Range<usize>, format: RowFormat) -> Result<Vec<u8>> {
        let dtype = self.base.element().host_dtype();
        let convert = |shape: Shape, bytes: &[u8], rows: Range<usize>, transposed: bool| {
            let spec = Spec::new(dtype, shape);
            let view = TensorView { spec: &spec, bytes };
            let format = RowFormat { transposed, ..format };
            convert_rows(&view, rows, format, &mut ConversionReport::default())
        };
        if self.is_contiguous() {
            let bytes = part(bytes, dtype, self.offset, self.shape.elements());
            return convert(self.shape.clone(), bytes, rows, format.transposed);
        }
        if format.transposed {
            return Err(Error::op("onnx", format!("`{}` is read in one order only", self.key())));
        }
        if let (&[_, cols], &[1, pitch]) = (self.shape.dims(), self.strides.as_slice())
            && let Ok(pitch) = usize::try_from(pitch)
            && (self.offset / pitch + cols) * pitch <= self.base.shape().elements()
        {
            // Columns of a matrix of rows of `pitch` elements.
            let bytes = part(bytes, dtype, self.offset / pitch * pitch, cols * pitch);
            let first = self.offset % pitch;
            return convert([cols, pitch].into(), bytes, first + rows.start..first + rows.end, true);
        }
        let (_, cols) = self.shape.rows_and_cols();
        let gathered = self.gathered(bytes, rows.start * cols..rows.end * cols);
        convert([rows.len(), cols].into(), &gathered, 0..rows.len(), false)
    }

    /// The bytes of some elements, counted in this order.
    fn gathered(&self, bytes: &[u8], elements: Range<usize>) -> Vec<u8> {
        let size = self.base.element().bits() / 8;
        if self.is_contiguous() {
            return bytes[(self.offset + elements.start) * size..(self.offset + elements.end) * size]
                .to_vec();
        }
        let mut gathered = Vec::with_capacity(elements.len() * size);
        let (_, cols) = self.shape.rows_and_cols();
        let step = self.strides.last().copied().unwrap_or(1);
        let mut next = elements.start;
        while next < elements.end {
            let count = (cols - next % cols).min(elements.end - next);
            let mut place = self.place(next);
            for _ in 0..count {
                gathered.extend_from_slice(&bytes[place * size..][..size]);
                place = place.wrapping_add_signed(step);
            }
            next += count;
        }
        gathered
    }

    /// Where an element of this order lies in the base.
    fn place(&self, mut element: usize) -> usize {
        let mut place = self.offset;
        for (&size, &stride) in self.shape.dims().iter().zip(&self.strides).rev() {
            place = place.wrapping_add_signed((element % size) as isize * stride);
            element /= size;
        }
        place
    }
}

/// Distances of neighbours along each axis.
fn signed(shape: &Shape) -> Vec<isize> {
    shape.strides().into_iter().map(|stride| stride as isize).collect()
}

fn part(bytes: &[u8], dtype: DType, first: usize, elements: usize) -> &[u8] {
    &bytes[first * dtype.size()..(first + elements) * dtype.size()]
}

fn hash_data(data: &Data, hasher: &mut DefaultHasher) {
    match data {
        Data::Host(tensor) => (tensor.spec(), tensor.bytes()).hash(hasher),
        Data::Stored(stored) => stored.key().hash(hasher),
        Data::Device(device) => device.number.hash(hasher),
    }
}

/// The bytes of a known value as they would lie in a file.
pub(super) fn file_bytes(value: &Value) -> Result<Bytes> {
    match &value.data {
        Data::Stored(stored) if stored.is_whole() && stored.element == stored.base.element() => {
            stored.base.bytes()
        }
        data => {
            let tensor = known_tensor(data)?;
            Ok(OnnxTensor::of_host(value.element, Tensor::clone(&tensor)).to_bytes().into())
        }
    }
}

/// The values of something known.
pub(super) fn known_tensor(data: &Data) -> Result<Arc<Tensor>> {
    match data {
        Data::Host(tensor) => Ok(tensor.clone()),
        Data::Stored(stored) => stored.tensor().map(Arc::new),
        Data::Device(_) => Err(Error::op("onnx", "a value of the device is not known")),
    }
}

/// Tensors behind each other along an axis.
fn joined(axis: usize, parts: &[Stored]) -> Result<Vec<u8>> {
    let bytes = parts.iter().map(|part| part.base.bytes()).collect::<Result<Vec<_>>>()?;
    let outer: usize = parts[0].shape.dims()[..axis].iter().product();
    let size = parts[0].base.element().bits() / 8;
    let total: usize = parts.iter().map(|part| part.shape.elements()).sum();
    let mut joined = Vec::with_capacity(total * size);
    for index in 0..outer {
        for (part, bytes) in parts.iter().zip(&bytes) {
            let length = part.shape.elements() / outer;
            joined.extend_from_slice(&part.gathered(bytes, index * length..(index + 1) * length));
        }
    }
    Ok(joined)
}
