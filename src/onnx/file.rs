//! An ONNX file: parsing, limits, tensors in the file and beside it, and its weights as a
//! session reads them.

use super::definition::{Function, Opsets, StoredTensor, Subgraph, attributes, domain};
pub(super) use super::element::elements;
use super::element::{ElementType, OnnxTensor, decode, stored_bytes};
use super::proto;
use super::stored::{Base, Stored};
use crate::graph::{Segment, WeightSource};
use crate::session::WeightRows;
use crate::tensor::{Shape, Spec};
use crate::weights::{Access, FileBytes, RowFormat, read_header};
use crate::{Error, Result};
use prost::Message;
use prost::bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Newest version of the standard's operator set that this crate knows.
pub const NEWEST_OPSET: i64 = 28;

/// Bounds on what a file may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnnxLimits {
    /// Bytes of the model's file, without those of external data.
    pub file_bytes: u64,
    /// Nodes, with functions and loops written out.
    pub nodes: usize,
    /// Elements of any tensor.
    pub elements: usize,
    /// Elements of a tensor that is computed on the host while graphs are built.
    pub host_elements: usize,
    /// The first run with inputs of some shapes, which builds the graphs and runs them.
    pub time: Duration,
}

impl Default for OnnxLimits {
    fn default() -> Self {
        Self {
            file_bytes: 1 << 31,
            nodes: 1_000_000,
            elements: 1 << 31,
            host_elements: 1 << 27,
            time: Duration::from_secs(600),
        }
    }
}

/// A checked model.
#[derive(Debug)]
pub(super) struct OnnxFile {
    pub(super) path: PathBuf,
    pub(super) limits: OnnxLimits,
    pub(super) graph: Arc<Subgraph>,
    /// By domain, name and overload.
    pub(super) functions: HashMap<[String; 3], Arc<Function>>,
    pub(super) opsets: Arc<Opsets>,
    tensors: HashMap<String, Arc<StoredTensor>>,
    derived: Mutex<Derived>,
}

/// What weights of graphs are read from besides the file's own tensors.
#[derive(Debug, Default)]
struct Derived {
    tensors: HashMap<String, Stored>,
    /// What was computed last, with its bytes.
    last: Option<(Arc<Base>, Bytes)>,
}

/// What building the definitions needs.
pub(super) struct Loader<'a> {
    path: &'a Path,
    limits: OnnxLimits,
    /// Folder of external data; none for a model in memory.
    folder: Option<&'a Path>,
    external: HashMap<PathBuf, Bytes>,
    tensors: HashMap<String, Arc<StoredTensor>>,
    nodes: usize,
}

impl OnnxFile {
    /// Maps a file.
    pub(super) fn open(path: &Path, limits: OnnxLimits) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|error| Error::io(path, error))?;
        if metadata.is_dir() {
            return Err(Error::file(path, "is a folder, expected an ONNX file"));
        }
        check_length(path, metadata.len(), limits)?;
        let bytes = Bytes::from_owner(FileBytes::open(path, Access::Map)?);
        Self::parse(path, path.parent(), bytes, limits)
    }

    /// Reads a model from memory; `path` names it in messages.
    pub(super) fn of_bytes(path: &Path, bytes: Vec<u8>, limits: OnnxLimits) -> Result<Self> {
        check_length(path, bytes.len() as u64, limits)?;
        Self::parse(path, None, bytes.into(), limits)
    }

    fn parse(path: &Path, folder: Option<&Path>, bytes: Bytes, limits: OnnxLimits) -> Result<Self> {
        let model = proto::Model::decode(bytes)
            .map_err(|error| Error::file(path, format!("is not an ONNX model: {error}")))?;
        let Some(graph) = model.graph else {
            return Err(Error::file(path, "is not an ONNX model: it has no graph"));
        };
        let (external, tensors) = (HashMap::new(), HashMap::new());
        let mut loader = Loader { path, limits, folder, external, tensors, nodes: 0 };
        let opsets = Arc::new(opsets(model.opset_import, &loader)?);
        if opsets.is_empty() {
            return Err(loader.error("names no operator set"));
        }
        let mut functions = HashMap::new();
        for function in model.functions {
            let names = [domain(&function.domain), &function.name, &function.overload].map(str::to_owned);
            let defaults = attributes(&function.name, function.attribute_proto.clone(), &mut loader)?;
            let opsets = Arc::new(self::opsets(function.opset_import.clone(), &loader)?);
            let body = Arc::new(Subgraph::of_function(function, &mut loader)?);
            functions.insert(names, Arc::new(Function { body, defaults, opsets }));
        }
        let graph = Arc::new(Subgraph::new(graph, &mut loader)?);
        if let Some(name) = graph.captured.first() {
            return Err(loader.error(format!("nothing makes the value `{name}`")));
        }
        let tensors = loader.tensors;
        let derived = Mutex::default();
        Ok(Self { path: path.to_owned(), limits, graph, functions, opsets, tensors, derived })
    }

    /// A tensor by its key.
    pub(super) fn stored(&self, key: &str) -> Option<&StoredTensor> {
        self.tensors.get(key).map(Arc::as_ref)
    }

    /// An error of this file.
    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::file(&self.path, message)
    }
}

