//! What of a model can run and where, from the file alone: its nodes are imported for given shapes
//! as for a run, but nothing is run. Where a run would look at a value, the node is noted, and what
//! depends on it is checked by its operators' names only.

use super::definition::{Attribute, Declared, DeclaredDim, NodeDefinition};
use super::element::{ElementType, OnnxTensor};
use super::file::{OnnxFile, OnnxLimits, elements};
use super::importer::Importer;
use super::operators;
use super::trace::Data;
use super::value::{self, Place, Value};
use crate::graph::{Graph, Plan, Source};
use crate::kernel::Caps;
use crate::session::{PlannedMemory, plan_graph};
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

/// Least that WebGPU guarantees for `maxStorageBufferBindingSize`.
const WEBGPU_BINDING_BYTES: u64 = 128 << 20;

/// A node and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeNote {
    /// Name of the node, behind those of the functions and control flow around it.
    pub node: String,
    /// Its operator, with its domain unless that is the standard's.
    pub operator: String,
    /// What is the matter.
    pub reason: String,
}

/// A tensor that is larger than one storage binding of the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LargeTensor {
    /// Its name.
    pub name: String,
    /// Its bytes on the device.
    pub bytes: u64,
    /// Buffers that it is split over; 1 where it cannot be split.
    pub parts: usize,
}

/// What a model needs, and what of it cannot run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OnnxReport {
    /// Versions of operator sets by domain; "" is the standard's.
    pub opsets: BTreeMap<String, i64>,
    /// How many nodes of each operator there are.
    pub operators: BTreeMap<String, usize>,
    /// The inputs with the shapes that were checked.
    pub inputs: Vec<String>,
    /// Dimensions that the file leaves open and that were taken as 1.
    pub assumed: Vec<String>,
    /// Nodes that this version cannot run.
    pub unsupported: Vec<NodeNote>,
    /// Nodes that are wrong: their inputs or attributes are not what the operator takes.
    pub wrong: Vec<NodeNote>,
    /// Nodes where a run reads a value back to the host to know how to go on.
    pub host_steps: Vec<NodeNote>,
    /// Nodes whose operators are known, but whose shapes depend on a node of the other lists.
    pub unchecked: Vec<NodeNote>,
    /// Bytes on the device for these shapes: of weights, with those of nodes that could not be
    /// planned as they lie in the file. Where a condition decides, those of its larger branch.
    pub memory_weights: u64,
    /// Bytes of values between the nodes, inputs and outputs, of what could be planned.
    pub memory_buffers: u64,
    /// Whether all nodes could be planned; else the model takes more than these bytes.
    pub memory_is_complete: bool,
    /// Dispatches of a run.
    pub dispatches: usize,
    /// Most bytes that one storage binding can see.
    pub binding_limit: u64,
    /// Most bytes that one storage binding can see wherever WebGPU runs.
    pub webgpu_binding_limit: u64,
    /// Tensors over either limit.
    pub over_limit: Vec<LargeTensor>,
}

impl OnnxReport {
    /// Whether the model runs; if `strict`, without host steps.
    pub fn is_good(&self, strict: bool) -> bool {
        let fits = |tensor: &LargeTensor| tensor.parts > 1 || tensor.bytes <= self.binding_limit;
        let fits = self.over_limit.iter().all(fits);
        let stays = self.host_steps.is_empty() || !strict;
        fits && stays && self.unsupported.is_empty() && self.wrong.is_empty()
    }
}

/// What an import that runs nothing comes upon.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) unsupported: Vec<NodeNote>,
    pub(super) wrong: Vec<NodeNote>,
    pub(super) host_steps: Vec<NodeNote>,
    pub(super) unchecked: Vec<NodeNote>,
    pub(super) graphs: Vec<Graph>,
    /// Those of branches for which there are larger ones.
    pub(super) other_graphs: Vec<Graph>,
    /// What nodes that could not be imported read.
    read: Vec<Value>,
    /// Whether the error that is on its way only says that a value cannot be known.
    pub(super) unknown: bool,
}

