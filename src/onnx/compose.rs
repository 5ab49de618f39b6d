//! What operators of ONNX are put together of: single operators of the engine on values, for every
//! element type, on the host where the inputs are known.

use super::dequantize::{Dequantized, Packed};
use super::element::{ElementType, to_dtype};
use super::host;
use super::importer::{Importer, SMALLEST_WEIGHT};
use super::stored::{Rule, Stored};
use super::value::{Data, Value};
use crate::ops::{Binary, BinaryFn, Cast, Concat, Expand, Integer, IntegerFn, Op, Reduce, ReduceFn};
use crate::ops::{Reshape, Slice, SliceRange, Transpose, Unary, UnaryFn};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};

impl Importer<'_> {
    /// The same elements under another shape.
    pub(super) fn reshape(&mut self, value: &Value, dims: &[usize]) -> Result<Value> {
        self.check_dims(dims)?;
        match &value.data {
            _ if value.dims() == dims => Ok(value.clone()),
            Data::Host(tensor) if dims.iter().product::<usize>() == tensor.spec().elements() => {
                Ok(Value::host(value.element, Tensor::clone(tensor).reshaped(dims)))
            }
            Data::Stored(stored) if dims.iter().product::<usize>() == stored.shape.elements() => {
                match stored.reshaped(dims) {
                    Some(stored) => Ok(Value::read(stored)),
                    None => Ok(Value::read(joined(0, vec![stored.clone()], dims))),
                }
            }
            _ => self.apply_one(Reshape { dims: dims.to_vec() }, &[value], value.element),
        }
    }

    /// Axis i of the result is axis `permutation[i]` of the value.
    pub(super) fn transpose(&mut self, value: &Value, permutation: &[usize]) -> Result<Value> {
        if permutation.iter().copied().eq(0..value.rank()) {
            return Ok(value.clone());
        }
        if let Some(stored) = value.divisible() {
            return Ok(Value::read(stored.permuted(permutation)));
        }
        self.apply_one(Transpose { permutation: permutation.to_vec() }, &[value], value.element)
    }

    /// Repeats a value to a shape by NumPy's rules.
    pub(super) fn expand(&mut self, value: &Value, dims: &[usize]) -> Result<Value> {
        if value.dims() == dims {
            return Ok(value.clone());
        }
        self.apply_one(Expand { dims: dims.to_vec() }, &[value], value.element)
    }

    /// A range of each axis.
    pub(super) fn slice(&mut self, value: &Value, ranges: Vec<SliceRange>) -> Result<Value> {
        let whole = ranges.iter().zip(value.dims()).all(|(range, &size)| *range == SliceRange::full(size));
        if whole && ranges.len() == value.rank() {
            return Ok(value.clone());
        }
        if let Some(stored) = value.divisible().filter(|_| ranges.iter().all(|range| range.count > 0)) {
            let input = Spec::new(DType::F32, value.shape.clone());
            Slice { ranges: ranges.clone() }.infer(&[input])?;
            return Ok(Value::read(stored.sliced(&ranges)));
        }
        self.apply_one(Slice { ranges }, &[value], value.element)
    }

    /// Elements `start..end` of one axis.
    pub(super) fn slice_axis(
        &mut self,
        value: &Value,
        axis: usize,
        start: usize,
        end: usize,
    ) -> Result<Value> {
        let mut ranges: Vec<SliceRange> = value.dims().iter().map(|&size| SliceRange::full(size)).collect();
        ranges[axis] = SliceRange::of(start, end);
        self.slice(value, ranges)
    }

    /// A function of every element of a value of floats.
    pub(super) fn unary(&mut self, value: &Value, function: UnaryFn) -> Result<Value> {
        if !value.element.is_float() {
            return Err(Error::op("onnx", format!("takes floats, got {value}")));
        }
        self.apply_one(Unary(function), &[value], value.element)
    }

    /// A function of the elements of two values of one type; integers wrap as their type does.
    pub(super) fn binary(&mut self, function: BinaryFn, left: &Value, right: &Value) -> Result<Value> {
        if left.element != right.element {
            return Err(Error::op("onnx", format!("takes inputs of one type, got {left} and {right}")));
        }
        let element = left.element;
        if !element.is_float() && left.is_known() && right.is_known() {
            let (left, right) = (self.host(left)?, self.host(right)?);
            let function = |a, b| host::integer_function(function, a, b);
            return host::integers(element, [&left, &right], self.limit(), function);
        }
        let result = self.apply_one(Binary(function), &[left, right], element)?;
        match function {
            BinaryFn::Max | BinaryFn::Min => Ok(result),
            _ => self.wrapped(&result),
        }
    }

    /// A function of a value and one number.
    pub(super) fn with_number(&mut self, function: BinaryFn, value: &Value, number: f64) -> Result<Value> {
        let number = Tensor::from_f64(value.element.host_dtype(), vec![], &[number]);
        self.binary(function, value, &Value::host(value.element, number))
    }

    /// Integers of 4, 8 and 16 bits after arithmetic of 32 bits: modulo 2^bits.
    pub(super) fn wrapped(&mut self, value: &Value) -> Result<Value> {
        let element = value.element;
        if element.is_float() || element.bits() >= 32 || element == ElementType::Bool || value.is_known() {
            return Ok(value.clone());
        }
        match element.bits() {
            8 => self.apply_one(Integer(IntegerFn::Wrap8), &[value], element),
            16 => self.apply_one(Integer(IntegerFn::Wrap16), &[value], element),
            bits => {
                let wide = if element.is_unsigned() { ElementType::Uint32 } else { ElementType::Int32 };
                let half = if element.is_unsigned() { 0.0 } else { f64::from(1 << (bits - 1)) };
                let value = Value { element: wide, ..value.clone() };
                let shifted = self.with_number(BinaryFn::Add, &value, half)?;
                let rest = self.with_number(BinaryFn::Modulo, &shifted, f64::from(1 << bits))?;
                Ok(Value { element, ..self.with_number(BinaryFn::Sub, &rest, half)? })
            }
        }
    }

    /// The values in another element type, as Cast of ONNX gives them.
    pub(super) fn cast(&mut self, value: &Value, to: ElementType) -> Result<Value> {
        let from = value.element;
        if from == to {
            return Ok(value.clone());
        }
        if let Data::Stored(stored) = &value.data
            && let Some(wider) = stored.widened(to)
        {
            return Ok(Value::read(wider));
        }
        if to == ElementType::Float
            && let Some(x) = self.packed(value)
        {
            return Ok(self.dequantized(Dequantized::of(x, value.rank()), to, value.shape.clone()));
        }
        if value.is_known() {
            let tensor = self.host(value)?;
            return Ok(cast_known(&tensor, from, to));
        }
        if from.is_float() && to.is_float() {
            // Both are f32 on the device; a narrower type rounds.
            return self.rounded(value, to);
        }
        if to == ElementType::Bool {
            return self.apply_one(Integer(IntegerFn::IsNonzero), &[value], to);
        }
        let result = if from.device_dtype() == to.device_dtype() {
            Value { element: to, ..value.clone() }
        } else {
            self.apply_one(Cast { to: to.device_dtype() }, &[value], to)?
        };
        if to.is_float() { self.rounded(&result, to) } else { self.wrapped(&result) }
    }

    /// Stored integers of few bits that are many enough to be read when they are needed.
    pub(super) fn packed(&self, value: &Value) -> Option<Packed> {
        let many = matches!(value.data, Data::Stored(_)) && value.shape.elements() >= SMALLEST_WEIGHT;
        let short = !value.element.is_float() && value.element.bits() <= 16;
        (many && short && value.element != ElementType::Bool).then(|| Packed::of(value))
    }

    /// Floats of stored integers, of which all inputs are known.
    pub(super) fn dequantized(
        &self,
        rule: Dequantized,
        element: ElementType,
        shape: impl Into<Shape>,
    ) -> Value {
        Value::read(Stored::made(element, shape, Rule::Dequantized(Box::new(rule))))
    }

    /// Values of one type behind each other along an axis.
    pub(super) fn concat(&mut self, axis: usize, parts: &[&Value]) -> Result<Value> {
        let (first, size) = (parts[0], |part: &&Value| part.dims()[axis]);
        let mut dims = first.dims().to_vec();
        dims[axis] = parts.iter().map(size).sum();
        self.check_dims(&dims)?;
        let stored: Option<Vec<Stored>> = parts.iter().map(|part| part.divisible().cloned()).collect();
        if let Some(parts) = stored
            && dims.iter().product::<usize>() >= SMALLEST_WEIGHT
            && parts.iter().all(|part| part.stored_element() == parts[0].stored_element())
        {
            return Ok(Value::read(joined(axis, parts, &dims)));
        }
        self.apply_one(Concat { axis }, parts, first.element)
    }

    /// Floats of the device as floats of a type, rounded to it.
    fn rounded(&mut self, value: &Value, to: ElementType) -> Result<Value> {
        let dtype = match to {
            ElementType::Float16 => DType::F16,
            ElementType::Bfloat16 => DType::BF16,
            _ => return Ok(Value { element: to, ..value.clone() }),
        };
        self.round_through(value, dtype, to)
    }

    /// Reduces axes of a value, all where there are none.
    pub(super) fn reduce(
        &mut self,
        value: &Value,
        function: ReduceFn,
        axes: &[usize],
        keep_dims: bool,
    ) -> Result<Value> {
        self.apply_one(Reduce { function, axes: axes.to_vec(), keep_dims }, &[value], value.element)
    }

    /// Applies `body` to a value as f32: for integers whose values an f32 holds exactly.
    pub(super) fn as_floats(
        &mut self,
        value: &Value,
        body: impl FnOnce(&mut Self, &Value) -> Result<Value>,
    ) -> Result<Value> {
        let element = value.element;
        if element.is_float() {
            return body(self, value);
        }
        if element.bits() > 16 {
            return Err(Error::Unsupported(format!("{element} here")));
        }
        let floats = self.cast(value, ElementType::Float)?;
        let result = body(self, &floats)?;
        self.cast(&result, element)
    }
}

/// Stored tensors behind each other along an axis.
fn joined(axis: usize, parts: Vec<Stored>, dims: &[usize]) -> Stored {
    let (element, value) = (parts[0].stored_element(), parts[0].element);
    let whole = Stored::made(element, dims, Rule::Joined { axis, parts });
    whole.widened(value).unwrap_or(whole)
}

/// A known value in another element type: floats lose their fraction, integers wrap.
fn cast_known(tensor: &Tensor, from: ElementType, to: ElementType) -> Value {
    if to.is_float() {
        return Value::host(to, to_dtype(tensor, to.host_dtype()));
    }
    let values: Vec<i64> = if from.is_float() {
        let integer =
            |value: f64| if to == ElementType::Bool { i64::from(value != 0.0) } else { value as i64 };
        tensor.to_f64().into_iter().map(|value| to.wrap(integer(value))).collect()
    } else {
        tensor.to_i64().into_iter().map(|value| to.wrap(value)).collect()
    };
    Value::integers(to, tensor.dims(), &values)
}
