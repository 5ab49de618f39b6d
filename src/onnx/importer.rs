//! Building graphs of a model for concrete input shapes.
//!
//! Nodes are walked in order; each value is known on the host, stored in the file, or on the
//! device. A node whose inputs are all known is computed on the host, others add operators to
//! the graph. Where the value of something on the device is needed to go on, the graph built so
//! far is run ([`Importer::host`]), and what is still needed becomes inputs of the next one.

mod build;

use super::check::{Findings, qualified};
use super::compare::{NodeDifference, compare_nodes};
use super::definition::{Attribute, Function, NodeDefinition, Opsets, Subgraph};
use super::file::OnnxFile;
use super::kept::Versions;
use super::node::Node;
use super::operators;
use super::trace::{self, Output, Step, Trace};
use super::value::{Data, DeviceValue, Place, Value};
use crate::graph::{Graph, ValueId};
use crate::session::Session;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Stored tensors of floats with fewer elements become constants of the graph.
pub(super) const SMALLEST_WEIGHT: usize = 1024;

/// Deepest nesting of functions and control flow.
const DEEPEST: usize = 64;

/// The values that names stand for in a graph, and what its nodes' attributes and operators
/// refer to.
#[derive(Debug)]
struct Scope {
    names: HashMap<String, Value>,
    /// Whether names of the scope around it can be seen: not in functions.
    open: bool,
    opsets: Arc<Opsets>,
    /// Attributes of the function call.
    attributes: BTreeMap<String, Attribute>,
}

/// Builds and runs the graphs of one run.
pub(crate) struct Importer<'a> {
    pub(super) file: &'a OnnxFile,
    /// None where nothing is run, see [`check`](super::check).
    pub(super) session: Option<&'a mut Session>,
    pub(super) data: trace::Data<'a>,
    cancelled: &'a dyn Fn() -> bool,
    started: Instant,
    pub(super) trace: Trace,
    pub(super) findings: Findings,
    /// What each operator's kernels make of their inputs and what its reference does, if that is
    /// asked for.
    pub(super) differences: Option<Vec<NodeDifference>>,
    scopes: Vec<Scope>,
    /// Names and operators of the nodes around what is imported now.
    pub(super) path: Vec<(String, String)>,
    pub(super) graph: Graph,
    /// Device values in the graph that is being built.
    pub(super) ids: HashMap<usize, ValueId>,
    constants: HashMap<String, ValueId>,
    /// Inputs of that graph.
    inputs: Vec<(String, Place)>,
    /// Values made by nodes of that graph.
    made: Vec<(Weak<DeviceValue>, ValueId)>,
    pub(super) devices: usize,
    /// Values on the device that were looked at on the host.
    known: HashMap<usize, Arc<Tensor>>,
    nodes: usize,
    /// Values that stay on the device.
    pub(super) versions: Versions,
}

impl<'a> Importer<'a> {
    pub(super) fn new(
        file: &'a OnnxFile,
        session: Option<&'a mut Session>,
        data: trace::Data<'a>,
        cancelled: &'a dyn Fn() -> bool,
    ) -> Self {
        Self {
            file,
            session,
            data,
            cancelled,
            started: Instant::now(),
            trace: Trace::default(),
            findings: Findings::default(),
            differences: None,
            scopes: Vec::new(),
            path: Vec::new(),
            graph: Graph::new(),
            ids: HashMap::new(),
            constants: HashMap::new(),
            inputs: Vec::new(),
            made: Vec::new(),
            devices: 0,
            known: HashMap::new(),
            nodes: 0,
            versions: Versions::default(),
        }
    }

    /// Runs the model on the inputs given. Returns the trace of it, and the outputs.
    pub(super) fn run(mut self) -> Result<(Trace, trace::Data<'a>)> {
        match self.import() {
            Ok(()) => Ok((self.trace, self.data)),
            Err(error) => {
                self.remove_plans();
                Err(error)
            }
        }
    }

    /// Frees what was planned for a run that is not repeated.
    pub(super) fn remove_plans(&mut self) {
        if let Some(session) = self.session.as_deref_mut() {
            session.remove(self.trace.plans());
        }
    }