impl Findings {
    /// Bytes in the file of weights that only nodes read that could not be imported, and whether
    /// there are no such nodes.
    fn unplanned(&self) -> (u64, bool) {
        let graphs = self.graphs.iter().chain(&self.other_graphs);
        let sources = graphs.flat_map(Graph::values).filter_map(|(_, value)| match &value.source {
            Source::Weight(source) => source.segments.first().map(|segment| segment.tensor.as_str()),
            _ => None,
        });
        let planned: HashSet<&str> = sources.collect();
        let mut missing = BTreeMap::new();
        for value in &self.read {
            if let value::Data::Stored(stored) = &value.data {
                let (key, bits) = (stored.key(), stored.stored_element().bits());
                if !planned.contains(key.as_str()) {
                    missing.insert(key, (value.shape.elements() * bits).div_ceil(8) as u64);
                }
            }
        }
        let lists = [&self.unchecked, &self.wrong, &self.unsupported];
        // Both branches of a condition are planned.
        let is_planned = |step: &NodeNote| step.operator == "If";
        let is_complete = lists.iter().all(|list| list.is_empty()) && self.host_steps.iter().all(is_planned);
        (missing.values().sum(), is_complete)
    }
}

/// Bytes of all weights and values of a graph.
fn bytes_of(graph: &Graph) -> u64 {
    graph.values().map(|(_, value)| value.spec.bytes()).sum()
}

impl Importer<'_> {
    /// Imports the model without running anything, and says what it came upon.
    pub(super) fn check(mut self) -> Result<Findings> {
        let imported = self.import();
        match imported {
            Err(error) if !self.findings.unknown || self.is_exhausted() => Err(error),
            _ => {
                self.flush()?;
                Ok(self.findings)
            }
        }
    }

    /// Notes why a node's outputs are not known, where nothing is run. Both branches of a
    /// condition are checked; its outputs are known if they are of one shape.
    pub(super) fn note(&mut self, definition: &NodeDefinition, error: &Error) -> Result<Vec<Value>> {
        let (node, operator) = (self.place(), qualified(definition));
        let read = definition.inputs.iter().filter_map(|name| self.lookup(name).ok());
        let read: Vec<Value> = read.collect();
        self.findings.read.extend(read);
        if !std::mem::take(&mut self.findings.unknown) {
            let (list, reason) = match error {
                Error::Unsupported(message) => (&mut self.findings.unsupported, message.clone()),
                Error::Op { message, .. } => (&mut self.findings.wrong, message.clone()),
                other => (&mut self.findings.wrong, other.to_string()),
            };
            list.push(NodeNote { node, operator, reason });
            return Ok(Vec::new());
        }
        if definition.operator == "If" && definition.domain.is_empty() {
            let mut branches = Vec::new();
            self.flush()?;
            let before = std::mem::take(&mut self.findings.graphs);
            let mut of_branches = Vec::new();
            for branch in graphs(definition) {
                branches.push(self.subgraph(branch, Vec::new()).unwrap_or_default());
                self.findings.unknown = false;
                self.flush()?;
                of_branches.push(std::mem::take(&mut self.findings.graphs));
            }
            of_branches.sort_by_key(|graphs| graphs.iter().map(bytes_of).sum::<u64>());
            let larger = of_branches.pop().unwrap_or_default();
            self.findings.graphs = before.into_iter().chain(larger).collect();
            self.findings.other_graphs.extend(of_branches.into_iter().flatten());
            let shapes = |values: &[Value]| values.iter().map(|value| value.to_string()).collect::<Vec<_>>();
            if let [one, other] = branches.as_slice()
                && shapes(one) == shapes(other)
            {
                // Made by either branch: nothing but its shape is known.
                let values = one.clone().into_iter().map(|value| {
                    let number = self.devices + 1;
                    let device = self.device_value(Place::Slot(number));
                    Value { data: value::Data::Device(device), ..value }
                });
                return Ok(values.collect());
            }
            return Ok(Vec::new());
        }
        let before = self.findings.unsupported.len();
        let at = node.rsplit_once('/').map_or("", |(around, _)| around);
        let unsupported = &mut self.findings.unsupported;
        unknown_operators(self.file, definition, at, &mut BTreeSet::new(), unsupported);
        let noted = self.findings.host_steps.last().is_some_and(|step| step.node == node);
        if self.findings.unsupported.len() == before && !noted {
            let reason = "its shapes depend on a node that is listed here".to_owned();
            self.findings.unchecked.push(NodeNote { node, operator, reason });
        }
        Ok(Vec::new())
    }

    /// Fails because a value cannot be known without running the model.
    pub(super) fn unknown(&mut self, value: &Value, place: &Place) -> Error {
        let node = self.place();
        let operator = self.path.last().map_or_else(String::new, |(_, operator)| operator.clone());
        let reason = match place {
            Place::Input(name) => format!("reads the values of input `{name}`, {value}"),
            Place::Slot(_) | Place::State(_) | Place::Past(_) => {
                format!("reads back a value of the device, {value}")
            }
        };
        self.findings.host_steps.push(NodeNote { node, operator, reason });
        self.findings.unknown = true;
        Error::Unsupported(format!("{value} is not known without running the model"))
    }
}

