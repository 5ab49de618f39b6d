//! Floats of integers that share factors: weights that are stored in 2 to 16 bits.

use super::element::ElementType;
use super::stored::{file_bytes, known_tensor};
use super::value::Value;
use crate::tensor::Shape;
use crate::{Error, Result};
use half::{bf16, f16};

/// Integers of a few bits as they lie in the bytes of a tensor, low bits first.
#[derive(Debug)]
pub(super) struct Packed {
    /// Known.
    pub(super) value: Value,
    /// 2, 4, 8 or 16.
    pub(super) bits: usize,
    /// Whether they have a sign.
    pub(super) signed: bool,
    /// From one row to the next, in integers.
    pub(super) pitch: usize,
}

impl Packed {
    /// The integers that a value has by its own type.
    pub(super) fn of(value: &Value) -> Self {
        let pitch = value.dims().last().copied().unwrap_or(1);
        Self { value: value.clone(), bits: value.element.bits(), signed: !value.element.is_unsigned(), pitch }
    }

    fn get(&self, bytes: &[u8], index: usize) -> i32 {
        let (place, unused) = (index * self.bits / 8, 32 - self.bits as u32);
        let integer = match self.bits {
            16 => u32::from(u16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]])),
            bits => u32::from(bytes[place]) >> (index * bits % 8),
        };
        let shifted = integer << unused;
        if self.signed { shifted.cast_signed() >> unused } else { (shifted >> unused).cast_signed() }
    }
}

/// What is subtracted from the integers of a group.
#[derive(Debug)]
pub(super) enum ZeroPoint {
    /// The same of all.
    Number(f64),
    /// Rows of integers, one a group.
    Integers(Packed),
    /// One a group.
    Floats(Value),
}

/// (x - zero point) scale, where groups of elements share both.
#[derive(Debug)]
pub(super) struct Dequantized {
    /// The integers; those of a row behind the last column of the result are not read.
    pub(super) x: Packed,
    /// A float for each group; 1 if there is none.
    pub(super) scale: Option<Value>,
    pub(super) zero: ZeroPoint,
    /// By axis of the result: how many neighbours are in one group.
    pub(super) shared: Vec<usize>,
}

impl Dequantized {
    /// The integers themselves, of a tensor of this rank.
    pub(super) fn of(x: Packed, rank: usize) -> Self {
        Self { x, scale: None, zero: ZeroPoint::Number(0.0), shared: vec![1; rank] }
    }

    /// The values that it is computed of.
    pub(super) fn inputs(&self) -> Vec<&Value> {
        let zero = match &self.zero {
            ZeroPoint::Number(_) => None,
            ZeroPoint::Integers(packed) => Some(&packed.value),
            ZeroPoint::Floats(value) => Some(value),
        };
        [&self.x.value].into_iter().chain(&self.scale).chain(zero).collect()
    }

    /// What tells it from others with the same inputs.
    pub(super) fn identity(&self) -> String {
        let zero = match self.zero {
            ZeroPoint::Number(number) => number,
            ZeroPoint::Integers(_) | ZeroPoint::Floats(_) => f64::NAN,
        };
        let Packed { bits, signed, pitch, .. } = self.x;
        format!("{bits} {signed} {pitch} {zero} {:?} {}", self.shared, self.scale.is_some())
    }

    /// The result as it would lie in a file.
    pub(super) fn bytes(&self, element: ElementType, shape: &Shape) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(shape.elements() * element.bits() / 8);
        match element {
            ElementType::Float => self.each(shape, |value| bytes.extend(value.to_le_bytes())),
            ElementType::Float16 => {
                self.each(shape, |value| bytes.extend(f16::from_f32(value).to_le_bytes()))
            }
            ElementType::Bfloat16 => {
                self.each(shape, |value| bytes.extend(bf16::from_f32(value).to_le_bytes()))
            }
            other => Err(Error::op("onnx", format!("integers do not become {other} here"))),
        }?;
        Ok(bytes)
    }

    /// Gives each element of the result in order.
    fn each(&self, shape: &Shape, mut give: impl FnMut(f32)) -> Result<()> {
        let (rows, cols) = shape.rows_and_cols();
        let outer = &shape.dims()[..shape.rank().saturating_sub(1)];
        let (shared, inner) = self.shared.split_at(outer.len());
        let inner = inner.first().copied().unwrap_or(1);
        let groups: Vec<usize> =
            shape.dims().iter().zip(&self.shared).map(|(size, shared)| size.div_ceil(*shared)).collect();
        let groups = Shape::from(groups);
        let (strides, count) = (groups.strides(), groups.elements());
        let scales = self.scale.as_ref().map(|scale| floats(scale, count)).transpose()?;
        let zeros = self.zeros(&groups)?;
        let bytes = file_bytes(&self.x.value)?;
        let last = rows.saturating_sub(1) * self.x.pitch + cols;
        if (last * self.x.bits).div_ceil(8) > bytes.len() {
            return Err(Error::op("onnx", format!("{} has less than {last} integers", self.x.value)));
        }
        for row in 0..rows {
            let (mut first, mut rest) = (0, row);
            for (axis, &size) in outer.iter().enumerate().rev() {
                first += rest % size / shared[axis] * strides[axis];
                rest /= size;
            }
            for col in 0..cols {
                let group = first + col / inner;
                let integer = f64::from(self.x.get(&bytes, row * self.x.pitch + col));
                let zero = match (&zeros, &self.zero) {
                    (Some(zeros), _) => zeros[group],
                    (None, ZeroPoint::Number(number)) => *number,
                    (None, _) => 0.0,
                };
                let scale = scales.as_ref().map_or(1.0, |scales| scales[group]);
                give(((integer - zero) * scale) as f32);
            }
        }
        Ok(())
    }

    /// The zero point of each group, where they differ.
    fn zeros(&self, groups: &Shape) -> Result<Option<Vec<f64>>> {
        match &self.zero {
            ZeroPoint::Number(_) => Ok(None),
            ZeroPoint::Floats(value) => floats(value, groups.elements()).map(Some),
            ZeroPoint::Integers(packed) => {
                let bytes = file_bytes(&packed.value)?;
                let (rows, cols) = groups.rows_and_cols();
                let needed = rows.saturating_sub(1) * packed.pitch + cols;
                if (needed * packed.bits).div_ceil(8) > bytes.len() {
                    return Err(Error::op(
                        "onnx",
                        format!("{} has less than {needed} integers", packed.value),
                    ));
                }
                let place = |index: usize| index / cols * packed.pitch + index % cols;
                let zero = |index: usize| f64::from(packed.get(&bytes, place(index)));
                Ok(Some((0..rows * cols).map(zero).collect()))
            }
        }
    }
}

/// A float for each group.
fn floats(value: &Value, groups: usize) -> Result<Vec<f64>> {
    let floats = known_tensor(&value.data)?.to_f64();
    match floats.len() == groups {
        true => Ok(floats),
        false => Err(Error::op("onnx", format!("{value} is not one number for each of {groups} groups"))),
    }
}
