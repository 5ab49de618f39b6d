//! Reading a converted model: everything that its two files say is checked here.

use super::format::{CONTENT_KEY, FORMAT, Head, Origin, PortInfo, SavedFile, SavedGraph, SavedNode};
use super::format::{SavedOutput, SavedValue, VERSION, ValueOrigin};
use super::{ModelGraph, Output, SavedFiles};
use crate::element::elements;
use crate::graph::{Graph, Segment, ValueId, WeightSource};
use crate::json::read_bytes;
use crate::ops::read_op;
use crate::session::WeightRows;
use crate::tensor::{DType, Shape, Spec};
use crate::weights::{ConversionReport, FileWeights, RowFormat, TensorView, Weights, convert_rows};
use crate::{Error, Result};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Largest file of graphs that is read, in bytes.
const MOST_BYTES: u64 = 1 << 28;

/// Most elements of a value.
const MOST_ELEMENTS: usize = 1 << 31;

/// Most dimensions of a value.
const MOST_DIMS: usize = 16;

/// A checked model.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) producer: String,
    pub(super) opsets: BTreeMap<String, i64>,
    pub(super) graphs: Vec<ModelGraph>,
    pub(super) weights: LoadedWeights,
}

/// The tensors of a model as a session reads them.
#[derive(Debug)]
pub(super) struct LoadedWeights(pub(super) FileWeights);

impl WeightRows for LoadedWeights {
    fn rows(&self, source: &WeightSource, spec: &Spec, rows: Range<usize>, pitch: usize) -> Result<Vec<u8>> {
        let [segment] = source.segments.as_slice() else {
            return Err(Error::op("weights", "weights of converted models are whole tensors"));
        };
        let stored = self.0.require(&segment.tensor)?;
        let as_matrix = Spec::new(stored.spec.dtype, segment.shape.clone());
        let view = TensorView { spec: &as_matrix, bytes: stored.bytes };
        let format = RowFormat { dtype: spec.dtype, pitch, transposed: source.transposed };
        let bytes = convert_rows(&view, rows, format, &mut ConversionReport::default())?;
        self.0.release(&segment.tensor);
        Ok(bytes)
    }
}

/// Reads and checks both files of a model.
///
/// # Errors
/// [`Error::File`] with the graph, the node or value, expected and got; [`Error::Io`].
pub(super) fn read(files: &SavedFiles) -> Result<Loaded> {
    let path = files.graph.as_path();
    let missing = || Error::io(path, std::io::ErrorKind::NotFound.into());
    let text = read_bytes(path, MOST_BYTES)?.ok_or_else(missing)?;
    let weights = FileWeights::open(&files.tensors)?;
    let file = parse(path, &text)?;
    let metadata = weights.header().files.iter().find_map(|file| file.metadata.get(CONTENT_KEY));
    if metadata != Some(&file.content) {
        let message = format!("is not of the same conversion as {}", files.tensors.display());
        return Err(Error::file(path, message));
    }
    if file.graphs.is_empty() {
        return Err(Error::file(path, "has no graphs"));
    }
    let mut graphs: Vec<ModelGraph> = Vec::with_capacity(file.graphs.len());
    for (number, saved) in file.graphs.iter().enumerate() {
        let at = |error| located(path, number, error);
        let graph =
            Reader { weights: &weights, ids: Vec::new(), graph: Graph::new() }.read(saved).map_err(at)?;
        if let Some(other) = graphs.iter().position(|other| other.inputs == graph.inputs) {
            return Err(at(Error::op("graph", format!("its inputs are those of graph {other}"))));
        }
        graphs.push(graph);
    }
    let weights = LoadedWeights(weights);
    Ok(Loaded { producer: file.producer, opsets: file.opsets, graphs, weights })
}

fn parse(path: &Path, text: &[u8]) -> Result<SavedFile> {
    let wrong = |error| Error::file(path, format!("is not a {FORMAT}: {error}"));
    let head: Head = serde_json::from_slice(text).map_err(wrong)?;
    if head.format != FORMAT {
        return Err(Error::file(path, format!("expected the format `{FORMAT}`, got `{}`", head.format)));
    }
    if head.version != VERSION {
        let got = head.version;
        return Err(Error::file(path, format!("is of version {got}, this program reads version {VERSION}")));
    }
    serde_json::from_slice(text).map_err(wrong)
}

