//! Writing a converted model.

use super::format::{CONTENT_KEY, FORMAT, Origin, SavedFile, SavedGraph, SavedNode, SavedOutput, SavedValue};
use super::format::{VERSION, ValueOrigin};
use super::read::read;
use super::{ModelGraph, Output, SavedFiles};
use crate::graph::{Graph, Node, Segment, Source, ValueId, WeightSource};
use crate::ops::write_op;
use crate::tensor::{DType, Spec, Tensor};
use crate::weights::read_header;
use crate::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensorError, View, serialize_to_file};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// A tensor to be written.
#[derive(Debug, Clone)]
pub(crate) struct TensorBytes<'a> {
    pub(crate) spec: Spec,
    pub(crate) bytes: Cow<'a, [u8]>,
}

impl View for &TensorBytes<'_> {
    fn dtype(&self) -> Dtype {
        match self.spec.dtype {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::I32 => Dtype::I32,
            DType::U32 => Dtype::U32,
            DType::F64 => Dtype::F64,
            DType::I64 => Dtype::I64,
            DType::U8 => Dtype::U8,
        }
    }

    fn shape(&self) -> &[usize] {
        self.spec.shape.dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Collects graphs and the tensors that they read, then writes both files.
#[derive(Debug, Default)]
pub(crate) struct Writer<'a> {
    tensors: BTreeMap<String, TensorBytes<'a>>,
    graphs: Vec<SavedGraph>,
}

/// Reads the tensor that a weight of some dtype is a part of.
pub(crate) type Originals<'a, 'b> = dyn Fn(&Segment, DType) -> Result<TensorBytes<'a>> + 'b;

impl<'a> Writer<'a> {
    /// Adds a graph; what no output needs is left out.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when it holds what cannot be stored.
    pub(crate) fn add(&mut self, model: &ModelGraph, originals: &Originals<'a, '_>) -> Result<()> {
        let graph = &model.graph;
        let (needed, nodes) = needed(model)?;
        let (mut numbers, mut values) = (HashMap::new(), Vec::new());
        for (id, value) in graph.values().filter(|(id, _)| needed.contains(id)) {
            let from = match &value.source {
                Source::Input => ValueOrigin::Input(value.name.clone()),
                Source::Node => ValueOrigin::Node,
                Source::Constant(tensor) => ValueOrigin::Constant(self.constant(tensor)?),
                Source::Weight(source) => self.weight(source, &value.spec, originals)?,
                Source::Prepared(_) | Source::State => {
                    return Err(Error::Unsupported(format!("storing the value {value:?}")));
                }
            };
            numbers.insert(id, values.len());
            let dims = value.spec.shape.dims().to_vec();
            values.push(SavedValue { dtype: value.spec.dtype, dims, from });
        }
        let list = |ids: &[ValueId]| ids.iter().map(|id| numbers[id]).collect::<Vec<_>>();
        let node = |node: &Node| {
            let (op, inputs, outputs) = (node.op.name(), list(&node.inputs), list(&node.outputs));
            let name = node.name.strip_suffix(op).unwrap_or(&node.name);
            let name = name.strip_suffix('.').unwrap_or(name).to_owned();
            let attributes = write_op(node.op.as_ref())?;
            Ok(SavedNode { name, op: op.to_owned(), attributes, inputs, outputs })
        };
        let nodes = nodes.into_iter().map(node).collect::<Result<_>>()?;
        let mut outputs = Vec::with_capacity(model.outputs.len());
        for (port, output) in &model.outputs {
            let from = match output {
                Output::Graph(name) => Origin::Value(numbers[&output_of(graph, name)?]),
                Output::Input(name) => Origin::Input(name.clone()),
                Output::Known(tensor) => Origin::Tensor(self.constant(tensor)?),
            };
            outputs.push(SavedOutput { port: port.clone(), from });
        }
        self.graphs.push(SavedGraph { inputs: model.inputs.clone(), outputs, values, nodes });
        Ok(())
    }

    /// Adds a constant under a name that tells its content; returns the name.
    fn constant(&mut self, tensor: &Tensor) -> Result<String> {
        let hash = |seed: u64| {
            let mut hasher = DefaultHasher::new();
            (seed, tensor.spec(), tensor.bytes()).hash(&mut hasher);
            hasher.finish()
        };
        let name = format!("constant.{:016x}{:016x}", hash(0), hash(1));
        let bytes = || Cow::Owned(tensor.bytes().to_vec());
        self.tensor(&name, || Ok(TensorBytes { spec: tensor.spec().clone(), bytes: bytes() }))?;
        Ok(name)
    }

    /// Adds the tensor of a weight of this spec.
    fn weight(
        &mut self,
        source: &WeightSource,
        spec: &Spec,
        originals: &Originals<'a, '_>,
    ) -> Result<ValueOrigin> {
        let unsupported = || Error::Unsupported(format!("storing the weight {spec} of {source:?}"));
        let [segment] = source.segments.as_slice() else { return Err(unsupported()) };
        let (rows, cols) = spec.shape.rows_and_cols();
        let fits = match (source.transposed, segment.shape.dims()) {
            (true, dims) => *dims == [cols, rows],
            (false, _) => segment.shape.rows_and_cols() == (rows, cols),
        };
        if segment.rows != (0..rows) || !fits {
            return Err(unsupported());
        }
        self.tensor(&segment.tensor, || originals(segment, spec.dtype))?;
        Ok(ValueOrigin::Weight { tensor: segment.tensor.clone(), transposed: source.transposed })
    }