fn check_length(path: &Path, length: u64, limits: OnnxLimits) -> Result<()> {
    if length > limits.file_bytes {
        return Err(Error::file(path, format!("has {length} bytes, the limit is {}", limits.file_bytes)));
    }
    Ok(())
}

impl OnnxFile {
    /// The source of a weight, which [`WeightRows`] reads from then on.
    pub(super) fn source(&self, stored: &Stored) -> WeightSource {
        // Of a whole matrix in the other order, the matrix is named.
        let other = (stored.shape.rank() == 2).then(|| stored.permuted(&[1, 0]));
        let transposed = !stored.is_whole() && other.as_ref().is_some_and(Stored::is_whole);
        let named = other.filter(|_| transposed).unwrap_or_else(|| stored.clone());
        let (tensor, shape) = (named.key(), named.shape.clone());
        if !self.tensors.contains_key(&tensor) {
            self.derived().tensors.insert(tensor.clone(), named);
        }
        let (rows, _) = stored.shape.rows_and_cols();
        WeightSource { segments: vec![Segment { tensor, shape, rows: 0..rows }], transposed }
    }

    fn derived(&self) -> MutexGuard<'_, Derived> {
        self.derived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what was computed to be uploaded.
    pub(super) fn release(&self) {
        self.derived().last = None;
    }

    /// Drops the names of what graphs were built of.
    pub(super) fn forget(&self) {
        *self.derived() = Derived::default();
    }

    /// The bytes that a tensor is read from. What is computed is kept until another is wanted: a
    /// weight is uploaded in pieces.
    fn bytes_of(&self, base: &Arc<Base>) -> Result<Bytes> {
        if let Base::File(tensor) = base.as_ref() {
            return Ok(tensor.bytes.clone());
        }
        let mut derived = self.derived();
        match &derived.last {
            Some((last, bytes)) if Arc::ptr_eq(last, base) => return Ok(bytes.clone()),
            _ => derived.last = None,
        }
        let bytes = base.bytes()?;
        derived.last = Some((base.clone(), bytes.clone()));
        Ok(bytes)
    }
}

impl WeightRows for OnnxFile {
    fn rows(&self, source: &WeightSource, spec: &Spec, rows: Range<usize>, pitch: usize) -> Result<Vec<u8>> {
        let [segment] = source.segments.as_slice() else {
            return Err(self.error("weights are put together of one tensor"));
        };
        let stored = match self.tensors.get(&segment.tensor) {
            Some(tensor) => Stored::file(tensor.clone()).reshaped(segment.shape.dims()),
            None => self.derived().tensors.get(&segment.tensor).cloned(),
        };
        let Some(stored) = stored else {
            return Err(self.error(format!("there is no tensor `{}`", segment.tensor)));
        };
        let format = RowFormat { dtype: spec.dtype, pitch, transposed: source.transposed };
        stored.rows(&self.bytes_of(&stored.base)?, rows, format)
    }
}