/// Puts the file and the graph in front of an error.
fn located(path: &Path, graph: usize, error: Error) -> Error {
    let message = match error {
        Error::Op { op, message } => format!("{op}: {message}"),
        Error::Unsupported(message) => message,
        other => return other,
    };
    Error::file(path, format!("graph {graph}: {message}"))
}

fn fail(what: impl Into<String>, message: impl Into<String>) -> Error {
    Error::op(what, message)
}

/// Builds the graph of one that is stored.
struct Reader<'a> {
    weights: &'a FileWeights,
    /// By numbers of stored values; none where no node has made it yet.
    ids: Vec<Option<ValueId>>,
    graph: Graph,
}

impl Reader<'_> {
    fn read(mut self, saved: &SavedGraph) -> Result<ModelGraph> {
        check_ports("input", saved.inputs.iter())?;
        check_ports("output", saved.outputs.iter().map(|output| &output.port))?;
        for (number, value) in saved.values.iter().enumerate() {
            let at = |error: Error| fail(format!("value {number}"), message_of(error));
            let id = self.source(value, &saved.inputs).map_err(at)?;
            self.ids.push(id);
        }
        for (number, node) in saved.nodes.iter().enumerate() {
            self.node(node, &saved.values).map_err(|error| {
                fail(format!("node {number}, {} `{}`", node.op, node.name), message_of(error))
            })?;
        }
        let unmade = self.ids.iter().position(Option::is_none);
        if let Some(number) = unmade {
            return Err(fail(format!("value {number}"), "no node makes it"));
        }
        let mut outputs = Vec::with_capacity(saved.outputs.len());
        for output in &saved.outputs {
            let at = |error: Error| fail(format!("output `{}`", output.port.name), message_of(error));
            outputs.push((output.port.clone(), self.output(output, saved).map_err(at)?));
        }
        self.graph.check()?;
        Ok(ModelGraph { inputs: saved.inputs.clone(), outputs, graph: self.graph })
    }

    /// Adds a value, unless a node makes it.
    fn source(&mut self, value: &SavedValue, inputs: &[PortInfo]) -> Result<Option<ValueId>> {
        let spec = spec_of(value)?;
        Ok(Some(match &value.from {
            ValueOrigin::Node => return Ok(None),
            ValueOrigin::Input(name) => {
                let port = find_port(inputs, name)?;
                let wanted = Spec::new(port.element.device_dtype(), port.dims.clone());
                if spec != wanted {
                    return Err(fail("value", format!("the input `{name}` is {wanted}, got {spec}")));
                }
                self.graph.input(name, spec)
            }
            ValueOrigin::Constant(name) => {
                let view = self.weights.require(name)?;
                if *view.spec != spec {
                    return Err(fail("value", format!("the tensor `{name}` is {}, got {spec}", view.spec)));
                }
                self.graph.constant(name, Arc::new(view.to_tensor()))
            }
            ValueOrigin::Weight { tensor, transposed } => {
                let source = self.weight(&spec, tensor, *transposed)?;
                self.graph.weight(spec, source)
            }
        }))
    }

    /// Where the rows of a weight come from.
    fn weight(&self, spec: &Spec, tensor: &str, transposed: bool) -> Result<WeightSource> {
        let stored = self.weights.require(tensor)?.spec;
        let (rows, cols) = spec.shape.rows_and_cols();
        let fits = stored.shape.elements() == spec.elements() && (!transposed || spec.shape.rank() == 2);
        if !fits || !stored.dtype.is_float() || !spec.dtype.is_float() {
            let how = if transposed { "the transpose of " } else { "" };
            return Err(fail("value", format!("{how}the tensor `{tensor}` is {stored}, got {spec}")));
        }
        let shape = if transposed { Shape::from([cols, rows]) } else { spec.shape.clone() };
        let segment = Segment { tensor: tensor.to_owned(), shape, rows: 0..rows };
        Ok(WeightSource { segments: vec![segment], transposed })
    }

    fn node(&mut self, node: &SavedNode, values: &[SavedValue]) -> Result<()> {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for &number in &node.inputs {
            match self.ids.get(number) {
                Some(Some(id)) => inputs.push(*id),
                Some(None) => return Err(fail("node", format!("reads value {number} before it is made"))),
                None => return Err(no_value(number, values)),
            }
        }
        let op = read_op(&node.op, &node.attributes)?;
        if !op.aliases().is_empty() {
            return Err(fail("node", "operators that change states have no place in converted models"));
        }
        let (graph, name) = (&mut self.graph, &node.name);
        let made = match name.as_str() {
            "" => graph.add_shared(op, &inputs)?,
            name => graph.scope(name, |graph| graph.add_shared(op, &inputs))?,
        };
        if made.len() != node.outputs.len() {
            let (want, got) = (made.len(), node.outputs.len());
            return Err(fail("node", format!("makes {want} values, {got} are named")));
        }
        for (&number, id) in node.outputs.iter().zip(made) {
            let value = values.get(number).ok_or_else(|| no_value(number, values))?;
            if self.ids[number].is_some() || !matches!(value.from, ValueOrigin::Node) {
                return Err(fail("node", format!("makes value {number}, which is there already")));
            }
            let (want, got) = (self.graph.spec(id), spec_of(value)?);
            if *want != got {
                return Err(fail("node", format!("makes {want}, value {number} is {got}")));
            }
            self.ids[number] = Some(id);
        }
        Ok(())
    }

    fn output(&mut self, output: &SavedOutput, saved: &SavedGraph) -> Result<Output> {
        let SavedOutput { port, from } = output;
        let wanted = Spec::new(port.element.device_dtype(), port.dims.clone());
        let expect = |got: &Spec, wanted: &Spec| match got == wanted {
            true => Ok(()),
            false => Err(fail("output", format!("is {port}, expected {wanted}, got {got}"))),
        };
        match from {
            Origin::Value(number) => {
                let Some(Some(id)) = self.ids.get(*number) else {
                    return Err(no_value(*number, &saved.values));
                };
                if !matches!(saved.values[*number].from, ValueOrigin::Node) {
                    return Err(fail("output", format!("value {number} is made by no node")));
                }
                expect(self.graph.spec(*id), &wanted)?;
                let name = format!("%{number}");
                if self.graph.outputs().iter().all(|(known, _)| *known != name) {
                    self.graph.output(name.clone(), *id);
                }
                Ok(Output::Graph(name))
            }
            Origin::Input(name) => {
                let input = find_port(&saved.inputs, name)?;
                expect(&Spec::new(input.element.device_dtype(), input.dims.clone()), &wanted)?;
                Ok(Output::Input(name.clone()))
            }
            Origin::Tensor(name) => {
                let view = self.weights.require(name)?;
                expect(view.spec, &Spec::new(port.element.host_dtype(), port.dims.clone()))?;
                Ok(Output::Known(Arc::new(view.to_tensor())))
            }
        }
    }
}

