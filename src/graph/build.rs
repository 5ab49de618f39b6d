//! Building a graph: inputs, weights, constants, states, nodes, outputs.

use super::{Graph, Node, Prepared, Source, Value, ValueId, WeightSource};
use crate::kernel::Layout;
use crate::ops::{Op, Preparation};
use crate::tensor::{Shape, Spec, Tensor};
use crate::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Some rows of a tensor in the model's files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Name of the tensor.
    pub tensor: String,
    /// Shape that the tensor must have in the file.
    pub shape: Shape,
    /// The rows taken (columns of the file's tensor where the weight is transposed).
    pub rows: Range<usize>,
}

impl Graph {
    /// Starts an empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// The graph of one operator: what tests, the doctor and benches run. Inputs in
    /// [`Layout::Rows`] are constants, those that [`Op::aliases`] names are states; their names
    /// are "input 0" and so on, those of the outputs "output 0" and so on.
    ///
    /// # Errors
    /// What the operator's `infer` says.
    pub fn of_op(op: Arc<dyn Op>, inputs: &[Tensor]) -> Result<Self> {
        let mut graph = Self::new();
        let mut ids = Vec::with_capacity(inputs.len());
        for (index, tensor) in inputs.iter().enumerate() {
            let name = format!("input {index}");
            let aliased = op.aliases().iter().any(|&(_, input)| input == index);
            ids.push(match op.layout(index) {
                Layout::Rows => graph.constant(name, Arc::new(tensor.clone())),
                Layout::Plain if aliased => graph.state(name, tensor.spec().clone()),
                Layout::Plain => graph.input(name, tensor.spec().clone()),
            });
        }
        for (index, id) in graph.add_shared(op, &ids)?.into_iter().enumerate() {
            graph.output(format!("output {index}"), id);
        }
        Ok(graph)
    }

    pub(super) fn push(&mut self, name: String, spec: Spec, source: Source) -> ValueId {
        self.values.push(Value { name, spec, source });
        ValueId(self.values.len() - 1)
    }

    /// Adds a value that is given at each run.
    pub fn input(&mut self, name: impl Into<String>, spec: Spec) -> ValueId {
        self.push(name.into(), spec, Source::Input)
    }

    /// Adds a weight: `spec` is its dtype and shape on the device.
    pub fn weight(&mut self, spec: Spec, source: WeightSource) -> ValueId {
        let existing = self.values.iter().position(
            |value| matches!(&value.source, Source::Weight(known) if *known == source && value.spec == spec),
        );
        let name = source.segments.first().map_or_else(String::new, |segment| segment.tensor.clone());
        existing.map_or_else(|| self.push(name, spec, Source::Weight(source)), ValueId)
    }

    /// Adds a value that is known now. Constants of one name are shared between the plans of a
    /// session and must be equal.
    pub fn constant(&mut self, name: impl Into<String>, tensor: Arc<Tensor>) -> ValueId {
        self.push(name.into(), tensor.spec().clone(), Source::Constant(tensor))
    }

    /// Adds a value that is computed once from weights and constants, when they are loaded; from
    /// constants alone, now.
    ///
    /// # Errors
    /// What the rule says, and when an input is neither weight nor constant.
    pub fn prepared(&mut self, rule: Arc<dyn Preparation>, inputs: &[ValueId]) -> Result<ValueId> {
        let names: Vec<&str> = inputs.iter().map(|id| self.value(*id).name.as_str()).collect();
        let name = format!("{} {rule:?}", names.join(" + "));
        if let Some(id) = inputs.iter().find(|id| !self.value(**id).is_stored()) {
            let message = format!("`{}` must be a weight or a constant", self.value(*id).name);
            return Err(Error::op("graph", message));
        }
        let same = |value: &Value| match &value.source {
            Source::Prepared(known) => known.inputs == inputs && value.name == name,
            _ => false,
        };
        if let Some(index) = self.values.iter().position(same) {
            return Ok(ValueId(index));
        }
        let constants: Option<Vec<Tensor>> = inputs.iter().map(|id| self.constant_of(*id)).collect();
        if let Some(constants) = constants {
            let tensor = rule.prepare(&constants)?;
            return Ok(self.constant(name, Arc::new(tensor)));
        }
        let specs: Vec<Spec> = inputs.iter().map(|id| self.spec(*id).clone()).collect();
        let spec = rule.infer(&specs)?;
        Ok(self.push(name, spec, Source::Prepared(Prepared { rule, inputs: inputs.to_vec() })))
    }

    /// The tensor of a constant.
    pub(super) fn constant_of(&self, id: ValueId) -> Option<Tensor> {
        match &self.value(id).source {
            Source::Constant(tensor) => Some(Tensor::clone(tensor)),
            _ => None,
        }
    }

    /// Adds a value that lives between runs, zero at first. States of one name are shared
    /// between the plans of a session.
    pub fn state(&mut self, name: impl Into<String>, spec: Spec) -> ValueId {
        self.push(name.into(), spec, Source::State)
    }

    /// Adds a node and returns its outputs.
    ///
    /// # Errors
    /// What the operator's `infer` says, with the node's name.
    pub fn add(&mut self, op: impl Op, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        self.add_shared(Arc::new(op), inputs)
    }

    /// Adds a node of one output and returns it.
    ///
    /// # Errors
    /// What the operator's `infer` says, with the node's name.
    pub fn add_one(&mut self, op: impl Op, inputs: &[ValueId]) -> Result<ValueId> {
        let name = op.name();
        match self.add(op, inputs)?.as_slice() {
            [output] => Ok(*output),
            outputs => Err(Error::op(name, format!("has {} outputs where one is wanted", outputs.len()))),
        }
    }

    /// Adds a node with an operator that is already shared.
    ///
    /// # Errors
    /// What the operator's `infer` says, with the node's name.
    pub fn add_shared(&mut self, op: Arc<dyn Op>, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let name = self.scopes.iter().map(String::as_str).chain([op.name()]).collect::<Vec<_>>().join(".");
        let specs: Vec<Spec> = inputs.iter().map(|id| self.spec(*id).clone()).collect();
        let inferred = op.infer(&specs).map_err(|error| error.at_node(&name))?;
        let outputs: Vec<ValueId> =
            inferred.into_iter().map(|spec| self.push(name.clone(), spec, Source::Node)).collect();
        self.nodes.push(Node {
            name,
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
            selected: Vec::new(),
        });
        Ok(outputs)
    }

    /// Names the nodes that `body` adds: "layers.3" within "model" gives "model.layers.3.*".
    ///
    /// # Errors
    /// Those of `body`.
    pub fn scope<T>(
        &mut self,
        name: impl Into<String>,
        body: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.scopes.push(name.into());
        let result = body(self);
        self.scopes.pop();
        result
    }

    /// Makes a value readable after a run under this name.
    pub fn output(&mut self, name: impl Into<String>, value: ValueId) {
        self.outputs.push((name.into(), value));
    }
}
