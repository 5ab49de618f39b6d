//! Matrix products.

use super::Table;
use crate::Result;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{BinaryFn, Linear, MatMul};

pub(super) const OPERATORS: Table = &[("Gemm", gemm), ("MatMul", matmul)];

pub(super) fn expect_floats(node: &Node<'_>, values: &[&Value]) -> Result<()> {
    match values.iter().find(|value| !value.element.is_float()) {
        Some(value) => Err(node.fail(format!("takes floats, got {value}"))),
        None => Ok(()),
    }
}

fn matmul(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    expect_floats(node, &[&a, &b])?;
    Ok(vec![product(importer, &a, &b)?])
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
