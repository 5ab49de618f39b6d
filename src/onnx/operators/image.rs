//! Resizing and sampling of images.

use super::Table;
use super::resize::{self, Axis, Places, Rule};
use crate::Result;
use crate::onnx::element::ElementType;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{Coordinates, GridFilter, GridPadding, GridSample, NearestRounding, Resize, ResizeFilter};
use crate::tensor::{Spec, Tensor};

pub(super) const OPERATORS: Table = &[("GridSample", grid_sample), ("Resize", resize), ("Upsample", resize)];

fn grid_sample(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, grid) = (node.input(0)?, node.input(1)?);
    let filter = match node.string("mode", "linear")? {
        "nearest" => GridFilter::Nearest,
        "linear" | "bilinear" => GridFilter::Linear,
        "cubic" | "bicubic" => GridFilter::Cubic,
        other => return Err(node.fail(format!("attribute `mode` must not be {other}"))),
    };
    let padding = match node.string("padding_mode", "zeros")? {
        "zeros" => GridPadding::Zeros,
        "border" => GridPadding::Border,
        "reflection" => GridPadding::Reflection,
        other => return Err(node.fail(format!("attribute `padding_mode` must not be {other}"))),
    };
    let op = GridSample { filter, padding, align_corners: node.flag("align_corners", false)? };
    let grid = importer.cast(&grid, ElementType::Float)?;
    let result = importer.as_floats(&x, |importer, x| importer.apply_one(op, &[x, &grid], x.element))?;
    Ok(vec![result])
}

/// The numbers of an optional input, none where it is empty.
fn numbers(importer: &mut Importer<'_>, value: Option<Value>) -> Result<Option<Vec<f64>>> {
    let Some(value) = value else { return Ok(None) };
    let numbers = importer.host(&value)?.to_f64();
    Ok((!numbers.is_empty()).then_some(numbers))
}

fn filter(node: &Node<'_>) -> Result<ResizeFilter> {
    Ok(match node.string("mode", "nearest")? {
        "nearest" => {
            let default = if node.opset < 11 { "floor" } else { "round_prefer_floor" };
            ResizeFilter::Nearest(match node.string("nearest_mode", default)? {
                "floor" => NearestRounding::Floor,
                "ceil" => NearestRounding::Ceil,
                "round_prefer_floor" => NearestRounding::PreferFloor,
                "round_prefer_ceil" => NearestRounding::PreferCeil,
                other => return Err(node.fail(format!("attribute `nearest_mode` must not be {other}"))),
            })
        }
        "linear" | "bilinear" => ResizeFilter::Linear,
        "cubic" => ResizeFilter::Cubic(node.float("cubic_coeff_a", -0.75)?),
        other => return Err(node.fail(format!("attribute `mode` must not be {other}"))),
    })
}

fn places(node: &Node<'_>) -> Result<Places> {
    let default = if node.opset < 11 { "asymmetric" } else { "half_pixel" };
    Ok(match node.string("coordinate_transformation_mode", default)? {
        "half_pixel" => Places::HalfPixel,
        "pytorch_half_pixel" => Places::PytorchHalfPixel,
        "half_pixel_symmetric" => Places::HalfPixelSymmetric,
        "asymmetric" => Places::Asymmetric,
        "align_corners" => Places::AlignCorners,
        "tf_half_pixel_for_nn" if node.opset < 13 => Places::TensorflowHalfPixel,
        "tf_crop_and_resize" => Places::CropAndResize,
        other => {
            return Err(node.fail(format!("attribute `coordinate_transformation_mode` must not be {other}")));
        }
    })
}