    fn tensor(&mut self, name: &str, find: impl FnOnce() -> Result<TensorBytes<'a>>) -> Result<()> {
        if name.is_empty() || name == "__metadata__" {
            return Err(Error::Unsupported(format!("storing a tensor of the name `{name}`")));
        }
        if !self.tensors.contains_key(name) {
            let found = find()?;
            self.tensors.insert(name.to_owned(), found);
        }
        Ok(())
    }

    /// Names of the tensors so far, and their bytes.
    pub(crate) fn tensors(&self) -> (usize, u64) {
        (self.tensors.len(), self.tensors.values().map(|tensor| tensor.bytes.len() as u64).sum())
    }

    /// Writes both files, reads them again to check them, and puts them in place.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::File`] when a file of the name is there already that is no
    /// converted model.
    pub(crate) fn write(self, files: &SavedFiles, opsets: BTreeMap<String, i64>) -> Result<()> {
        check_replaceable(files)?;
        let graphs = serde_json::to_string(&self.graphs)
            .map_err(|error| Error::Unsupported(format!("storing these graphs: {error}")))?;
        let mut hasher = DefaultHasher::new();
        graphs.hash(&mut hasher);
        for (name, tensor) in &self.tensors {
            (name, &tensor.spec, &tensor.bytes).hash(&mut hasher);
        }
        let content = format!("{:016x}", hasher.finish());
        let parts = SavedFiles { graph: part(&files.graph), tensors: part(&files.tensors) };
        let file = SavedFile {
            format: FORMAT.to_owned(),
            version: VERSION,
            producer: concat!("wginfer ", env!("CARGO_PKG_VERSION")).to_owned(),
            opsets,
            content,
            graphs: self.graphs,
        };
        let written = write_parts(&parts, &file, &self.tensors).and_then(|()| read(&parts).map(drop));
        let moved = written.and_then(|()| {
            let rename =
                |from: &Path, to: &Path| std::fs::rename(from, to).map_err(|error| Error::io(to, error));
            rename(&parts.tensors, &files.tensors)?;
            rename(&parts.graph, &files.graph)
        });
        if moved.is_err() {
            // What is left of a conversion that failed is of no use; the first error counts.
            for file in [&parts.tensors, &parts.graph] {
                let _ = std::fs::remove_file(file);
            }
        }
        moved
    }
}

/// A file that is being written.
fn part(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

/// Fails where a file that is no converted model would be replaced: the weights of another model.
fn check_replaceable(files: &SavedFiles) -> Result<()> {
    let is_ours =
        || read_header(&files.tensors).is_ok_and(|header| header.metadata.contains_key(CONTENT_KEY));
    if files.tensors.exists() && !is_ours() {
        let message = "is there already and is no converted model: it is not replaced";
        return Err(Error::file(&files.tensors, message));
    }
    Ok(())
}

fn write_parts(
    files: &SavedFiles,
    file: &SavedFile,
    tensors: &BTreeMap<String, TensorBytes<'_>>,
) -> Result<()> {
    let metadata = HashMap::from([
        ("format".to_owned(), FORMAT.to_owned()),
        (CONTENT_KEY.to_owned(), file.content.clone()),
    ]);
    serialize_to_file(tensors, Some(metadata), &files.tensors).map_err(|error| match error {
        SafeTensorError::IoError(error) => Error::io(&files.tensors, error),
        other => Error::file(&files.tensors, other.to_string()),
    })?;
    let text = serde_json::to_vec(file).map_err(|error| Error::file(&files.graph, error.to_string()))?;
    let written = std::fs::write(&files.graph, text).and_then(|()| std::fs::metadata(&files.graph));
    let permissions = written.map_err(|error| Error::io(&files.graph, error))?.permissions();
    // The safetensors crate makes files that nobody else can read.
    std::fs::set_permissions(&files.tensors, permissions).map_err(|error| Error::io(&files.tensors, error))
}

fn output_of(graph: &Graph, name: &str) -> Result<ValueId> {
    let found = graph.outputs().iter().find(|(known, _)| known == name);
    found.map(|(_, id)| *id).ok_or_else(|| Error::op("graph", format!("there is no output `{name}`")))
}

/// The values and nodes that outputs of the model need.
fn needed(model: &ModelGraph) -> Result<(HashSet<ValueId>, Vec<&Node>)> {
    let mut values = HashSet::new();
    for (_, output) in &model.outputs {
        if let Output::Graph(name) = output {
            values.insert(output_of(&model.graph, name)?);
        }
    }
    let mut nodes = Vec::new();
    for node in model.graph.nodes().iter().rev() {
        if node.outputs.iter().any(|id| values.contains(id)) {
            values.extend(node.inputs.iter().chain(&node.outputs));
            nodes.push(node);
        }
    }
    nodes.reverse();
    Ok((values, nodes))
}
