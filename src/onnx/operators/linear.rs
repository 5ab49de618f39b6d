//! Matrix products.

use super::Table;
use crate::Result;
use crate::onnx::host;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{BinaryFn, Linear, MatMul, ReduceFn};

pub(super) const OPERATORS: Table = &[("Gemm", gemm), ("MatMul", matmul)];

pub(super) fn expect_floats(node: &Node<'_>, values: &[&Value]) -> Result<()> {
    match values.iter().find(|value| !value.element.is_float()) {
        Some(value) => Err(node.fail(format!("takes floats, got {value}"))),
        None => Ok(()),
    }
}

fn matmul(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    if !a.element.is_float() && a.element == b.element {
        return Ok(vec![integer_product(importer, node, &a, &b)?]);
    }
    expect_floats(node, &[&a, &b])?;
    Ok(vec![product(importer, &a, &b)?])
}

/// A B of integers, whose sums wrap: all products `[.., m, k, n]`, added along k.
fn integer_product(importer: &mut Importer<'_>, node: &Node<'_>, a: &Value, b: &Value) -> Result<Value> {
    let (&[.., depth], Some(rows)) = (a.dims(), b.rank().checked_sub(1)) else {
        return Err(node.fail(format!("takes matrices, got {a} and {b}")));
    };
    let inner = rows.saturating_sub(1);
    if b.dims()[inner] != depth {
        return Err(node.fail(format!("inner dimensions of {a} and {b} differ")));
    }
    // Axes of one where a vector has no rows or no columns; they are taken off at the end.
    let (row, column) = (a.rank() == 1, b.rank() == 1);
    let left = [a.dims(), &[1]].concat();
    let mut right = b.dims().to_vec();
    if column {
        right.push(1);
    }
    right.insert(right.len() - 2, 1);
    let (left, right) = (importer.reshape(a, &left)?, importer.reshape(b, &right)?);
    let shape = left.shape.broadcast(&right.shape);
    let shape = shape.ok_or_else(|| node.fail(format!("{a} and {b} do not fit each other")))?;
    importer.check_dims(shape.dims())?;
    let products = importer.binary(BinaryFn::Mul, &left, &right)?;
    let sums = sum_of_integers(importer, &products, shape.rank() - 2)?;
    let mut dims = sums.dims().to_vec();
    if column {
        dims.pop();
    }
    if row {
        let at = dims.len() - usize::from(!column);
        dims.drain(at.saturating_sub(1)..at);
    }
    importer.reshape(&sums, &dims)
}

/// The sum along an axis, which wraps.
fn sum_of_integers(importer: &mut Importer<'_>, value: &Value, axis: usize) -> Result<Value> {
    if value.is_known() {
        let tensor = importer.host(value)?;
        let sum = |values: &[i64]| values.iter().fold(0_i64, |sum, &value| sum.wrapping_add(value));
        return host::reduce_integers(value.element, &tensor, &[axis], false, sum);
    }
    let sums = importer.reduce(value, ReduceFn::Sum, &[axis], false)?;
    importer.wrapped(&sums)
}

/// A B of floats.
pub(super) fn product(importer: &mut Importer<'_>, a: &Value, b: &Value) -> Result<Value> {
    let empty = a.shape.elements() == 0 || b.shape.elements() == 0;
    if b.is_known() && !a.is_known() && !empty && b.rank() == 2 && a.dims().last() == b.dims().first() {
        return importer.apply_linear(Linear::PLAIN, a, (b, true), None);
    }
    importer.apply_one(MatMul::PLAIN, &[a, b], a.element)
}

/// alpha A B + beta C, A or B transposed.
fn gemm(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (a, b, c) = (node.input(0)?, node.input(1)?, node.optional(2));
    let (alpha, beta) = (node.float("alpha", 1.0)?, node.float("beta", 1.0)?);
    let (transpose_a, transpose_b) = (node.flag("transA", false)?, node.flag("transB", false)?);
    expect_floats(node, &[&a, &b])?;
    if a.rank() != 2 || b.rank() != 2 {
        return Err(node.fail(format!("takes matrices, got {a} and {b}")));
    }
    let width = b.dims()[usize::from(!transpose_b)];
    let depth = b.dims()[usize::from(transpose_b)];
    let fits = a.dims()[usize::from(!transpose_a)] == depth;
    let plain = alpha == 1.0 && beta == 1.0 && !transpose_a && b.is_known() && !a.is_known() && fits;
    let bias = c.clone().filter(|c| c.dims() == [width]);
    if plain && b.shape.elements() > 0 && bias.is_some() == c.is_some() {
        let op = Linear { bias: bias.is_some(), ..Linear::PLAIN };
        return Ok(vec![importer.apply_linear(op, &a, (&b, !transpose_b), bias.as_ref())?]);
    }
    let op = MatMul { transpose_a, transpose_b, alpha };
    let product = importer.apply_one(op, &[&a, &b], a.element)?;
    let Some(mut c) = c else { return Ok(vec![product]) };
    if product.shape.broadcast(&c.shape).as_ref() != Some(&product.shape) {
        return Err(node.fail(format!("C {c} does not fit the product {product}")));
    }
    if beta != 1.0 {
        c = importer.with_number(BinaryFn::Mul, &c, f64::from(beta))?;
    }
    Ok(vec![importer.binary(BinaryFn::Add, &product, &c)?])
}