/// Checks a model for inputs of these shapes; those that are not named have the sizes that the file
/// declares, 1 where it leaves them open.
///
/// # Errors
/// [`Error::File`] or [`Error::Unsupported`] when the file cannot be read at all,
/// [`Error::Request`] when a shape does not fit its input.
pub fn check_model(
    path: &Path,
    shapes: &BTreeMap<String, Vec<usize>>,
    limits: OnnxLimits,
    caps: &Caps,
) -> Result<OnnxReport> {
    check(&OnnxFile::open(path, limits)?, shapes, caps)
}

/// The same for a model in memory.
///
/// # Errors
/// Those of [`check_model`].
pub fn check_bytes(
    bytes: Vec<u8>,
    shapes: &BTreeMap<String, Vec<usize>>,
    limits: OnnxLimits,
    caps: &Caps,
) -> Result<OnnxReport> {
    check(&OnnxFile::of_bytes(Path::new("model"), bytes, limits)?, shapes, caps)
}

fn check(file: &OnnxFile, shapes: &BTreeMap<String, Vec<usize>>, caps: &Caps) -> Result<OnnxReport> {
    let (given, assumed) = inputs(file, shapes)?;
    let data = Data { given: &given, slots: HashMap::new() };
    let mut findings = Importer::new(file, None, data, &|| false).check()?;
    let (unplanned, is_complete) = findings.unplanned();
    let mut plan = |graphs: Vec<Graph>| {
        let mut plans = Vec::new();
        for graph in graphs {
            match plan_graph(graph, caps) {
                Ok(plan) => plans.push(plan),
                Err(error) => findings.unsupported.push(NodeNote {
                    node: String::new(),
                    operator: String::new(),
                    reason: error.to_string(),
                }),
            }
        }
        plans
    };
    let mut plans = plan(std::mem::take(&mut findings.graphs));
    let others = plan(std::mem::take(&mut findings.other_graphs));
    let memory = PlannedMemory::of(&plans, caps);
    let dispatches = plans.iter().map(|plan| plan.steps.len()).sum();
    plans.extend(others);
    let mut operators = BTreeMap::new();
    count_operators(&file.graph.nodes, &mut operators);
    Ok(OnnxReport {
        opsets: file.opsets.as_ref().clone(),
        operators,
        inputs: given.iter().map(|(name, tensor)| format!("{name} {tensor}")).collect(),
        assumed,
        unsupported: findings.unsupported,
        wrong: findings.wrong,
        host_steps: findings.host_steps,
        unchecked: findings.unchecked,
        memory_weights: memory.weights + unplanned,
        memory_buffers: memory.buffers + memory.states,
        memory_is_complete: is_complete,
        dispatches,
        binding_limit: caps.max_binding_bytes,
        webgpu_binding_limit: WEBGPU_BINDING_BYTES,
        over_limit: over_limit(&plans, caps),
    })
}

