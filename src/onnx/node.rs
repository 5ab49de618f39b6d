//! A node as operators see it: inputs, attributes, and errors that name it.

use super::definition::{Attribute, NodeDefinition, StoredTensor, Subgraph};
use super::value::Value;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A node with its inputs.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(super) definition: &'a NodeDefinition,
    /// Version of the operator set of its domain.
    pub(super) opset: i64,
    pub(super) inputs: Vec<Option<Value>>,
    /// Its attributes, those of the function around it put in place.
    pub(super) attributes: BTreeMap<String, Attribute>,
}

impl Node<'_> {
    /// An error of this node.
    pub(super) fn fail(&self, message: impl Into<String>) -> Error {
        Error::op(&self.definition.operator, message)
    }

    /// An input that must be there.
    pub(super) fn input(&self, index: usize) -> Result<Value> {
        let missing = || self.fail(format!("input {index} is missing, got {}", self.inputs.len()));
        self.optional(index).ok_or_else(missing)
    }

    /// An input that may be left out.
    pub(super) fn optional(&self, index: usize) -> Option<Value> {
        self.inputs.get(index).cloned().flatten()
    }

    /// All inputs, none of which may be left out.
    pub(super) fn all_inputs(&self) -> Result<Vec<Value>> {
        (0..self.inputs.len()).map(|index| self.input(index)).collect()
    }

    /// Whether the output is read by anything.
    pub(super) fn has_output(&self, index: usize) -> bool {
        self.definition.outputs.get(index).is_some_and(|name| !name.is_empty())
    }

    /// Fails if the node wants more than its first outputs.
    pub(super) fn expect_outputs(&self, most: usize) -> Result<()> {
        match (most..self.definition.outputs.len()).find(|&index| self.has_output(index)) {
            Some(index) => Err(Error::Unsupported(format!("output {index} of {}", self.definition.operator))),
            None => Ok(()),
        }
    }

    fn wrong(&self, name: &str, expected: &str, got: &Attribute) -> Error {
        self.fail(format!("attribute `{name}` must be {expected}, got {}", got.kind()))
    }

    /// Whether the attribute is given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    /// An integer.
    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64> {
        match self.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Int(value)) => Ok(*value),
            Some(other) => Err(self.wrong(name, "an integer", other)),
        }
    }

    /// An integer that is not 0.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    /// A float.
    pub(super) fn float(&self, name: &str, default: f32) -> Result<f32> {
        match self.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Float(value)) => Ok(*value),
            Some(other) => Err(self.wrong(name, "a float", other)),
        }
    }

    /// A string.
    pub(super) fn string<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str> {
        match self.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::String(value)) => Ok(value),
            Some(other) => Err(self.wrong(name, "a string", other)),
        }
    }

    /// Integers, if they are given.
    pub(super) fn ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values.clone())),
            Some(other) => Err(self.wrong(name, "integers", other)),
        }
    }

    /// Integers that are not negative, if they are given.
    pub(super) fn sizes(&self, name: &str) -> Result<Option<Vec<usize>>> {
        let Some(values) = self.ints(name)? else { return Ok(None) };
        let sizes: Option<Vec<usize>> = values.iter().map(|&value| usize::try_from(value).ok()).collect();
        sizes
            .map(Some)
            .ok_or_else(|| self.fail(format!("attribute `{name}` must not be negative, got {values:?}")))
    }

    /// Floats, if they are given.
    pub(super) fn floats(&self, name: &str) -> Result<Option<Vec<f32>>> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Floats(values)) => Ok(Some(values.clone())),
            Some(other) => Err(self.wrong(name, "floats", other)),
        }
    }

    /// Strings, if they are given.
    pub(super) fn strings(&self, name: &str) -> Result<Option<Vec<String>>> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Strings(values)) => Ok(Some(values.clone())),
            Some(other) => Err(self.wrong(name, "strings", other)),
        }
    }

    /// A tensor, if it is given.
    pub(super) fn tensor(&self, name: &str) -> Result<Option<Arc<StoredTensor>>> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Tensor(tensor)) => Ok(Some(tensor.clone())),
            Some(other) => Err(self.wrong(name, "a tensor", other)),
        }
    }

    /// A graph that must be there.
    pub(super) fn graph(&self, name: &str) -> Result<Arc<Subgraph>> {
        match self.attributes.get(name) {
            None => Err(self.fail(format!("attribute `{name}` is missing"))),
            Some(Attribute::Graph(graph)) => Ok(graph.clone()),
            Some(other) => Err(self.wrong(name, "a graph", other)),
        }
    }

    /// The attribute `axis` as an axis of a tensor of this rank.
    pub(super) fn axis(&self, default: i64, rank: usize) -> Result<usize> {
        self.resolve_axis(self.int("axis", default)?, rank)
    }

    /// An axis that may count from the end.
    pub(super) fn resolve_axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let signed = i64::try_from(rank).unwrap_or(i64::MAX);
        let resolved = if axis < 0 { axis.saturating_add(signed) } else { axis };
        usize::try_from(resolved)
            .ok()
            .filter(|&axis| axis < rank)
            .ok_or_else(|| self.fail(format!("axis {axis} is outside of {rank} dimensions")))
    }

    /// Axes that may count from the end, none of them twice.
    pub(super) fn resolve_axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let resolved: Vec<usize> =
            axes.iter().map(|&axis| self.resolve_axis(axis, rank)).collect::<Result<_>>()?;
        let mut sorted = resolved.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != resolved.len() {
            return Err(self.fail(format!("an axis is named twice in {axes:?}")));
        }
        Ok(resolved)
    }
}