impl Loader<'_> {
    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::file(self.path, message)
    }

    pub(super) fn count_node(&mut self) -> Result<()> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes {
            return Err(self.error(format!("has more nodes than the limit, {}", self.limits.nodes)));
        }
        Ok(())
    }

    /// Checks a tensor and keeps it under a unique key.
    pub(super) fn tensor(&mut self, name: &str, tensor: proto::Tensor) -> Result<Arc<StoredTensor>> {
        let path = self.path;
        let fail = |message: String| Error::file(path, format!("tensor `{name}`: {message}"));
        let element = ElementType::from_number(tensor.data_type.into())
            .map_err(|error| Error::Unsupported(format!("tensor `{name}`: {error}")))?;
        let shape = shape(&tensor.dims, self.limits.elements).map_err(fail)?;
        let bytes = if tensor.data_location == proto::EXTERNAL {
            self.external(name, &tensor).map_err(|error| match error {
                Error::File { message, .. } => fail(message),
                other => other,
            })?
        } else {
            inline_bytes(element, tensor)
        };
        let (wanted, got) = (stored_bytes(element, shape.elements()), bytes.len());
        if got != wanted {
            return Err(fail(format!("{element}{shape} takes {wanted} bytes, got {got}")));
        }
        let mut key = name.to_owned();
        while self.tensors.contains_key(&key) {
            key = format!("{name}#{}", self.tensors.len());
        }
        let stored = Arc::new(StoredTensor { key: key.clone(), element, shape, bytes });
        self.tensors.insert(key, stored.clone());
        Ok(stored)
    }

    /// The bytes of a tensor in another file of the model's folder.
    fn external(&mut self, name: &str, tensor: &proto::Tensor) -> Result<Bytes> {
        let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key);
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(entry) => entry.value.parse::<usize>().map(Some).map_err(|_| {
                self.error(format!("{key} of its external data is `{}`, expected a number", entry.value))
            }),
        };
        let location = Path::new(entry("location").map_or("", |entry| entry.value.as_str()));
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        let Some(folder) = self.folder else {
            return Err(self.error("its data lies in another file, the model in memory"));
        };
        if location.as_os_str().is_empty() || !location.components().all(inside) {
            let message = format!("its data at `{}` is outside of the model's folder", location.display());
            return Err(self.error(message));
        }
        let path = folder.join(location);
        self.check_links(folder, &path, location)?;
        let (mut offset, mut length) = (number("offset")?, number("length")?);
        let safetensors = path.extension().is_some_and(|ending| ending == "safetensors");
        if safetensors && offset.is_none() {
            let header = read_header(&path)?;
            let Some(found) = header.tensors.iter().find(|found| found.name == name) else {
                return Err(self.error(format!("`{}` has no such tensor", location.display())));
            };
            let range = usize::try_from(found.range.start)
                .and_then(|start| usize::try_from(found.range.end).map(|end| (start, end)));
            let Ok((start, end)) = range else { return Err(self.error("lies beyond this machine's memory")) };
            (offset, length) = (Some(start), Some(end - start));
        }
        let bytes = match self.external.get(&path) {
            Some(bytes) => bytes.clone(),
            None => {
                let bytes = Bytes::from_owner(FileBytes::open(&path, Access::Map)?);
                self.external.insert(path, bytes.clone());
                bytes
            }
        };
        let start = offset.unwrap_or(0);
        let end = length.map_or(Some(bytes.len()), |length| start.checked_add(length));
        match end.filter(|&end| start <= end && end <= bytes.len()) {
            Some(end) => Ok(bytes.slice(start..end)),
            None => Err(self.error(format!(
                "its {length:?} bytes from {start} reach beyond the {} of `{}`",
                bytes.len(),
                location.display()
            ))),
        }
    }
}

