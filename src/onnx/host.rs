//! Computing on the host what is known when a graph is built.

use super::element::{ElementType, from_device, to_device};
use super::file::elements;
use super::value::Value;
use crate::ops::{
    BinaryFn, Concat, DepthToSpace, Expand, Gather, GatherElements, GatherNd, Op, Reshape, Slice,
    SpaceToDepth, Transpose,
};
use crate::tensor::{Shape, Spec, Tensor};
use crate::{Error, Result};
use std::any::Any;
use std::sync::Arc;

/// How many of an operator's inputs it only moves: its output is made of their elements.
fn moved_inputs(op: &dyn Op, inputs: usize) -> Option<usize> {
    let any: &dyn Any = op;
    let moves_one = any.is::<Slice>()
        || any.is::<Transpose>()
        || any.is::<Expand>()
        || any.is::<Reshape>()
        || any.is::<Gather>()
        || any.is::<GatherElements>()
        || any.is::<GatherNd>()
        || any.is::<DepthToSpace>()
        || any.is::<SpaceToDepth>();
    if moves_one {
        return Some(1);
    }
    any.is::<Concat>().then_some(inputs)
}

/// The outputs of an operator by its reference. Elements that are only moved keep all their bits.
pub(super) fn apply(
    op: &dyn Op,
    inputs: &[(ElementType, Arc<Tensor>)],
    outputs: &[ElementType],
    limit: usize,
) -> Result<Vec<Value>> {
    let moved = moved_inputs(op, inputs.len()).unwrap_or(0);
    let mut given = Vec::with_capacity(inputs.len());
    let mut first = 0;
    for (index, (element, tensor)) in inputs.iter().enumerate() {
        if index < moved {
            let count = u32::try_from(tensor.spec().elements()).ok().and_then(|n| n.checked_add(first));
            let end = count.ok_or_else(|| Error::op(op.name(), "has too many elements for the host"))?;
            given.push(Tensor::from_u32(tensor.dims(), &(first..end).collect::<Vec<u32>>()));
            first = end;
        } else {
            given.push(to_device(tensor, *element)?);
        }
    }
    let specs: Vec<Spec> = given.iter().map(|tensor| tensor.spec().clone()).collect();
    for spec in op.infer(&specs)? {
        if elements(spec.shape.dims()).is_none_or(|elements| elements > limit) {
            return Err(Error::op(op.name(), format!("a tensor of {spec} is larger than {limit} elements")));
        }
    }
    let results = op.reference(&given)?;
    let results = results.into_iter().zip(outputs).map(|(result, &element)| {
        if moved > 0 {
            return Value::host(element, pick(&inputs[..moved], &result));
        }
        Value::host(element, from_device(&result, element))
    });
    Ok(results.collect())
}

/// The elements of tensors of one dtype at these places, counted through all of them.
fn pick(inputs: &[(ElementType, Arc<Tensor>)], places: &Tensor) -> Tensor {
    let dtype = inputs[0].1.dtype();
    let size = dtype.size();
    let data: Vec<u8>;
    let all: &[u8] = match inputs {
        [(_, only)] => only.bytes(),
        _ => {
            data = inputs.iter().flat_map(|(_, tensor)| tensor.bytes()).copied().collect();
            &data
        }
    };
    let bytes = places.to_u32().into_iter().flat_map(|place| &all[place as usize * size..][..size]).copied();
    Tensor::from_bytes(Spec::new(dtype, places.dims()), bytes.collect())
}

/// The values of two tensors, broadcast to one shape by NumPy's rules.
///
/// # Errors
/// When the shapes do not fit, or the result is larger than `limit` elements.
pub(super) fn broadcast(tensors: &[&Tensor], limit: usize) -> Result<(Shape, Vec<Tensor>)> {
    let mut shape = Shape::default();
    for tensor in tensors {
        let both = shape.broadcast(&tensor.spec().shape);
        shape = both.ok_or_else(|| {
            Error::op("onnx", format!("{shape} and {} do not broadcast", tensor.spec().shape))
        })?;
    }
    if elements(shape.dims()).is_none_or(|elements| elements > limit) {
        return Err(Error::op("onnx", format!("a tensor of {shape} is larger than {limit} elements")));
    }
    let op = Expand { dims: shape.dims().to_vec() };
    let tensors =
        tensors.iter().map(|tensor| op.reference(&[Tensor::clone(tensor)]).map(|mut all| all.remove(0)));
    Ok((shape, tensors.collect::<Result<_>>()?))
}

