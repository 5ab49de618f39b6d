//! Resizing along any axes by the standard's definition: each axis is a matrix of weights, or the
//! places of nearest elements, computed on the host.

use crate::onnx::element::ElementType;
use crate::onnx::importer::Importer;
use crate::onnx::value::Value;
use crate::ops::{BinaryFn, Gather, MatMul, NearestRounding, ResizeFilter};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Where outputs lie in the input; named as in the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Places {
    HalfPixel,
    PytorchHalfPixel,
    HalfPixelSymmetric,
    Asymmetric,
    AlignCorners,
    TensorflowHalfPixel,
    CropAndResize,
}

/// How one axis is resized.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    pub(super) axis: usize,
    /// Elements of the input and of the output.
    pub(super) size: usize,
    pub(super) outputs: usize,
    /// Outputs per input, not always `outputs / size`.
    pub(super) scale: f64,
    /// First and last place of a crop, as parts of the axis.
    pub(super) region: [f64; 2],
}

/// How all axes are resized.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rule {
    pub(super) filter: ResizeFilter,
    pub(super) places: Places,
    pub(super) antialias: bool,
    /// Whether elements outside of the input have no weight; else the nearest inside counts.
    pub(super) exclude_outside: bool,
    /// What a crop has outside of the input.
    pub(super) extrapolation: f64,
}

impl Axis {
    /// The place of an output in the input.
    fn place(&self, places: Places, output: usize) -> f64 {
        let (index, size) = (output as f64, self.size as f64);
        // Not rounded down, as the scale has it.
        let length = self.scale * size;
        let half_pixel = (index + 0.5) / self.scale - 0.5;
        match places {
            Places::HalfPixel => half_pixel,
            Places::PytorchHalfPixel if length == 1.0 => -0.5,
            Places::PytorchHalfPixel => half_pixel,
            Places::HalfPixelSymmetric => half_pixel + size / 2.0 * (1.0 - self.outputs as f64 / length),
            Places::Asymmetric => index / self.scale,
            Places::TensorflowHalfPixel => (index + 0.5) / self.scale,
            Places::AlignCorners if length == 1.0 => 0.0,
            Places::AlignCorners => index * (size - 1.0) / (length - 1.0),
            Places::CropAndResize => {
                let [start, end] = self.region;
                let along =
                    if length == 1.0 { (end - start) / 2.0 } else { index * (end - start) / (length - 1.0) };
                (start + along) * (size - 1.0)
            }
        }
    }

    fn is_inside(&self, place: f64) -> bool {
        (0.0..=self.size as f64 - 1.0).contains(&place)
    }

    /// The weight of each input for the output at a place.
    fn weights(&self, rule: &Rule, place: f64) -> Vec<f64> {
        let last = self.size as i64 - 1;
        // A place on an element counts as the end of what lies before it.
        let base = place.ceil() - 1.0;
        let squeeze = if rule.antialias { self.scale.min(1.0) } else { 1.0 };
        let radius = if matches!(rule.filter, ResizeFilter::Cubic(_)) { 2.0 } else { 1.0 };
        let first = (-radius / squeeze).floor() as i64 + 1;
        let mut weights = vec![0.0; self.size];
        let mut total = 0.0;
        for tap in first..=1 - first {
            let index = base as i64 + tap;
            if rule.exclude_outside && !(0..=last).contains(&index) {
                continue;
            }
            let weight = rule.filter.weight(((base + tap as f64 - place) * squeeze).abs());
            weights[index.clamp(0, last) as usize] += weight;
            total += weight;
        }
        if rule.antialias || rule.exclude_outside {
            weights.iter_mut().for_each(|weight| *weight /= total);
        }
        weights
    }
}

/// The element that is nearest to a place, by a rounding.
fn nearest(rounding: NearestRounding, place: f64) -> i64 {
    match rounding {
        NearestRounding::Floor => place.floor() as i64,
        NearestRounding::Ceil => place.ceil() as i64,
        NearestRounding::PreferFloor => (place - 0.5).ceil() as i64,
        NearestRounding::PreferCeil => (place + 0.5).floor() as i64,
    }
}

/// Resizes the axes one after the other.
pub(super) fn apply(importer: &mut Importer<'_>, x: &Value, axes: &[Axis], rule: &Rule) -> Result<Value> {
    if let Some(axis) = axes.iter().find(|axis| axis.size == 0 || axis.scale <= 0.0) {
        return Err(Error::op(
            "Resize",
            format!("axis {} of {x} by {} has no elements", axis.axis, axis.scale),
        ));
    }
    let mut value = x.clone();
    let mut inside: Option<Value> = None;
    for axis in axes {
        let places: Vec<f64> = (0..axis.outputs).map(|output| axis.place(rule.places, output)).collect();
        value = match rule.filter {
            ResizeFilter::Nearest(rounding) => {
                let last = axis.size as i64 - 1;
                let indices: Vec<i64> =
                    places.iter().map(|&place| nearest(rounding, place).clamp(0, last)).collect();
                let indices = Value::integers(ElementType::Int64, [indices.len()], &indices);
                importer.apply_one(Gather { axis: axis.axis }, &[&value, &indices], value.element)?
            }
            _ => weighted(importer, &value, axis, rule, &places)?,
        };
        if rule.places == Places::CropAndResize {
            let flags: Vec<f64> =
                places.iter().map(|&place| f64::from(u8::from(axis.is_inside(place)))).collect();
            let mut dims = vec![1; x.rank()];
            dims[axis.axis] = axis.outputs;
            let element = x.element;
            let mask = Value::host(element, Tensor::from_f64(element.host_dtype(), dims, &flags));
            inside = Some(match inside {
                Some(others) => importer.binary(BinaryFn::Mul, &others, &mask)?,
                None => mask,
            });
        }
    }
    match inside {
        Some(inside) => filled(importer, &value, &inside, rule.extrapolation),
        None => Ok(value),
    }
}

/// An axis times its matrix of weights.
fn weighted(
    importer: &mut Importer<'_>,
    x: &Value,
    axis: &Axis,
    rule: &Rule,
    places: &[f64],
) -> Result<Value> {
    importer.check_dims(&[axis.outputs, axis.size])?;
    let weights: Vec<f64> = places.iter().flat_map(|&place| axis.weights(rule, place)).collect();
    let dims = [axis.outputs, axis.size];
    let weights = Tensor::from_f64(ElementType::Float.host_dtype(), dims, &weights);
    let weights = Value::host(ElementType::Float, weights);
    let mut order: Vec<usize> = (0..x.rank()).collect();
    order.swap(axis.axis, x.rank() - 1);
    let rows = importer.transpose(x, &order)?;
    let mut dims = rows.dims().to_vec();
    let flat = importer.reshape(&rows, &[x.shape.elements() / axis.size, axis.size])?;
    let op = MatMul { transpose_b: true, ..MatMul::PLAIN };
    let product = importer.apply_one(op, &[&flat, &weights], x.element)?;
    dims[x.rank() - 1] = axis.outputs;
    let shaped = importer.reshape(&product, &dims)?;
    importer.transpose(&shaped, &order)
}

/// The values where the mask is 1, elsewhere a number.
fn filled(importer: &mut Importer<'_>, values: &Value, mask: &Value, number: f64) -> Result<Value> {
    let kept = importer.binary(BinaryFn::Mul, values, mask)?;
    let one = Value::float(mask.element, 1.0);
    let outside = importer.binary(BinaryFn::Sub, &one, mask)?;
    let outside = importer.with_number(BinaryFn::Mul, &outside, number)?;
    importer.binary(BinaryFn::Add, &kept, &outside)
}
