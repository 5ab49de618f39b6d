//! Converting models to files that load without this importer: see [`saved`](crate::saved).

use super::check::{Findings, NodeNote, zeros};
use super::definition::{Declared, DeclaredDim};
use super::element::OnnxTensor;
use super::file::{OnnxFile, OnnxLimits};
use super::importer::Importer;
use super::trace::{self, Data, Trace};
use super::value::Place;
use crate::graph::{Graph, Segment, WeightSource};
use crate::saved::{ModelGraph, Output, PortInfo, SavedFiles, TensorBytes, Writer};
use crate::session::WeightRows;
use crate::tensor::{DType, Spec};
use crate::{Error, Result};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Shapes of inputs by their names.
pub type InputShapes = BTreeMap<String, Vec<usize>>;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conversion {
    /// File of graphs.
    pub graph: PathBuf,
    /// File of weights and constants.
    pub tensors: PathBuf,
    /// The inputs of each graph.
    pub graphs: Vec<Vec<PortInfo>>,
    /// How many weights and constants there are.
    pub tensor_count: usize,
    /// Bytes of these.
    pub tensor_bytes: u64,
}

/// Converts a model for inputs of these shapes, one graph for each set of them; for the shapes that
/// the file declares if there are none. Inputs that a set does not name have the sizes that the file
/// declares, or that it names where others have them. `to` is the name of either file written.
///
/// # Errors
/// [`Error::Request`] when shapes are missing or do not fit, [`Error::Unsupported`] that lists the
/// nodes that are computed on the host or cannot be computed, [`Error::File`] when a file cannot be read
/// or would be replaced that is no converted model, [`Error::Io`].
pub fn convert(model: &Path, to: &Path, shapes: &[InputShapes], limits: OnnxLimits) -> Result<Conversion> {
    let files = SavedFiles::of(to)?;
    let file = OnnxFile::open(model, limits)?;
    let declared = [InputShapes::new()];
    let shapes = if shapes.is_empty() { &declared } else { shapes };
    let mut writer = Writer::default();
    let mut graphs: Vec<Vec<PortInfo>> = Vec::with_capacity(shapes.len());
    let originals = |segment: &Segment, dtype: DType| tensor(&file, segment, dtype);
    for set in shapes {
        let graph = import(&file, set)?;
        if graphs.contains(&graph.inputs) {
            return Err(Error::Request(format!("the shapes {set:?} are given twice")));
        }
        writer.add(&graph, &originals)?;
        graphs.push(graph.inputs);
    }
    let (tensor_count, tensor_bytes) = writer.tensors();
    writer.write(&files, file.opsets.as_ref().clone())?;
    Ok(Conversion { graph: files.graph, tensors: files.tensors, graphs, tensor_count, tensor_bytes })
}

/// The tensor of a weight: as it lies in the file, or what is computed of such when it is read.
fn tensor<'f>(file: &'f OnnxFile, segment: &Segment, dtype: DType) -> Result<TensorBytes<'f>> {
    if let Some(stored) = file.stored(&segment.tensor).filter(|stored| stored.element.is_float()) {
        let spec = Spec::new(stored.element.host_dtype(), stored.shape.clone());
        return Ok(TensorBytes { spec, bytes: Cow::Borrowed(&stored.bytes) });
    }
    let spec = Spec::new(dtype, segment.shape.clone());
    let (rows, cols) = spec.shape.rows_and_cols();
    let whole = Segment { rows: 0..rows, ..segment.clone() };
    let source = WeightSource { segments: vec![whole], transposed: false };
    let bytes = file.rows(&source, &spec, 0..rows, cols)?;
    Ok(TensorBytes { spec, bytes: Cow::Owned(bytes) })
}

/// The graph of a model for inputs of these shapes.
fn import(file: &OnnxFile, shapes: &InputShapes) -> Result<ModelGraph> {
    let given = inputs(file, shapes)?;
    let data = Data { given: &given, slots: HashMap::new() };
    let (findings, trace) = Importer::new(file, None, data, &|| false).convert()?;
    refuse(file, &findings)?;
    let mut graphs = findings.graphs.into_iter();
    let graph = graphs.next().unwrap_or_default();
    if graphs.next().is_some() {
        return Err(file.error("cannot be converted: it is computed in several parts"));
    }
    let mut named = Vec::with_capacity(trace.outputs.len());
    for (name, element, output) in trace.outputs {
        let (dims, output) = match output {
            trace::Output::Known(tensor) => (tensor.dims().to_vec(), Output::Known(tensor)),
            trace::Output::At(Place::Input(input)) => {
                let tensor = given.get(&input).ok_or_else(|| file.error(format!("no input `{input}`")))?;
                (tensor.dims().to_vec(), Output::Input(input))
            }
            trace::Output::At(Place::Slot(number)) => {
                let output = format!("%{number}");
                (output_dims(&graph, &output)?, Output::Graph(output))
            }
            trace::Output::At(Place::State(input) | Place::Past(input)) => {
                return Err(file.error(format!("output `{name}` is the state of `{input}`")));
            }
        };
        named.push((PortInfo { name, element, dims }, output));
    }
    let port = |(name, tensor): (&String, &OnnxTensor)| PortInfo {
        name: name.clone(),
        element: tensor.element(),
        dims: tensor.dims().to_vec(),
    };
    let order = file.graph.inputs.iter().filter_map(|input| given.get_key_value(&input.name));
    Ok(ModelGraph { inputs: order.map(port).collect(), outputs: named, graph })
}

