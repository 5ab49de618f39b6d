//! Building graphs of a model for concrete input shapes.
//!
//! Nodes are walked in order; each value is known on the host, stored in the file, or on the
//! device. A node whose inputs are all known is computed on the host, others add operators to
//! the graph. Where the value of something on the device is needed to go on, the graph built so
//! far is run ([`Importer::host`]), and what is still needed becomes inputs of the next one.

use super::check::{Findings, qualified};
use super::compare::{NodeDifference, compare_nodes};
use super::definition::{Attribute, Function, NodeDefinition, Opsets, Subgraph};
use super::element::{ElementType, to_device};
use super::file::{OnnxFile, elements};
use super::host;
use super::node::Node;
use super::operators;
use super::trace::{self, Output, Step, Trace};
use super::value::{Data, DeviceValue, Place, Value};
use crate::graph::{Graph, Segment, ValueId, WeightSource};
use crate::ops::{Cast, Op, Transpose};
use crate::session::Session;
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Stored tensors of floats with fewer elements become constants of the graph.
const SMALLEST_WEIGHT: usize = 1024;

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
    trace: Trace,
    pub(super) findings: Findings,
    /// What each operator's kernels make of their inputs and what its reference does, if that is
    /// asked for.
    pub(super) differences: Option<Vec<NodeDifference>>,
    scopes: Vec<Scope>,
    /// Names and operators of the nodes around what is imported now.
    pub(super) path: Vec<(String, String)>,
    graph: Graph,
    /// Device values in the graph that is being built.
    ids: HashMap<usize, ValueId>,
    constants: HashMap<String, ValueId>,
    /// Inputs of that graph.
    inputs: Vec<(String, Place)>,
    /// Values made by nodes of that graph.
    made: Vec<(Weak<DeviceValue>, ValueId)>,
    pub(super) devices: usize,
    /// Values on the device that were looked at on the host.
    known: HashMap<usize, Arc<Tensor>>,
    nodes: usize,
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
        }
    }

    /// Runs the model on the inputs given. Returns the trace of it, and the outputs.
    pub(super) fn run(mut self) -> Result<(Trace, trace::Data<'a>)> {
        self.import()?;
        Ok((self.trace, self.data))
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
        let opsets = self.file.opsets.clone();
        let outputs =
            self.scoped(Scope { names, open: false, opsets, attributes: BTreeMap::new() }, &graph)?;
        self.flush()?;
        for (declared, value) in graph.outputs.iter().zip(outputs) {
            let output = match value.data {
                Data::Host(tensor) => Output::Known(tensor),
                Data::Stored(stored) => Output::Known(Arc::new(stored.tensor()?)),
                Data::Device(device) => Output::At(device.place.clone()),
            };
            self.trace.outputs.push((declared.name.clone(), value.element, output));
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
    fn lookup(&self, name: &str) -> Result<Value> {
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
        if outputs.is_empty() {
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

    /// A value in the graph, in the device's dtype of its element type.
    fn device(&mut self, value: &Value) -> Result<ValueId> {
        let spec = Spec::new(value.element.device_dtype(), value.shape.clone());
        match &value.data {
            Data::Host(tensor) => {
                let tensor = to_device(tensor, value.element)?;
                Ok(self.constant(tensor))
            }
            Data::Stored(stored) => {
                if value.element.is_float() && value.shape.elements() >= SMALLEST_WEIGHT {
                    return Ok(self.graph.weight(spec, file_rows(&stored.key, &value.shape, false)));
                }
                let tensor = to_device(&stored.tensor()?, value.element)?;
                Ok(self.constant(tensor))
            }
            Data::Device(device) => {
                if let Some(id) = self.ids.get(&device.number) {
                    return Ok(*id);
                }
                let name = match &device.place {
                    Place::Input(name) => name.clone(),
                    Place::Slot(number) => format!("%{number}"),
                };
                let id = self.graph.input(name.clone(), spec);
                self.inputs.push((name, device.place.clone()));
                self.ids.insert(device.number, id);
                Ok(id)
            }
        }
    }

    /// A constant; its name is that of its content, by which plans share it.
    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let hash = |seed: u64| {
            let mut hasher = DefaultHasher::new();
            (seed, tensor.spec(), tensor.bytes()).hash(&mut hasher);
            hasher.finish()
        };
        let name = format!("{:016x}{:016x}", hash(0), hash(1));
        if let Some(id) = self.constants.get(&name) {
            return *id;
        }
        let id = self.graph.constant(name.clone(), Arc::new(tensor));
        self.constants.insert(name, id);
        id
    }

    /// A value for an operator's input that must be stored: a weight of the file in its own dtype,
    /// else a constant. `transposed` swaps the axes of a matrix.
    fn weight(&mut self, value: &Value, transposed: bool) -> Result<ValueId> {
        let known = self.host_weight(value)?;
        if let Data::Stored(stored) = &known.data {
            let dtype = match value.element {
                ElementType::Float16 => DType::F16,
                ElementType::Bfloat16 => DType::BF16,
                _ => DType::F32,
            };
            let mut dims = value.dims().to_vec();
            if transposed {
                dims.reverse();
            }
            return Ok(self
                .graph
                .weight(Spec::new(dtype, dims), file_rows(&stored.key, &value.shape, transposed)));
        }
        let known = if transposed {
            self.apply_one(Transpose { permutation: vec![1, 0] }, &[&known], value.element)?
        } else {
            known
        };
        self.device(&known)
    }

    fn host_weight(&mut self, value: &Value) -> Result<Value> {
        match &value.data {
            Data::Stored(stored) if value.element.is_float() && stored.shape.elements() > 0 => {
                Ok(value.clone())
            }
            Data::Host(_) => Ok(value.clone()),
            _ => {
                let tensor = self.host(value)?;
                Ok(Value { data: Data::Host(tensor), ..value.clone() })
            }
        }
    }

    /// Applies an operator of one output of this element type: on the host where all inputs are
    /// known, else on the device.
    pub(super) fn apply_one(
        &mut self,
        op: impl Op,
        inputs: &[&Value],
        element: ElementType,
    ) -> Result<Value> {
        let name = op.name();
        let mut outputs = self.apply(op, inputs, &[element])?;
        match (outputs.pop(), outputs.pop()) {
            (Some(output), None) => Ok(output),
            _ => Err(Error::op(name, "has more outputs than one")),
        }
    }

    /// Applies an operator whose outputs have these element types.
    pub(super) fn apply(
        &mut self,
        op: impl Op,
        inputs: &[&Value],
        elements: &[ElementType],
    ) -> Result<Vec<Value>> {
        if inputs.iter().all(|value| value.is_known()) {
            let known = inputs.iter().map(|value| self.host(value).map(|tensor| (value.element, tensor)));
            let known: Vec<(ElementType, Arc<Tensor>)> = known.collect::<Result<_>>()?;
            return host::apply(&op, &known, elements, self.limit());
        }
        let mut ids = Vec::with_capacity(inputs.len());
        for (index, value) in inputs.iter().enumerate() {
            let stored = op.layout(index) == crate::kernel::Layout::Rows;
            ids.push(if stored { self.weight(value, false)? } else { self.device(value)? });
        }
        self.apply_ids(op, &ids, elements)
    }

    /// x Wᵀ of a matrix W, or x W where `transposed`; see [`Op::layout`].
    pub(super) fn apply_linear(
        &mut self,
        op: impl Op,
        x: &Value,
        weight: (&Value, bool),
        bias: Option<&Value>,
    ) -> Result<Value> {
        let mut ids = vec![self.device(x)?, self.weight(weight.0, weight.1)?];
        if let Some(bias) = bias {
            ids.push(self.device(bias)?);
        }
        let mut outputs = self.apply_ids(op, &ids, &[x.element])?;
        outputs.pop().ok_or_else(|| Error::op("linear", "has no output"))
    }

    /// The node that is imported, with what is around it.
    pub(super) fn place(&self) -> String {
        self.path.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("/")
    }

    fn apply_ids(&mut self, op: impl Op, ids: &[ValueId], elements: &[ElementType]) -> Result<Vec<Value>> {
        let name = op.name();
        let specs: Vec<Spec> = ids.iter().map(|id| self.graph.spec(*id).clone()).collect();
        let inferred = op.infer(&specs)?;
        for spec in &inferred {
            self.check_dims(spec.shape.dims())?;
        }
        if inferred.len() != elements.len() {
            return Err(Error::op(
                name,
                format!("has {} outputs, expected {}", inferred.len(), elements.len()),
            ));
        }
        let outputs = self.graph.scope(self.place(), |graph| graph.add(op, ids))?;
        let mut values = Vec::with_capacity(outputs.len());
        for ((spec, id), &element) in inferred.into_iter().zip(outputs).zip(elements) {
            if spec.dtype != element.device_dtype() {
                return Err(Error::op(name, format!("gives {spec} where {element} is wanted")));
            }
            values.push(if spec.elements() == 0 {
                Value::host(element, Tensor::zeros(Spec::new(element.host_dtype(), spec.shape)))
            } else {
                let number = self.devices + 1;
                let device = self.device_value(Place::Slot(number));
                self.ids.insert(number, id);
                self.made.push((Arc::downgrade(&device), id));
                Value { element, shape: spec.shape, data: Data::Device(device) }
            });
        }
        Ok(values)
    }

    /// Most elements of a tensor that is computed on the host.
    pub(super) fn limit(&self) -> usize {
        self.file.limits.host_elements
    }

    /// Floats on the device rounded to f16 or bf16 and back, as values of type `to`.
    pub(super) fn round_through(&mut self, value: &Value, dtype: DType, to: ElementType) -> Result<Value> {
        let id = self.device(value)?;
        let narrow = self.graph.scope(self.place(), |graph| graph.add_one(Cast { to: dtype }, &[id]))?;
        let mut outputs = self.apply_ids(Cast { to: DType::F32 }, &[narrow], &[to])?;
        outputs.pop().ok_or_else(|| Error::op("cast", "has no output"))
    }

    /// Fails when a tensor of these sizes is larger than the limit.
    pub(super) fn check_dims(&self, dims: &[usize]) -> Result<()> {
        let limit = self.file.limits.elements;
        match elements(dims).filter(|&elements| elements <= limit) {
            Some(_) => Ok(()),
            None => Err(Error::op("onnx", format!("a tensor of {dims:?} is larger than {limit} elements"))),
        }
    }

    /// The integers of a value, which must be known to build the graph.
    pub(super) fn host_integers(&mut self, value: &Value) -> Result<Vec<i64>> {
        if value.element.is_float() {
            return Err(Error::op("onnx", format!("integers are wanted, got {value}")));
        }
        Ok(self.host(value)?.to_i64())
    }

    /// The one number of a value, which must be known to build the graph.
    pub(super) fn host_number(&mut self, value: &Value) -> Result<f64> {
        match self.host(value)?.to_f64().as_slice() {
            [number] => Ok(*number),
            _ => Err(Error::op("onnx", format!("one number is wanted, got {value}"))),
        }
    }

    /// Sizes of dimensions, which must be known to build the graph.
    pub(super) fn host_dims(&mut self, value: &Value) -> Result<Vec<usize>> {
        let integers = self.host_integers(value)?;
        let dims: Option<Vec<usize>> = integers.iter().map(|&size| usize::try_from(size).ok()).collect();
        let dims = dims.ok_or_else(|| Error::op("onnx", format!("{integers:?} are no sizes")))?;
        self.check_dims(&dims)?;
        Ok(dims)
    }
}

/// A whole tensor of the file.
fn file_rows(key: &str, shape: &Shape, transposed: bool) -> WeightSource {
    let (rows, cols) = shape.rows_and_cols();
    let rows = 0..if transposed { cols } else { rows };
    WeightSource {
        segments: vec![Segment { tensor: key.to_owned(), shape: shape.clone(), rows }],
        transposed,
    }
}