/// Zeros for all inputs, and the dimensions whose sizes nothing says.
fn inputs(
    file: &OnnxFile,
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<(BTreeMap<String, OnnxTensor>, Vec<String>)> {
    let declared = &file.graph.inputs;
    if let Some(name) = shapes.keys().find(|name| declared.iter().all(|input| input.name != **name)) {
        let names: Vec<&str> = declared.iter().map(|input| input.name.as_str()).collect();
        return Err(Error::Request(format!("there is no input `{name}`; there are {}", names.join(", "))));
    }
    let (mut given, mut assumed) = (BTreeMap::new(), Vec::new());
    for input in declared.iter().filter(|input| !file.graph.initializers.contains_key(&input.name)) {
        let name = &input.name;
        let dims = match (shapes.get(name), &input.dims) {
            (Some(dims), _) => dims.clone(),
            (None, Some(dims)) => {
                let mut size = |(axis, dim): (usize, &DeclaredDim)| match dim {
                    DeclaredDim::Size(size) => *size,
                    DeclaredDim::Named(symbol) => {
                        assumed.push(format!("{name}[{axis}] ({symbol})"));
                        1
                    }
                    DeclaredDim::Any => {
                        assumed.push(format!("{name}[{axis}]"));
                        1
                    }
                };
                dims.iter().enumerate().map(&mut size).collect()
            }
            (None, None) => {
                return Err(Error::Request(format!("input `{name}` has no declared shape: give one")));
            }
        };
        given.insert(name.clone(), zeros(file, input, dims)?);
    }
    Ok((given, assumed))
}

/// Zeros for an input.
pub(super) fn zeros(file: &OnnxFile, input: &Declared, dims: Vec<usize>) -> Result<OnnxTensor> {
    let (name, limit) = (&input.name, file.limits.elements);
    if elements(&dims).is_none_or(|elements| elements > limit) {
        return Err(Error::Request(format!("input `{name}` of {dims:?} is larger than {limit} elements")));
    }
    let element = input.element.unwrap_or(ElementType::Float);
    let tensor = Tensor::zeros(Spec::new(element.host_dtype(), dims));
    Ok(OnnxTensor::of_host(element, tensor))
}

fn count_operators(nodes: &[NodeDefinition], counts: &mut BTreeMap<String, usize>) {
    for node in nodes {
        *counts.entry(qualified(node)).or_default() += 1;
        for graph in graphs(node) {
            count_operators(&graph.nodes, counts);
        }
    }
}

/// Bodies of control flow.
pub(super) fn graphs(node: &NodeDefinition) -> impl Iterator<Item = &super::definition::Subgraph> {
    node.attributes.values().filter_map(|attribute| match attribute {
        Attribute::Graph(graph) => Some(graph.as_ref()),
        _ => None,
    })
}

/// The operator with its domain, unless that is the standard's.
pub(super) fn qualified(node: &NodeDefinition) -> String {
    match node.domain.as_str() {
        "" => node.operator.clone(),
        domain => format!("{domain}.{}", node.operator),
    }
}

/// Adds nodes within `node` (itself, its graphs, functions that it calls) whose operators are not
/// known.
pub(super) fn unknown_operators(
    file: &OnnxFile,
    node: &NodeDefinition,
    at: &str,
    seen: &mut BTreeSet<[String; 3]>,
    unsupported: &mut Vec<NodeNote>,
) {
    let inside = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
    let at = inside(&node.name);
    let key = [&node.domain, &node.operator, &node.overload].map(String::clone);
    if let Some(function) = file.functions.get(&key) {
        if seen.insert(key) {
            let nodes = &function.body.nodes;
            nodes.iter().for_each(|node| unknown_operators(file, node, &at, seen, unsupported));
        }
    } else if operators::find(&node.domain, &node.operator).is_none() {
        let (operator, reason) = (qualified(node), "this operator is not known".to_owned());
        unsupported.push(NodeNote { node: at.clone(), operator, reason });
    }
    for graph in graphs(node) {
        graph.nodes.iter().for_each(|node| unknown_operators(file, node, &at, seen, unsupported));
    }
}

/// Weights and values that one binding cannot see.
fn over_limit(plans: &[Plan], caps: &Caps) -> Vec<LargeTensor> {
    let mut found: Vec<LargeTensor> = Vec::new();
    let limit = caps.max_binding_bytes.min(WEBGPU_BINDING_BYTES);
    let mut add = |tensor: LargeTensor| {
        if tensor.bytes > limit && !found.contains(&tensor) {
            found.push(tensor);
        }
    };
    for plan in plans {
        for weight in &plan.weights {
            let parts = weight.part_bytes(caps);
            add(LargeTensor { name: weight.name.clone(), bytes: parts.iter().sum(), parts: parts.len() });
        }
        let values = plan.inputs.iter().map(|(name, spec)| (name, spec));
        let outputs = plan.outputs.iter().map(|(name, spec, _)| (name, spec));
        for (name, spec) in values.chain(outputs) {
            add(LargeTensor { name: name.clone(), bytes: spec.bytes(), parts: 1 });
        }
        for &bytes in &plan.slots {
            add(LargeTensor { name: "a value between nodes".to_owned(), bytes, parts: 1 });
        }
    }
    found
}
