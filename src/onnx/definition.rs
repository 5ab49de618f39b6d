//! A model as its file defines it, checked: graphs of nodes in topological order.

use super::element::ElementType;
use super::file::Loader;
use super::proto;
use crate::tensor::Shape;
use crate::{Error, Result};
use prost::bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Versions of the operator sets that nodes belong to, by domain; "" is the standard's.
pub(super) type Opsets = BTreeMap<String, i64>;

/// A tensor of the file: an initialiser or an attribute.
#[derive(Debug)]
pub(super) struct StoredTensor {
    /// Unique in the file.
    pub(super) key: String,
    pub(super) element: ElementType,
    pub(super) shape: Shape,
    /// As in the file, of the right length.
    pub(super) bytes: Bytes,
}

/// A value of an attribute.
#[derive(Debug, Clone)]
pub(super) enum Attribute {
    Float(f32),
    Int(i64),
    String(String),
    Tensor(Arc<StoredTensor>),
    Graph(Arc<Subgraph>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Strings(Vec<String>),
    /// The attribute of this name of the function call around the node.
    OfFunction(String),
    /// What this crate does not read, for example a type.
    Other,
}

impl Attribute {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Float(_) => "a float",
            Self::Int(_) => "an integer",
            Self::String(_) => "a string",
            Self::Tensor(_) => "a tensor",
            Self::Graph(_) => "a graph",
            Self::Floats(_) => "floats",
            Self::Ints(_) => "integers",
            Self::Strings(_) => "strings",
            Self::OfFunction(_) => "a reference",
            Self::Other => "of a kind that is not read",
        }
    }
}

/// A node as the file has it.
#[derive(Debug)]
pub(super) struct NodeDefinition {
    /// Its name; where the file gives none, that of its first output.
    pub(super) name: String,
    pub(super) operator: String,
    /// "" for the standard's operators.
    pub(super) domain: String,
    pub(super) overload: String,
    /// Names of values; "" where an optional one is left out.
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) attributes: BTreeMap<String, Attribute>,
    /// Values of the graph that no later node reads.
    pub(super) last_uses: Vec<String>,
}

/// An input or output of a graph.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) element: Option<ElementType>,
    /// Sizes and names of dimensions, if the rank is known.
    pub(super) dims: Option<Vec<DeclaredDim>>,
}

/// A dimension as a file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeclaredDim {
    /// This size.
    Size(usize),
    /// The same size wherever this name stands.
    Named(String),
    /// Any size.
    Any,
}

impl std::fmt::Display for DeclaredDim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Size(size) => write!(f, "{size}"),
            Self::Named(name) => f.write_str(name),
            Self::Any => f.write_str("?"),
        }
    }
}

/// A graph, the body of a control-flow operator, or that of a function.
#[derive(Debug, Default)]
pub(super) struct Subgraph {
    pub(super) nodes: Vec<NodeDefinition>,
    pub(super) initializers: BTreeMap<String, Arc<StoredTensor>>,
    pub(super) inputs: Vec<Declared>,
    pub(super) outputs: Vec<Declared>,
    /// Values of graphs around it that it reads.
    pub(super) captured: BTreeSet<String>,
}

/// A function of the model: a graph that calls are replaced by.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) body: Arc<Subgraph>,
    /// Attributes that a call need not give.
    pub(super) defaults: BTreeMap<String, Attribute>,
    pub(super) opsets: Arc<Opsets>,
}

/// The standard's domain under both of its names.
pub(super) fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