fn message_of(error: Error) -> String {
    match error {
        Error::Op { message, .. } => message,
        other => other.to_string(),
    }
}

fn no_value(number: usize, values: &[SavedValue]) -> Error {
    fail("node", format!("there is no value {number}, only {}", values.len()))
}

fn find_port<'p>(ports: &'p [PortInfo], name: &str) -> Result<&'p PortInfo> {
    let found = ports.iter().find(|port| port.name == name);
    found.ok_or_else(|| fail("input", format!("there is no input `{name}`")))
}

/// Checks names and sizes of inputs or outputs.
fn check_ports<'p>(what: &str, ports: impl Iterator<Item = &'p PortInfo>) -> Result<()> {
    let mut names = HashSet::new();
    for port in ports {
        if !names.insert(port.name.as_str()) {
            return Err(fail("graph", format!("two {what}s are named `{}`", port.name)));
        }
        check_dims(&port.dims).map_err(|message| fail(format!("{what} `{}`", port.name), message))?;
    }
    Ok(())
}

fn check_dims(dims: &[usize]) -> Result<(), String> {
    if dims.len() > MOST_DIMS {
        return Err(format!("has {} dimensions, at most {MOST_DIMS} are read", dims.len()));
    }
    match elements(dims).filter(|&elements| elements <= MOST_ELEMENTS) {
        Some(_) => Ok(()),
        None => Err(format!("has the shape {dims:?}, the limit is {MOST_ELEMENTS} elements")),
    }
}

/// Dtype and shape of a value on the device.
fn spec_of(value: &SavedValue) -> Result<Spec> {
    let SavedValue { dtype, dims, .. } = value;
    check_dims(dims).map_err(|message| fail("value", message))?;
    if dims.contains(&0) {
        return Err(fail("value", format!("has the shape {dims:?} without elements")));
    }
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 | DType::I32 | DType::U32 => {
            Ok(Spec::new(*dtype, dims.clone()))
        }
        other => Err(fail("value", format!("has the dtype {other}, which no device has"))),
    }
}