    pub(super) fn import(&mut self) -> Result<()> {
        let graph = self.file.graph.clone();
        let mut names = HashMap::new();
        for (name, tensor) in self.data.given {
            let (element, shape) = (tensor.element(), tensor.tensor().spec().shape.clone());
            let value = if shape.elements() == 0 {
                Value::host(element, tensor.tensor().clone())
            } else {
                let data = Data::Device(self.device_value(Place::Input(name.clone())));
                Value { element, shape, data }
            };
            names.insert(name.clone(), value);
        }
        names.extend(self.kept_inputs()?);
        let opsets = self.file.opsets.clone();
        let outputs =
            self.scoped(Scope { names, open: false, opsets, attributes: BTreeMap::new() }, &graph)?;
        let outputs = self.keep_outputs(&graph.outputs, outputs)?;
        self.flush()?;
        for (name, value) in outputs {
            let output = match value.data {
                Data::Host(tensor) => Output::Known(tensor),
                Data::Stored(stored) => Output::Known(Arc::new(stored.tensor()?)),
                Data::Device(device) => Output::At(device.place.clone()),
            };
            self.trace.outputs.push((name, value.element, output));
        }
        Ok(())
    }

    /// A graph of a control-flow node: its inputs are given in order.
    pub(super) fn subgraph(&mut self, graph: &Subgraph, inputs: Vec<Value>) -> Result<Vec<Value>> {
        self.count_node()?;
        let names = graph.inputs.iter().map(|input| input.name.clone()).zip(inputs).collect();
        let opsets = self.scopes.last().map(|scope| scope.opsets.clone()).unwrap_or_default();
        let attributes = self.scopes.last().map(|scope| scope.attributes.clone()).unwrap_or_default();
        self.scoped(Scope { names, open: true, opsets, attributes }, graph)
    }

    /// Imports all nodes of a graph in a scope and returns its outputs.
    fn scoped(&mut self, mut scope: Scope, graph: &Subgraph) -> Result<Vec<Value>> {
        if self.scopes.len() >= DEEPEST {
            return Err(self.file.error(format!("functions and graphs are nested deeper than {DEEPEST}")));
        }
        for (name, stored) in &graph.initializers {
            scope.names.entry(name.clone()).or_insert_with(|| Value::stored(stored.clone()));
        }
        self.scopes.push(scope);
        let outputs = graph.nodes.iter().try_for_each(|node| self.node(node)).and_then(|()| {
            let outputs = graph.outputs.iter().map(|output| self.lookup(&output.name)).collect();
            self.findings.unknown = Result::is_err(&outputs);
            outputs
        });
        self.scopes.pop();
        outputs
    }

    /// The value of a name.
    pub(super) fn lookup(&self, name: &str) -> Result<Value> {
        for scope in self.scopes.iter().rev() {
            if let Some(value) = scope.names.get(name) {
                return Ok(value.clone());
            }
            if !scope.open {
                break;
            }
        }
        Err(self.file.error(format!("there is no value `{name}` here")))
    }

    fn node(&mut self, definition: &NodeDefinition) -> Result<()> {
        self.count_node()?;
        let inputs = definition
            .inputs
            .iter()
            .map(|name| if name.is_empty() { Ok(None) } else { self.lookup(name).map(Some) });
        let inputs: Result<Vec<Option<Value>>> = inputs.collect();
        self.path.push((definition.name.clone(), qualified(definition)));
        self.findings.unknown = inputs.is_err();
        let outputs = inputs.and_then(|inputs| self.outputs_of(definition, inputs));
        let outputs = match outputs {
            Err(error) if self.session.is_none() && !self.is_exhausted() => self.note(definition, &error),
            outputs => outputs.map_err(|error| self.located(definition, error)),
        };
        self.path.pop();
        let outputs = outputs?;
        let scope = self.scopes.last_mut().expect("nodes are imported in a scope");
        for (name, value) in definition.outputs.iter().zip(outputs) {
            if !name.is_empty() {
                scope.names.insert(name.clone(), value);
            }
        }
        for name in &definition.last_uses {
            scope.names.remove(name);
        }
        Ok(())
    }

    /// Whether a limit on the whole import is reached.
    pub(super) fn is_exhausted(&self) -> bool {
        self.nodes > self.file.limits.nodes || self.started.elapsed() > self.file.limits.time
    }

    fn count_node(&mut self) -> Result<()> {
        self.nodes += 1;
        if (self.cancelled)() {
            return Err(Error::Cancelled);
        }
        if self.started.elapsed() > self.file.limits.time {
            let (limit, nodes) = (self.file.limits.time, self.nodes);
            return Err(self
                .file
                .error(format!("after {limit:?}, the limit, {nodes} nodes are written out")));
        }
        if self.nodes > self.file.limits.nodes {
            let limit = self.file.limits.nodes;
            return Err(self.file.error(format!("written out it has more than {limit} nodes, the limit")));
        }
        Ok(())
    }