impl Subgraph {
    /// Checks a graph of the file.
    pub(super) fn new(graph: proto::Graph, loader: &mut Loader<'_>) -> Result<Self> {
        if let Some(sparse) = graph.sparse_initializer.first() {
            let name = sparse.values.as_ref().map_or("", |values| values.name.as_str());
            return Err(Error::Unsupported(format!("sparse initialiser `{name}`")));
        }
        let mut initializers = BTreeMap::new();
        for tensor in graph.initializer {
            let name = tensor.name.clone();
            let stored = loader.tensor(&name, tensor)?;
            if initializers.insert(name.clone(), stored).is_some() {
                return Err(loader.error(format!("two initialisers are named `{name}`")));
            }
        }
        let declare = |values: Vec<proto::ValueInfo>, loader: &Loader<'_>| -> Result<Vec<Declared>> {
            values.into_iter().map(|value| declared(value, loader)).collect()
        };
        let inputs = declare(graph.input, loader)?;
        let outputs = declare(graph.output, loader)?;
        let nodes = node_definitions(graph.node, loader)?;
        Self { nodes, initializers, inputs, outputs, captured: BTreeSet::new() }.sorted(loader)
    }

    /// The body of a function.
    pub(super) fn of_function(function: proto::Function, loader: &mut Loader<'_>) -> Result<Self> {
        let declare = |names: Vec<String>| {
            names.into_iter().map(|name| Declared { name, element: None, dims: None }).collect()
        };
        let nodes = node_definitions(function.node, loader)?;
        let (inputs, outputs) = (declare(function.input), declare(function.output));
        let body = Self { nodes, inputs, outputs, ..Self::default() }.sorted(loader)?;
        if let Some(name) = body.captured.first() {
            let message = format!("function `{}`: nothing makes the value `{name}`", function.name);
            return Err(loader.error(message));
        }
        Ok(body)
    }

    /// Puts the nodes in topological order, and notes where each value is read last.
    fn sorted(mut self, loader: &Loader<'_>) -> Result<Self> {
        let makers = self.makers(loader)?;
        let reads: Vec<BTreeSet<String>> = self.nodes.iter().map(NodeDefinition::reads).collect();
        let known: BTreeSet<&str> = self
            .inputs
            .iter()
            .map(|input| input.name.as_str())
            .chain(self.initializers.keys().map(String::as_str))
            .collect();
        let results = self.outputs.iter().map(|output| &output.name);
        self.captured = reads
            .iter()
            .flatten()
            .chain(results)
            .filter(|name| !name.is_empty() && !makers.contains_key(*name) && !known.contains(name.as_str()))
            .cloned()
            .collect();
        let order = topological_order(&reads, &makers)
            .map_err(|node| loader.error(format!("node `{}` is part of a cycle", self.nodes[node].name)))?;
        let mut nodes: Vec<Option<NodeDefinition>> = self.nodes.into_iter().map(Some).collect();
        self.nodes = order.iter().filter_map(|&node| nodes[node].take()).collect();
        let kept: BTreeSet<&str> = self.outputs.iter().map(|output| output.name.as_str()).collect();
        let mut later = BTreeSet::new();
        for (node, &place) in self.nodes.iter_mut().zip(&order).rev() {
            let ends = |name: &&String| !kept.contains(name.as_str()) && !later.contains(name.as_str());
            node.last_uses = reads[place].iter().chain(&node.outputs).filter(ends).cloned().collect();
            later.extend(reads[place].iter().cloned());
        }
        Ok(self)
    }

    /// The node that makes each value.
    fn makers(&self, loader: &Loader<'_>) -> Result<HashMap<String, usize>> {
        let mut makers = HashMap::new();
        let mut names = BTreeSet::new();
        for input in &self.inputs {
            if !names.insert(input.name.as_str()) {
                return Err(loader.error(format!("two inputs are named `{}`", input.name)));
            }
        }
        for (index, node) in self.nodes.iter().enumerate() {
            for name in node.outputs.iter().filter(|name| !name.is_empty()) {
                let taken = names.contains(name.as_str()) || self.initializers.contains_key(name);
                if taken || makers.insert(name.clone(), index).is_some() {
                    return Err(loader.error(format!("two values are named `{name}`")));
                }
            }
        }
        Ok(makers)
    }
}

impl NodeDefinition {
    fn new(node: proto::Node, loader: &mut Loader<'_>) -> Result<Self> {
        let name = if node.name.is_empty() {
            node.output.iter().find(|name| !name.is_empty()).cloned().unwrap_or_default()
        } else {
            node.name
        };
        loader.count_node()?;
        let attributes = attributes(&name, node.attribute, loader)?;
        Ok(Self {
            name,
            operator: node.op_type,
            domain: domain(&node.domain).to_owned(),
            overload: node.overload,
            inputs: node.input,
            outputs: node.output,
            attributes,
            last_uses: Vec::new(),
        })
    }

    /// The values that it reads, also within its graphs.
    fn reads(&self) -> BTreeSet<String> {
        let graphs = self.attributes.values().filter_map(|attribute| match attribute {
            Attribute::Graph(graph) => Some(&graph.captured),
            _ => None,
        });
        let names = self.inputs.iter().chain(graphs.flatten());
        names.filter(|name| !name.is_empty()).cloned().collect()
    }
}

