//! Recurrent layers: RNN, GRU, LSTM.

use super::Table;
use crate::onnx::element::ElementType;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{BinaryFn, Cell, Concat, Directions, Linear, MatMul, Recurrent, UnaryFn};
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};

pub(super) const OPERATORS: Table = &[
    ("GRU", |importer, node| {
        recurrent(importer, node, Cell::Gru { reset_after: node.flag("linear_before_reset", false)? })
    }),
    ("LSTM", |importer, node| {
        let (peephole, coupled) = (node.optional(7).is_some(), node.flag("input_forget", false)?);
        recurrent(importer, node, Cell::Lstm { peephole, coupled })
    }),
    ("RNN", |importer, node| recurrent(importer, node, Cell::Rnn)),
];

fn directions(node: &Node<'_>) -> Result<Directions> {
    match node.string("direction", "forward")? {
        "forward" => Ok(Directions::Forward),
        "reverse" => Ok(Directions::Reverse),
        "bidirectional" => Ok(Directions::Both),
        other => Err(node
            .fail(format!("attribute `direction` must be forward, reverse or bidirectional, got {other}"))),
    }
}

/// A function of the standard's list; those with parameters take the next of the given ones.
fn activation(
    name: &str,
    alphas: &mut impl Iterator<Item = f32>,
    betas: &mut impl Iterator<Item = f32>,
) -> Result<UnaryFn> {
    let mut both = |alpha: f32, beta: f32| (alphas.next().unwrap_or(alpha), betas.next().unwrap_or(beta));
    Ok(match name.to_ascii_lowercase().as_str() {
        "affine" => {
            let (alpha, beta) = both(1.0, 0.0);
            UnaryFn::Affine { alpha, beta }
        }
        "scaledtanh" => {
            let (alpha, beta) = both(1.0, 1.0);
            UnaryFn::ScaledTanh { alpha, beta }
        }
        "hardsigmoid" => {
            let (alpha, beta) = both(0.2, 0.5);
            UnaryFn::HardSigmoid { alpha, beta }
        }
        "elu" => UnaryFn::Elu(alphas.next().unwrap_or(1.0)),
        "leakyrelu" => UnaryFn::LeakyRelu(alphas.next().unwrap_or(0.01)),
        "relu" => UnaryFn::Relu,
        "sigmoid" => UnaryFn::Sigmoid,
        "softplus" => UnaryFn::Softplus,
        "softsign" => UnaryFn::Softsign,
        "tanh" => UnaryFn::Tanh,
        "thresholdedrelu" => UnaryFn::ThresholdedRelu(alphas.next().unwrap_or(1.0)),
        _ => return Err(Error::Unsupported(format!("the activation {name} of recurrent layers"))),
    })
}

/// The layer that the attributes describe, or that of each direction where they have functions of
/// their own.
fn layers(node: &Node<'_>, cell: Cell) -> Result<Vec<Recurrent>> {
    let mut op = Recurrent::new(cell, directions(node)?);
    op.clip = node.has("clip").then(|| node.float("clip", 0.0)).transpose()?;
    let Some(names) = node.strings("activations")? else { return Ok(vec![op]) };
    let (alphas, betas) = (node.floats("activation_alpha")?, node.floats("activation_beta")?);
    let (mut alphas, mut betas) = (alphas.into_iter().flatten(), betas.into_iter().flatten());
    let functions: Vec<UnaryFn> =
        names.iter().map(|name| activation(name, &mut alphas, &mut betas)).collect::<Result<_>>()?;
    let each = match cell {
        Cell::Rnn => 1,
        Cell::Gru { .. } => 2,
        Cell::Lstm { .. } => 3,
    };
    if functions.len() != each * op.directions.count() {
        return Err(node.fail(format!("attribute `activations` is {names:?}, {each} are wanted a direction")));
    }
    let (first, last) = (&functions[..each], &functions[functions.len() - each..]);
    let with = |functions: &[UnaryFn], directions: Directions| {
        let mut op = Recurrent { directions, ..op };
        op.activations[..each].copy_from_slice(functions);
        op
    };
    if first == last {
        return Ok(vec![with(first, op.directions)]);
    }
    Ok(vec![with(first, Directions::Forward), with(last, Directions::Reverse)])
}

/// The outputs of one layer, or of two, each of its own direction: its part of the inputs, and the
/// outputs side by side.
fn run(importer: &mut Importer<'_>, layers: &[Recurrent], inputs: [&Value; 5]) -> Result<Vec<Value>> {
    let element = inputs[0].element;
    if let [layer] = layers {
        return importer.apply(*layer, &inputs, &[element, element]);
    }
    let [products, weight, vectors, initial, lengths] = inputs;
    let mut outputs = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let width = products.dims()[2] / layers.len();
        let products = importer.slice_axis(products, 2, index * width, (index + 1) * width)?;
        let weight = importer.slice_axis(weight, 0, index, index + 1)?;
        let vectors = importer.slice_axis(vectors, 0, index, index + 1)?;
        let initial = importer.slice_axis(initial, 1, index, index + 1)?;
        let inputs = [&products, &weight, &vectors, &initial, lengths];
        outputs.push(importer.apply(*layer, &inputs, &[element, element])?);
    }
    let joined = (0..2).map(|output| {
        let parts: Vec<&Value> = outputs.iter().map(|outputs| &outputs[output]).collect();
        if parts.iter().any(|part| part.shape.elements() == 0) {
            let mut dims = parts[0].dims().to_vec();
            dims[1] = parts.len();
            return Ok(zeros(element, &dims));
        }
        importer.apply_one(Concat { axis: 1 }, &parts, element)
    });
    joined.collect()
}