    fn outputs_of(&mut self, definition: &NodeDefinition, inputs: Vec<Option<Value>>) -> Result<Vec<Value>> {
        let scope = self.scopes.last().expect("nodes are imported in a scope");
        let opset = scope.opsets.get(&definition.domain).copied().unwrap_or(1);
        let mut attributes = definition.attributes.clone();
        attributes.retain(|_, value| match value {
            Attribute::OfFunction(name) => match scope.attributes.get(name) {
                Some(given) => {
                    *value = given.clone();
                    true
                }
                None => false,
            },
            _ => true,
        });
        let key = [&definition.domain, &definition.operator, &definition.overload].map(String::clone);
        if let Some(function) = self.file.functions.get(&key) {
            return self.call(&function.clone(), attributes, inputs);
        }
        let Some(operator) = operators::find(&definition.domain, &definition.operator) else {
            let domain = if definition.domain.is_empty() { "ai.onnx" } else { &definition.domain };
            let message = format!("operator {} of {domain} {opset}", definition.operator);
            return Err(Error::Unsupported(message));
        };
        let node = Node { definition, opset, inputs, attributes };
        operator(self, &node)
    }

    fn call(
        &mut self,
        function: &Function,
        attributes: BTreeMap<String, Attribute>,
        inputs: Vec<Option<Value>>,
    ) -> Result<Vec<Value>> {
        let mut given = function.defaults.clone();
        given.extend(attributes);
        let names = function.body.inputs.iter().map(|input| input.name.clone()).zip(inputs);
        let names = names.filter_map(|(name, value)| value.map(|value| (name, value))).collect();
        let opsets = function.opsets.clone();
        self.scoped(Scope { names, open: false, opsets, attributes: given }, &function.body)
    }

    /// Puts file and node in front of an operator's error.
    fn located(&self, node: &NodeDefinition, error: Error) -> Error {
        let (operator, name) = (&node.operator, &node.name);
        match error {
            Error::Op { message, .. } => self.file.error(format!("{operator} `{name}`: {message}")),
            Error::Request(message) => self.file.error(format!("{operator} `{name}`: {message}")),
            Error::Unsupported(message) if !message.contains(" node `") => {
                let path = self.file.path.display();
                Error::Unsupported(format!("{path}: node `{name}`: {message}"))
            }
            other => other,
        }
    }

    pub(super) fn device_value(&mut self, place: Place) -> Arc<DeviceValue> {
        self.devices += 1;
        Arc::new(DeviceValue { number: self.devices, place })
    }

    /// Runs the graph built so far, if there is anything in it that is still needed.
    pub(super) fn flush(&mut self) -> Result<()> {
        let mut outputs = Vec::new();
        for (device, id) in std::mem::take(&mut self.made) {
            if let Some(device) = device.upgrade() {
                let name = format!("%{}", device.number);
                self.graph.output(name.clone(), id);
                outputs.push((name, device.number));
            }
        }
        let (graph, inputs) = (std::mem::take(&mut self.graph), std::mem::take(&mut self.inputs));
        self.ids.clear();
        self.constants.clear();
        let is_done = |node: &crate::graph::Node| node.op.aliases().is_empty();
        if outputs.is_empty() && graph.nodes().iter().all(is_done) {
            return Ok(());
        }
        let Some(session) = self.session.as_deref_mut() else {
            self.findings.graphs.push(graph);
            return Ok(());
        };
        if let Some(differences) = &mut self.differences {
            differences.extend(compare_nodes(&graph, &inputs, &self.data, (self.file, &mut *session))?);
        }
        let plans = session.add(vec![graph], self.file, &mut |_, _| {})?;
        self.file.release();
        let step = Step::Run { plan: plans[0], inputs, outputs };
        self.data.execute(&step, session, self.cancelled)?;
        self.trace.steps.push(step);
        Ok(())
    }

    /// The values of something, run if need be; the rest of the import holds for these only.
    pub(super) fn host(&mut self, value: &Value) -> Result<Arc<Tensor>> {
        let device = match &value.data {
            Data::Host(tensor) => return Ok(tensor.clone()),
            Data::Stored(stored) => return stored.tensor().map(Arc::new),
            Data::Device(device) => device,
        };
        if let Some(tensor) = self.known.get(&device.number) {
            return Ok(tensor.clone());
        }
        if self.made.iter().any(|(made, _)| made.as_ptr() == Arc::as_ptr(device)) {
            self.flush()?;
        }
        if self.session.is_none() {
            return Err(self.unknown(value, &device.place));
        }
        let tensor = Arc::new(self.data.host(&device.place, value.element)?);
        let (place, element) = (device.place.clone(), value.element);
        self.trace.steps.push(Step::Expect { place, element, tensor: tensor.clone() });
        self.known.insert(device.number, tensor.clone());
        Ok(tensor)
    }
}