fn node_definitions(nodes: Vec<proto::Node>, loader: &mut Loader<'_>) -> Result<Vec<NodeDefinition>> {
    nodes.into_iter().map(|node| NodeDefinition::new(node, loader)).collect()
}

/// Indices of nodes, each after those that make what it reads, else in the file's order; or a node
/// of a cycle.
fn topological_order(
    reads: &[BTreeSet<String>],
    makers: &HashMap<String, usize>,
) -> Result<Vec<usize>, usize> {
    let mut waiting: Vec<usize> = vec![0; reads.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); reads.len()];
    for (node, names) in reads.iter().enumerate() {
        for maker in names.iter().filter_map(|name| makers.get(name)) {
            waiting[node] += 1;
            readers[*maker].push(node);
        }
    }
    let mut ready: BTreeSet<usize> = (0..reads.len()).filter(|&node| waiting[node] == 0).collect();
    let mut order = Vec::with_capacity(reads.len());
    while let Some(node) = ready.pop_first() {
        order.push(node);
        for &reader in &readers[node] {
            waiting[reader] -= 1;
            if waiting[reader] == 0 {
                ready.insert(reader);
            }
        }
    }
    waiting.iter().position(|&count| count > 0).map_or(Ok(order), Err)
}

fn declared(value: proto::ValueInfo, loader: &Loader<'_>) -> Result<Declared> {
    let name = value.name;
    let Some(tensor) = value.kind.and_then(|kind| kind.tensor_type) else {
        return Ok(Declared { name, element: None, dims: None });
    };
    let element = match tensor.elem_type {
        0 => None,
        number => Some(
            ElementType::from_number(number.into())
                .map_err(|error| loader.error(format!("`{name}`: {error}")))?,
        ),
    };
    let dim = |dim: proto::Dimension| match (dim.dim_value, dim.dim_param) {
        (Some(size), _) => usize::try_from(size).map_or(DeclaredDim::Any, DeclaredDim::Size),
        (None, Some(symbol)) if !symbol.is_empty() => DeclaredDim::Named(symbol),
        _ => DeclaredDim::Any,
    };
    let dims = tensor.shape.map(|shape| shape.dim.into_iter().map(dim).collect());
    Ok(Declared { name, element, dims })
}

/// Attributes of a node or function by name.
pub(super) fn attributes(
    node: &str,
    attributes: Vec<proto::Attribute>,
    loader: &mut Loader<'_>,
) -> Result<BTreeMap<String, Attribute>> {
    let mut named = BTreeMap::new();
    for attribute in attributes {
        let name = attribute.name.clone();
        let value = self::attribute(node, attribute, loader)?;
        if named.insert(name.clone(), value).is_some() {
            return Err(loader.error(format!("node `{node}` has two attributes `{name}`")));
        }
    }
    Ok(named)
}

/// The numbers of `AttributeProto.AttributeType`; files before version 3 leave it out.
fn attribute(node: &str, attribute: proto::Attribute, loader: &mut Loader<'_>) -> Result<Attribute> {
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
    if !attribute.ref_attr_name.is_empty() {
        return Ok(Attribute::OfFunction(attribute.ref_attr_name));
    }
    let present = [
        attribute.f.is_some(),
        attribute.i.is_some(),
        attribute.s.is_some(),
        attribute.t.is_some(),
        attribute.g.is_some(),
        !attribute.floats.is_empty(),
        !attribute.ints.is_empty(),
        !attribute.strings.is_empty(),
    ];
    let guessed = present.iter().position(|&present| present).map_or(0, |kind| kind + 1);
    let kind = usize::try_from(attribute.kind).ok().filter(|&kind| kind != 0).unwrap_or(guessed);
    Ok(match (kind, attribute.t, attribute.g) {
        (1, ..) => Attribute::Float(attribute.f.unwrap_or_default()),
        (2, ..) => Attribute::Int(attribute.i.unwrap_or_default()),
        (3, ..) => Attribute::String(text(attribute.s.unwrap_or_default())),
        (4, Some(tensor), _) => {
            Attribute::Tensor(loader.tensor(&format!("{node}.{}", attribute.name), tensor)?)
        }
        (5, _, Some(graph)) => Attribute::Graph(Arc::new(Subgraph::new(graph, loader)?)),
        (6, ..) => Attribute::Floats(attribute.floats),
        (7, ..) => Attribute::Ints(attribute.ints),
        (8, ..) => Attribute::Strings(attribute.strings.into_iter().map(text).collect()),
        _ => Attribute::Other,
    })
}