fn zeros(element: ElementType, dims: &[usize]) -> Value {
    Value::host(element, Tensor::zeros(Spec::new(element.host_dtype(), dims)))
}

/// The input's products with all gates' weights, `[steps, n, directions * gates * hidden]`.
fn products(importer: &mut Importer<'_>, x: &Value, weight: &Value, bias: &Value) -> Result<Value> {
    let known = weight.is_known() && bias.is_known() && !x.is_known();
    if known {
        let op = Linear { bias: true, ..Linear::PLAIN };
        return importer.apply_linear(op, x, (weight, false), Some(bias));
    }
    let op = MatMul { transpose_b: true, ..MatMul::PLAIN };
    let product = importer.apply_one(op, &[x, weight], x.element)?;
    importer.binary(BinaryFn::Add, &product, bias)
}

/// The initial output and memory that are given, else `nothing`, as `[states, directions, n, hidden]`.
fn initial_states(
    importer: &mut Importer<'_>,
    node: &Node<'_>,
    (cell, batch_first): (Cell, bool),
    nothing: &Value,
) -> Result<Value> {
    let dims: Vec<usize> = [1].into_iter().chain(nothing.dims().iter().copied()).collect();
    let mut initial = Vec::new();
    for index in 5..5 + cell.states() {
        let state = match node.optional(index) {
            Some(state) if batch_first => importer.transpose(&state, &[1, 0, 2])?,
            Some(state) => state,
            None => nothing.clone(),
        };
        initial.push(importer.reshape(&state, &dims)?);
    }
    match initial.as_slice() {
        [output] => Ok(output.clone()),
        states => importer.apply_one(Concat { axis: 0 }, &states.iter().collect::<Vec<_>>(), nothing.element),
    }
}

/// Inputs: x, weight, recurrent weight, biases of both, lengths, initial output, of LSTM cells the
/// initial memory and peephole weights. With layout 1 the batch is the first axis.
fn recurrent(importer: &mut Importer<'_>, node: &Node<'_>, cell: Cell) -> Result<Vec<Value>> {
    let layers = layers(node, cell)?;
    let batch_first = node.flag("layout", false)?;
    let (mut x, weight, recurrent_weight) = (node.input(0)?, node.input(1)?, node.input(2)?);
    let (directions, gates) = (directions(node)?.count(), cell.gates());
    let (&[_, _, width], &[_, _, hidden]) = (x.dims(), recurrent_weight.dims()) else {
        return Err(node.fail(format!("x {x} and R {recurrent_weight} must have three dimensions")));
    };
    let rows = gates * hidden;
    if weight.dims() != [directions, rows, width] || recurrent_weight.dims() != [directions, rows, hidden] {
        let got = format!("got {weight} and {recurrent_weight}");
        return Err(node.fail(format!(
            "W and R must be [{directions}, {rows}, {width}] and [{directions}, {rows}, {hidden}], {got}"
        )));
    }
    if batch_first {
        x = importer.transpose(&x, &[1, 0, 2])?;
    }
    let (steps, batch) = (x.dims()[0], x.dims()[1]);
    let element = x.element;
    let bias = node.optional(3).unwrap_or_else(|| zeros(element, &[directions, 2 * rows]));
    if bias.dims() != [directions, 2 * rows] {
        return Err(node.fail(format!("B must be [{directions}, {}], got {bias}", 2 * rows)));
    }
    let own = importer.slice_axis(&bias, 1, 0, rows)?;
    let own = importer.reshape(&own, &[directions * rows])?;
    let mut vectors = importer.slice_axis(&bias, 1, rows, 2 * rows)?;
    if let (Cell::Lstm { peephole: true, .. }, Some(peepholes)) = (cell, node.optional(7)) {
        vectors = importer.apply_one(Concat { axis: 1 }, &[&vectors, &peepholes], element)?;
    }
    let flat = importer.reshape(&weight, &[directions * rows, width])?;
    let products = products(importer, &x, &flat, &own)?;
    let initial =
        initial_states(importer, node, (cell, batch_first), &zeros(element, &[directions, batch, hidden]))?;
    let lengths = match node.optional(4) {
        Some(lengths) => importer.cast(&lengths, ElementType::Uint32)?,
        None => Value::integers(ElementType::Uint32, [batch], &vec![steps as i64; batch]),
    };
    let inputs = [&products, &recurrent_weight, &vectors, &initial, &lengths];
    let results = run(importer, &layers, inputs)?;
    let mut outputs = vec![match batch_first {
        true => importer.transpose(&results[0], &[2, 0, 1, 3])?,
        false => results[0].clone(),
    }];
    for state in 0..cell.states() {
        let last = importer.slice_axis(&results[1], 0, state, state + 1)?;
        let last = importer.reshape(&last, &[directions, batch, hidden])?;
        outputs.push(if batch_first { importer.transpose(&last, &[1, 0, 2])? } else { last });
    }
    Ok(outputs)
}
