//! Normalisations and softmax.

use super::Table;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{BatchNorm, BinaryFn, GroupNorm, LayerNorm, Lrn, ReduceFn, RmsNorm, Softmax, UnaryFn};
use crate::tensor::Tensor;
use crate::{Error, Result};

pub(super) const OPERATORS: Table = &[
    ("BatchNormalization", batch_normalization),
    ("GroupNormalization", group_normalization),
    ("InstanceNormalization", instance_normalization),
    ("LRN", lrn),
    ("LayerNormalization", layer_normalization),
    ("LogSoftmax", |importer, node| softmax(importer, node, true)),
    ("LpNormalization", lp_normalization),
    ("MeanVarianceNormalization", mean_variance_normalization),
    ("RMSNormalization", rms_normalization),
    // Exports of ONNX Runtime name it without a domain too.
    ("SimplifiedLayerNormalization", simplified_layer_normalization),
    ("Softmax", |importer, node| softmax(importer, node, false)),
];

/// Along one axis since version 13; before, over all axes from it.
fn softmax(importer: &mut Importer<'_>, node: &Node<'_>, logarithm: bool) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let op = Softmax { logarithm };
    if node.opset < 13 {
        let axis = match x.rank() {
            0 => 0,
            rank => node.axis(1.min(rank as i64 - 1), rank)?,
        };
        let (outer, inner) = x.dims().split_at(axis);
        let rows = importer.reshape(&x, &[outer.iter().product(), inner.iter().product()])?;
        let result = importer.apply_one(op, &[&rows], x.element)?;
        return Ok(vec![importer.reshape(&result, x.dims())?]);
    }
    if x.rank() == 0 {
        return Ok(vec![importer.apply_one(op, &[&x], x.element)?]);
    }
    let axis = node.axis(-1, x.rank())?;
    let mut permutation: Vec<usize> = (0..x.rank()).collect();
    permutation.swap(axis, x.rank() - 1);
    let rows = importer.transpose(&x, &permutation)?;
    let result = importer.apply_one(op, &[&rows], x.element)?;
    Ok(vec![importer.transpose(&result, &permutation)?])
}

fn batch_normalization(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    if node.flag("training_mode", false)? {
        return batch_normalization_in_training(importer, node);
    }
    if !node.flag("spatial", true)? {
        return Err(Error::Unsupported("BatchNormalization with spatial = 0".into()));
    }
    node.expect_outputs(1)?;
    let inputs = node.all_inputs()?;
    let inputs: Vec<&Value> = inputs.iter().collect();
    let op = BatchNorm::new(node.float("epsilon", 1e-5)?);
    let x = inputs[0];
    if x.rank() == 1 {
        return Err(Error::Unsupported(format!("BatchNormalization of {x}")));
    }
    Ok(vec![importer.apply_one(op, &inputs, x.element)?])
}

/// With the statistics of the batch; they are also mixed into the running ones.
fn batch_normalization_in_training(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, momentum) = (node.input(0)?, f64::from(node.float("momentum", 0.9)?));
    let axes: Vec<usize> = (0..x.rank()).filter(|&axis| axis != 1).collect();
    let mean = importer.reduce(&x, ReduceFn::Mean, &axes, true)?;
    let centred = importer.binary(BinaryFn::Sub, &x, &mean)?;
    let squares = importer.unary(&centred, UnaryFn::Square)?;
    let variance = importer.reduce(&squares, ReduceFn::Mean, &axes, true)?;
    let channels = x.dims().get(1).copied().unwrap_or(1);
    let (mean, variance) = (importer.reshape(&mean, &[channels])?, importer.reshape(&variance, &[channels])?);
    let op = BatchNorm::new(node.float("epsilon", 1e-5)?);
    let y = importer.apply_one(op, &[&x, &node.input(1)?, &node.input(2)?, &mean, &variance], x.element)?;
    let mut outputs = vec![y];
    for (index, batch) in [(3, mean), (4, variance)] {
        let old = importer.with_number(BinaryFn::Mul, &node.input(index)?, momentum)?;
        let new = importer.with_number(BinaryFn::Mul, &batch, 1.0 - momentum)?;
        outputs.push(importer.binary(BinaryFn::Add, &old, &new)?);
    }
    Ok(outputs)
}

fn instance_normalization(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, weight, bias) = (node.input(0)?, node.input(1)?, node.input(2)?);
    let channels = x.dims().get(1).copied().unwrap_or(0);
    let op = GroupNorm::instance(channels, node.float("epsilon", 1e-5)?);
    Ok(vec![importer.apply_one(op, &[&x, &weight, &bias], x.element)?])
}

/// Scale and bias are of channels since version 21, of groups before.
fn group_normalization(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let groups = node.int("num_groups", 0)?;
    let channels = x.dims().get(1).copied().unwrap_or(0);
    let groups = usize::try_from(groups).ok().filter(|&groups| groups > 0 && channels % groups == 0);
    let groups = groups.ok_or_else(|| node.fail(format!("attribute `num_groups` does not divide {x}")))?;
    let mut factors = Vec::new();
    for index in [1, 2] {
        let mut value = node.input(index)?;
        if node.opset < 21 {
            let column = importer.reshape(&value, &[groups, 1])?;
            let all = importer.expand(&column, &[groups, channels / groups])?;
            value = importer.reshape(&all, &[channels])?;
        }
        factors.push(value);
    }
    let op = GroupNorm::new(groups, node.float("epsilon", 1e-5)?);
    Ok(vec![importer.apply_one(op, &[&x, &factors[0], &factors[1]], x.element)?])
}