/// How each of the axes is resized that are given, by scales or by sizes.
fn resized_axes(importer: &mut Importer<'_>, node: &Node<'_>, x: &Value) -> Result<Vec<Axis>> {
    let scales_at = if node.opset < 11 { 1 } else { 2 };
    let scales: Option<Vec<f64>> = match node.floats("scales")? {
        Some(scales) => Some(scales.into_iter().map(f64::from).collect()),
        None => numbers(importer, node.optional(scales_at))?,
    };
    let sizes = numbers(importer, node.optional(3))?;
    let region = if node.opset < 11 { None } else { numbers(importer, node.optional(1))? };
    let axes = match node.ints("axes")? {
        Some(axes) => node.resolve_axes(&axes, x.rank())?,
        None => (0..x.rank()).collect(),
    };
    let given =
        sizes.as_ref().or(scales.as_ref()).ok_or_else(|| node.fail("neither scales nor sizes are given"))?;
    let fits = region.as_ref().is_none_or(|region| region.len() == 2 * axes.len());
    if given.len() != axes.len() || !fits {
        return Err(node.fail(format!("{given:?} and {region:?} do not fit {} axes", axes.len())));
    }
    let size = |index: usize| x.dims()[axes[index]] as f64;
    let ratios: Vec<f64> = (0..axes.len()).map(|index| given[index] / size(index)).collect();
    let common = match node.string("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => None,
        "not_larger" => Some(ratios.iter().copied().fold(f64::INFINITY, f64::min)),
        "not_smaller" => Some(ratios.iter().copied().fold(0.0, f64::max)),
        other => return Err(node.fail(format!("attribute `keep_aspect_ratio_policy` must not be {other}"))),
    };
    let axis = |index: usize| {
        let (scale, outputs) = match (&sizes, common) {
            (Some(_), Some(scale)) => (scale, (scale * size(index) + 0.5).floor()),
            (Some(sizes), None) => (ratios[index], sizes[index]),
            (None, _) => (given[index], (size(index) * given[index]).floor()),
        };
        let part = |at: usize| region.as_ref().map_or(at as f64, |region| region[index + at * axes.len()]);
        let (axis, outputs) = (axes[index], outputs as usize);
        Axis { axis, size: x.dims()[axis], outputs, scale, region: [part(0), part(1)] }
    };
    Ok((0..axes.len()).map(axis).collect())
}

/// The engine's own operator, where it computes the same: whole scales of spatial axes.
fn by_kernel(x: &Value, dims: &[usize], axes: &[Axis], rule: &Rule) -> Option<Resize> {
    let coordinates = match rule.places {
        Places::HalfPixel => Coordinates::HalfPixel,
        Places::PytorchHalfPixel => Coordinates::PytorchHalfPixel,
        Places::Asymmetric => Coordinates::Asymmetric,
        Places::AlignCorners => Coordinates::AlignCorners,
        Places::HalfPixelSymmetric | Places::TensorflowHalfPixel | Places::CropAndResize => return None,
    };
    let whole = |axis: &Axis| (axis.size as f64 * axis.scale - axis.outputs as f64).abs() < 1e-3;
    let spatial = (3..=5).contains(&x.rank()) && dims[..2] == x.dims()[..2];
    let plain = !rule.antialias && !rule.exclude_outside && axes.iter().all(whole);
    (spatial && plain && x.shape.elements() > 0).then(|| Resize::new(&dims[2..], rule.filter, coordinates))
}

/// Scales or sizes of all axes, or of those in the attribute `axes`.
fn resize(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let axes = resized_axes(importer, node, &x)?;
    let filter = filter(node)?;
    let rule = Rule {
        filter,
        places: places(node)?,
        antialias: node.flag("antialias", false)? && !matches!(filter, ResizeFilter::Nearest(_)),
        exclude_outside: node.flag("exclude_outside", false)?,
        extrapolation: f64::from(node.float("extrapolation_value", 0.0)?),
    };
    let mut dims = x.dims().to_vec();
    axes.iter().for_each(|axis| dims[axis.axis] = axis.outputs);
    importer.check_dims(&dims)?;
    if x.shape.elements() == 0 {
        return Ok(vec![Value::host(x.element, Tensor::zeros(Spec::new(x.element.host_dtype(), dims)))]);
    }
    if dims.contains(&0) {
        return Err(node.fail(format!("{x} to {dims:?} leaves nothing")));
    }
    // Before version 11 the nearest element is the next one where an axis shrinks, else the last.
    let nearest = matches!(filter, ResizeFilter::Nearest(_));
    let (shrunk, others): (Vec<Axis>, Vec<Axis>) =
        axes.into_iter().partition(|axis| node.opset < 11 && nearest && axis.scale < 1.0);
    let upwards = Rule { filter: ResizeFilter::Nearest(NearestRounding::Ceil), ..rule };
    let result = importer.as_floats(&x, |importer, x| {
        let value = resized(importer, x, &others, &rule)?;
        resized(importer, &value, &shrunk, &upwards)
    })?;
    Ok(vec![result])
}

/// Floats resized along some axes.
fn resized(importer: &mut Importer<'_>, x: &Value, axes: &[Axis], rule: &Rule) -> Result<Value> {
    let changed = |axis: &&Axis| axis.size != axis.outputs || rule.places == Places::CropAndResize;
    let axes: Vec<Axis> = axes.iter().filter(changed).copied().collect();
    if axes.is_empty() {
        return Ok(x.clone());
    }
    let mut dims = x.dims().to_vec();
    axes.iter().for_each(|axis| dims[axis.axis] = axis.outputs);
    match by_kernel(x, &dims, &axes, rule) {
        Some(op) => importer.apply_one(op, &[x], x.element),
        None => resize::apply(importer, x, &axes, rule),
    }
}