impl Loader<'_> {
    /// Fails where a link leads out of the model's folder. Where the model itself is a link, as in
    /// caches that keep contents apart from names, its data may lie beside what it leads to.
    fn check_links(&self, folder: &Path, path: &Path, location: &Path) -> Result<()> {
        let resolved = |path: &Path| path.canonicalize().map_err(|error| Error::io(path, error));
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let target = resolved(path)?;
        let model = resolved(self.path)?;
        let beside = model.parent().is_some_and(|folder| target.parent() == Some(folder));
        if !beside && !target.starts_with(resolved(folder)?) {
            let message = format!("its data at `{}` is outside of the model's folder", location.display());
            return Err(self.error(message));
        }
        let metadata = std::fs::metadata(&target).map_err(|error| Error::io(path, error))?;
        if !metadata.is_file() {
            return Err(self.error(format!("its data at `{}` is no file", path.display())));
        }
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
            let message =
                format!("its data at `{}` is a hard link, whose origin is not known", location.display());
            return Err(self.error(message));
        }
        Ok(())
    }
}

/// Dimensions of a file as a shape of at most `limit` elements.
fn shape(dims: &[i64], limit: usize) -> Result<Shape, String> {
    let mut sizes = Vec::with_capacity(dims.len());
    for &dim in dims {
        sizes.push(usize::try_from(dim).map_err(|_| format!("has a dimension of size {dim}"))?);
    }
    match elements(&sizes).filter(|&elements| elements <= limit) {
        Some(_) => Ok(sizes.into()),
        None => Err(format!("has the shape {dims:?}, the limit is {limit} elements")),
    }
}

/// The data of a tensor that lies in the model's file, as raw data would be.
fn inline_bytes(element: ElementType, tensor: proto::Tensor) -> Bytes {
    fn pack<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Bytes {
        values.iter().flat_map(|&value| bytes(value)).collect::<Vec<u8>>().into()
    }
    if !tensor.raw_data.is_empty() {
        return tensor.raw_data;
    }
    match element {
        ElementType::Float => tensor.float_data.into_bytes(),
        ElementType::Double => tensor.double_data.into_bytes(),
        ElementType::Int64 => pack(&tensor.int64_data, i64::to_le_bytes),
        ElementType::Uint64 => pack(&tensor.uint64_data, u64::to_le_bytes),
        ElementType::Uint32 => pack(&tensor.uint64_data, |value| (value as u32).to_le_bytes()),
        _ => match element.bits() {
            32 => pack(&tensor.int32_data, i32::to_le_bytes),
            16 => pack(&tensor.int32_data, |value| (value as u16).to_le_bytes()),
            _ => pack(&tensor.int32_data, |value| [value as u8]),
        },
    }
}

fn opsets(imports: Vec<proto::OperatorSet>, loader: &Loader<'_>) -> Result<Opsets> {
    let mut opsets = BTreeMap::new();
    for import in imports {
        let name = domain(&import.domain);
        if name.is_empty() && !(1..=NEWEST_OPSET).contains(&import.version) {
            let message =
                format!("is of operator set {}, this version knows 1 to {NEWEST_OPSET}", import.version);
            return Err(loader.error(message));
        }
        opsets.insert(name.to_owned(), import.version);
    }
    Ok(opsets)
}

/// Reads a tensor that is stored by itself, as the inputs and outputs of test cases are.
///
/// # Errors
/// [`Error::File`] that names `path`, or [`Error::Unsupported`].
pub fn read_tensor(path: &Path, bytes: Vec<u8>) -> Result<(String, OnnxTensor)> {
    let tensor = proto::Tensor::decode(Bytes::from(bytes))
        .map_err(|error| Error::file(path, format!("is not an ONNX tensor: {error}")))?;
    let name = tensor.name.clone();
    let limits = OnnxLimits::default();
    let (external, tensors) = (HashMap::new(), HashMap::new());
    let mut loader = Loader { path, limits, folder: None, external, tensors, nodes: 0 };
    let stored = loader.tensor(&name, tensor)?;
    let tensor =
        decode(stored.element, &stored.shape, &stored.bytes).map_err(|message| Error::file(path, message))?;
    Ok((name, OnnxTensor::of_host(stored.element, tensor)))
}