fn lrn(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let size = node.int("size", 0)?;
    let size = usize::try_from(size).map_err(|_| node.fail(format!("attribute `size` is {size}")))?;
    let (alpha, beta, bias) =
        (node.float("alpha", 1e-4)?, node.float("beta", 0.75)?, node.float("bias", 1.0)?);
    Ok(vec![importer.apply_one(Lrn::new(size, alpha, beta, bias), &[&x], x.element)?])
}

/// A value of the axes from `axis` as a vector, as long as these are.
fn as_vector(importer: &mut Importer<'_>, x: &Value, axis: usize, value: &Value) -> Result<Value> {
    let inner = &x.dims()[axis..];
    let all = importer.expand(value, inner)?;
    importer.reshape(&all, &[inner.iter().product()])
}

/// Layer normalisation over the axes from `axis`, with a weight and a bias of them.
pub(super) fn layer(
    importer: &mut Importer<'_>,
    x: &Value,
    (weight, bias): (&Value, Option<&Value>),
    axis: usize,
    eps: f32,
) -> Result<Value> {
    let (outer, inner) = x.dims().split_at(axis);
    let flat = importer.reshape(x, &[outer.iter().product(), inner.iter().product()])?;
    let weight = as_vector(importer, x, axis, weight)?;
    let bias = bias.map(|bias| as_vector(importer, x, axis, bias)).transpose()?;
    let inputs: Vec<&Value> = [&flat, &weight].into_iter().chain(&bias).collect();
    let y = importer.apply_one(LayerNorm::new(eps, bias.is_some()), &inputs, x.element)?;
    importer.reshape(&y, x.dims())
}

fn layer_normalization(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let axis = node.axis(-1, x.rank())?;
    let eps = node.float("epsilon", 1e-5)?;
    let bias = node.optional(2);
    let mut outputs = vec![layer(importer, &x, (&node.input(1)?, bias.as_ref()), axis, eps)?];
    if node.has_output(1) || node.has_output(2) {
        let (outer, inner) = x.dims().split_at(axis);
        let flat = importer.reshape(&x, &[outer.iter().product(), inner.iter().product()])?;
        let mut dims = outer.to_vec();
        dims.resize(x.rank(), 1);
        let mean = importer.reduce(&flat, ReduceFn::Mean, &[1], true)?;
        let centred = importer.binary(BinaryFn::Sub, &flat, &mean)?;
        let squares = importer.unary(&centred, UnaryFn::Square)?;
        let variance = importer.reduce(&squares, ReduceFn::Mean, &[1], true)?;
        let raised = importer.with_number(BinaryFn::Add, &variance, f64::from(eps))?;
        let inverse = importer.unary(&raised, UnaryFn::InverseSqrt)?;
        outputs.push(importer.reshape(&mean, &dims)?);
        outputs.push(importer.reshape(&inverse, &dims)?);
    }
    Ok(outputs)
}

fn rms_normalization(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let axis = node.axis(-1, x.rank())?;
    let eps = node.float("epsilon", 1e-5)?;
    Ok(vec![root_mean_square(importer, &x, &node.input(1)?, axis, eps)?])
}

/// The same with one output more, the inverse of the root mean square, which nothing reads.
pub(super) fn simplified_layer_normalization(
    importer: &mut Importer<'_>,
    node: &Node<'_>,
) -> Result<Vec<Value>> {
    node.expect_outputs(1)?;
    rms_normalization(importer, node)
}

/// x divided by its root mean square over the axes from `axis`, times a weight of them.
pub(super) fn root_mean_square(
    importer: &mut Importer<'_>,
    x: &Value,
    weight: &Value,
    axis: usize,
    eps: f32,
) -> Result<Value> {
    let (outer, inner) = x.dims().split_at(axis);
    let flat = importer.reshape(x, &[outer.iter().product(), inner.iter().product()])?;
    let weight = as_vector(importer, x, axis, weight)?;
    let op = RmsNorm { eps, offset: 0.0, residual: false };
    let y = importer.apply_one(op, &[&flat, &weight], x.element)?;
    importer.reshape(&y, x.dims())
}

/// (x - mean) / (standard deviation + 1e-9) over the axes.
fn mean_variance_normalization(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let axes = node.resolve_axes(&node.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]), x.rank())?;
    let mean = importer.reduce(&x, ReduceFn::Mean, &axes, true)?;
    let centred = importer.binary(BinaryFn::Sub, &x, &mean)?;
    let squares = importer.unary(&centred, UnaryFn::Square)?;
    let variance = importer.reduce(&squares, ReduceFn::Mean, &axes, true)?;
    let deviation = importer.unary(&variance, UnaryFn::Sqrt)?;
    let divisor = importer.with_number(BinaryFn::Add, &deviation, 1e-9)?;
    Ok(vec![importer.binary(BinaryFn::Div, &centred, &divisor)?])
}

/// x divided by its norm along an axis; 0 where that is 0.
fn lp_normalization(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let axis = node.axis(-1, x.rank())?;
    let norm = match node.int("p", 2)? {
        1 => {
            let sizes = importer.unary(&x, UnaryFn::Abs)?;
            importer.reduce(&sizes, ReduceFn::Sum, &[axis], true)?
        }
        2 => {
            let squares = importer.unary(&x, UnaryFn::Square)?;
            let sum = importer.reduce(&squares, ReduceFn::Sum, &[axis], true)?;
            importer.unary(&sum, UnaryFn::Sqrt)?
        }
        other => return Err(node.fail(format!("attribute `p` must be 1 or 2, got {other}"))),
    };
    let smallest = Tensor::from_f64(x.element.host_dtype(), vec![], &[f64::from(f32::MIN_POSITIVE)]);
    let norm = importer.binary(BinaryFn::Max, &norm, &Value::host(x.element, smallest))?;
    Ok(vec![importer.binary(BinaryFn::Div, &x, &norm)?])
}