impl Importer<'_> {
    /// Imports the model without running anything: what it came upon, and where its outputs are.
    fn convert(mut self) -> Result<(Findings, Trace)> {
        let imported = self.import();
        match imported {
            Err(error) if !self.findings.unknown || self.is_exhausted() => Err(error),
            _ => Ok((self.findings, self.trace)),
        }
    }
}

fn output_dims(graph: &Graph, name: &str) -> Result<Vec<usize>> {
    let found = graph.outputs().iter().find(|(known, _)| known == name);
    let dims = found.map(|(_, id)| graph.spec(*id).shape.dims().to_vec());
    dims.ok_or_else(|| Error::op("onnx", format!("value {name} was not kept")))
}

/// Fails where the graphs are not the whole model, with the nodes and why.
fn refuse(file: &OnnxFile, findings: &Findings) -> Result<()> {
    let lists = [
        ("is computed on the host", &findings.host_steps),
        ("cannot be computed", &findings.unsupported),
        ("is wrong", &findings.wrong),
        ("depends on these", &findings.unchecked),
    ];
    let lines = lists.into_iter().flat_map(|(what, notes)| {
        notes.iter().map(move |NodeNote { node, operator, reason }| {
            format!("\n  {operator} `{node}` {what}: {reason}")
        })
    });
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return Ok(());
    }
    let path = file.path.display();
    Err(Error::Unsupported(format!("{path} cannot be converted because of these nodes:{}", lines.concat())))
}

/// Zeros for all inputs that a run must give.
fn inputs(file: &OnnxFile, shapes: &InputShapes) -> Result<BTreeMap<String, OnnxTensor>> {
    let required: Vec<&Declared> =
        file.graph.inputs.iter().filter(|input| !file.graph.initializers.contains_key(&input.name)).collect();
    if let Some(name) = shapes.keys().find(|name| required.iter().all(|input| input.name != **name)) {
        let names: Vec<&str> = required.iter().map(|input| input.name.as_str()).collect();
        return Err(Error::Request(format!("there is no input `{name}`; there are {}", names.join(", "))));
    }
    let symbols = symbols(&required, shapes)?;
    let (mut given, mut open) = (BTreeMap::new(), Vec::new());
    for input in required {
        let name = &input.name;
        let dims = match (shapes.get(name), &input.dims) {
            (Some(dims), _) => dims.clone(),
            (None, None) => {
                open.push(name.clone());
                continue;
            }
            (None, Some(dims)) => {
                let mut size = |(axis, dim): (usize, &DeclaredDim)| match dim {
                    DeclaredDim::Size(size) => *size,
                    DeclaredDim::Named(symbol) => {
                        symbols.get(symbol.as_str()).copied().unwrap_or_else(|| {
                            open.push(format!("{name}[{axis}] ({symbol})"));
                            1
                        })
                    }
                    DeclaredDim::Any => {
                        open.push(format!("{name}[{axis}]"));
                        1
                    }
                };
                dims.iter().enumerate().map(&mut size).collect()
            }
        };
        given.insert(name.clone(), zeros(file, input, dims)?);
    }
    if open.is_empty() {
        return Ok(given);
    }
    Err(Error::Request(format!("these sizes are left open, shapes must be given: {}", open.join(", "))))
}

/// The sizes of named dimensions that these shapes tell.
fn symbols<'f>(required: &[&'f Declared], shapes: &InputShapes) -> Result<HashMap<&'f str, usize>> {
    let mut symbols = HashMap::new();
    for input in required {
        let (Some(dims), Some(declared)) = (shapes.get(&input.name), &input.dims) else { continue };
        let name = &input.name;
        let misfit = || Error::Request(format!("input `{name}` is declared as {declared:?}, got {dims:?}"));
        if dims.len() != declared.len() {
            return Err(misfit());
        }
        for (declared, &size) in declared.iter().zip(dims) {
            let fits = match declared {
                DeclaredDim::Size(wanted) => *wanted == size,
                DeclaredDim::Named(symbol) => *symbols.entry(symbol.as_str()).or_insert(size) == size,
                DeclaredDim::Any => true,
            };
            if !fits {
                return Err(misfit());
            }
        }
    }
    Ok(symbols)
}