/// A function of integers of 64 bits.
pub(super) fn integer_function(function: BinaryFn, a: i64, b: i64) -> i64 {
    match function {
        BinaryFn::Add => a.wrapping_add(b),
        BinaryFn::Sub => a.wrapping_sub(b),
        BinaryFn::Mul => a.wrapping_mul(b),
        BinaryFn::Div | BinaryFn::ExactDiv => a.checked_div(b).unwrap_or(a),
        BinaryFn::Max => a.max(b),
        BinaryFn::Min => a.min(b),
        BinaryFn::Remainder => a.checked_rem(b).unwrap_or(0),
        BinaryFn::Modulo => {
            let rest = a.checked_rem(b).unwrap_or(0);
            if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        }
        BinaryFn::BitAnd => a & b,
        BinaryFn::BitOr => a | b,
        BinaryFn::BitXor => a ^ b,
        BinaryFn::ShiftLeft => shift(b, |bits| a.checked_shl(bits)),
        BinaryFn::ShiftRight => shift(b, |bits| a.checked_shr(bits)),
        BinaryFn::Equal => i64::from(a == b),
        BinaryFn::Less => i64::from(a < b),
        BinaryFn::LessOrEqual => i64::from(a <= b),
        BinaryFn::Greater => i64::from(a > b),
        BinaryFn::GreaterOrEqual => i64::from(a >= b),
        BinaryFn::PRelu => a.max(0).wrapping_add(b.wrapping_mul(a.min(0))),
        BinaryFn::Pow => match u32::try_from(b) {
            Ok(exponent) => a.wrapping_pow(exponent),
            Err(_) if a == 1 => 1,
            Err(_) if a == -1 => 1 - 2 * (b & 1),
            Err(_) => 0,
        },
    }
}

/// A shift by `bits`, 0 where there are not so many bits.
fn shift(bits: i64, function: impl Fn(u32) -> Option<i64>) -> i64 {
    u32::try_from(bits).ok().and_then(function).unwrap_or(0)
}

/// A function of known values of one type, integers or booleans, broadcast; the results are of
/// type `element`, wrapped to it.
pub(super) fn integers(
    element: ElementType,
    inputs: [&Tensor; 2],
    limit: usize,
    function: impl Fn(i64, i64) -> i64,
) -> Result<Value> {
    let (shape, tensors) = broadcast(&inputs, limit)?;
    let pairs = tensors[0].to_i64().into_iter().zip(tensors[1].to_i64());
    let values: Vec<i64> = pairs.map(|(a, b)| element.wrap(function(a, b))).collect();
    Ok(Value::integers(element, shape, &values))
}

/// Combines the integers along axes into one each.
pub(super) fn reduce_integers(
    element: ElementType,
    tensor: &Tensor,
    axes: &[usize],
    keep_dims: bool,
    combine: impl Fn(&[i64]) -> i64,
) -> Result<Value> {
    let dims = tensor.dims();
    let kept: Vec<usize> = (0..dims.len()).filter(|axis| !axes.contains(axis)).collect();
    let permutation = kept.iter().chain(axes).copied().collect();
    let grouped = Transpose { permutation }.reference(std::slice::from_ref(tensor))?.remove(0).to_i64();
    let length: usize = axes.iter().map(|&axis| dims[axis]).product();
    let count: usize = kept.iter().map(|&axis| dims[axis]).product();
    let group = |index: usize| element.wrap(combine(&grouped[index * length..][..length]));
    let values: Vec<i64> = (0..count).map(group).collect();
    let size = |axis: usize| if axes.contains(&axis) { 1 } else { dims[axis] };
    let shape: Vec<usize> =
        (0..dims.len()).filter(|axis| keep_dims || kept.contains(axis)).map(size).collect();
    Ok(Value::integers(element, shape, &values))
}
