//! Picking elements by indices.

use super::Table;
use crate::Result;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::Gather;

pub(super) const OPERATORS: Table = &[("Gather", gather)];

fn gather(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, indices) = (node.input(0)?, node.input(1)?);
    if indices.element.is_float() {
        return Err(node.fail(format!("indices must be integers, got {indices}")));
    }
    let axis = node.axis(0, x.rank())?;
    Ok(vec![importer.apply_one(Gather { axis }, &[&x, &indices], x.element)?])
}
