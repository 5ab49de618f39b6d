//! The header of a safetensors file: which tensors it holds, and where.
//!
//! A file is eight bytes with the length of the header, the header as JSON, and the data. The
//! safetensors crate has the last word on a header; the checks here come first because they
//! say which tensor is wrong, with what was expected and got. Format:
//! <https://github.com/huggingface/safetensors#format>.

use crate::tensor::{DType, Spec};
use crate::{Error, Result};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, IntoDeserializer, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The largest header that the format allows, in bytes.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Bytes before the header: its length.
const LENGTH_BYTES: u64 = 8;
/// More dimensions than any published tensor has.
const MAX_RANK: usize = 16;

/// What a safetensors file says about a tensor.
#[derive(Debug, Clone)]
pub struct TensorHeader {
    /// Name.
    pub name: String,
    /// Dtype as the file names it, for example "BF16" or "F8_E4M3".
    pub dtype_name: String,
    /// Sizes of the dimensions.
    pub dims: Vec<usize>,
    /// Dtype and shape, where this crate reads the dtype.
    pub spec: Option<Spec>,
    /// Where the data lies, in bytes from the start of the file.
    pub range: Range<u64>,
}

impl TensorHeader {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.dims.iter().map(|&dim| dim as u64).product()
    }
}

/// A checked header.
#[derive(Debug, Clone)]
pub struct Header {
    /// The file.
    pub path: PathBuf,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// The tensors, in the order of their data.
    pub tensors: Vec<TensorHeader>,
    /// The free text of `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

/// Reads the header of one safetensors file, and nothing of its data.
///
/// # Errors
/// [`Error::File`] with the field that is wrong, with expected and got; [`Error::Io`].
pub fn read_header(path: &Path) -> Result<Header> {
    let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
    read_header_of(path, &mut file)
}

/// Reads the header of an open file.
pub(super) fn read_header_of(path: &Path, file: &mut File) -> Result<Header> {
    let io = |error| Error::io(path, error);
    let metadata = file.metadata().map_err(io)?;
    if metadata.is_dir() {
        return Err(Error::file(path, "is a folder, expected a safetensors file"));
    }
    let file_bytes = metadata.len();
    if file_bytes < LENGTH_BYTES {
        let message =
            format!("has {file_bytes} bytes, expected at least {LENGTH_BYTES} for a safetensors header");
        return Err(Error::file(path, message));
    }
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(io)?;
    let header_bytes = check_header_length(path, length, file_bytes)?;
    let mut text = vec![0; header_bytes];
    file.read_exact(&mut text).map_err(io)?;
    parse(path, &text, file_bytes)
}

fn check_header_length(path: &Path, length: [u8; 8], file_bytes: u64) -> Result<usize> {
    let header_bytes = u64::from_le_bytes(length);
    let limit = MAX_HEADER_BYTES.min(file_bytes - LENGTH_BYTES);
    if header_bytes <= limit {
        return Ok(usize::try_from(header_bytes).expect("100 MB fit in memory"));
    }
    Err(if length.starts_with(b"PK\x03\x04") || (length[0] == 0x80 && (2..=5).contains(&length[1])) {
        pickle(path)
    } else if length.starts_with(b"GGUF") {
        Error::file(path, "is a GGUF file, expected safetensors")
    } else if header_bytes > MAX_HEADER_BYTES {
        let expected = format!("expected at most {MAX_HEADER_BYTES}");
        Error::file(
            path,
            format!("header length is {header_bytes} bytes, {expected} (not a safetensors file?)"),
        )
    } else {
        let got = format!("the file has {limit} bytes after the length (truncated?)");
        Error::file(path, format!("header length is {header_bytes} bytes, {got}"))
    })
}

/// The refusal of a pickle.
pub(super) fn pickle(path: &Path) -> Error {
    Error::file(
        path,
        "pickle weights are not read, because unpickling can run any code; convert them once in a place that \
         you trust: state = torch.load(\"pytorch_model.bin\", weights_only=True), then \
         safetensors.torch.save_file(state, \"model.safetensors\")",
    )
}

/// Parses and checks a header.
pub(super) fn parse(path: &Path, text: &[u8], file_bytes: u64) -> Result<Header> {
    let raw: RawHeader = serde_json::from_slice(text)
        .map_err(|error| Error::file(path, format!("safetensors header: {error}")))?;
    let data_start = LENGTH_BYTES + text.len() as u64;
    let data_bytes = file_bytes - data_start;
    let mut infos = Vec::with_capacity(raw.tensors.len());
    for (name, tensor) in raw.tensors {
        let info = check_tensor(&name, tensor, data_bytes)
            .map_err(|message| Error::file(path, format!("tensor `{name}`: {message}")))?;
        infos.push((name, info));
    }
    infos.sort_by(|(a_name, a), (b_name, b)| (a.data_offsets, a_name).cmp(&(b.data_offsets, b_name)));
    check_coverage(&infos, data_bytes).map_err(|message| Error::file(path, message))?;
    Metadata::new(None, infos.clone())
        .map_err(|error| Error::file(path, format!("safetensors header: {error}")))?;
    let tensors = infos.into_iter().map(|(name, info)| tensor_header(name, info, data_start)).collect();
    Ok(Header { path: path.to_owned(), file_bytes, tensors, metadata: raw.metadata })
}

fn tensor_header(name: String, info: TensorInfo, data_start: u64) -> TensorHeader {
    let (begin, end) = info.data_offsets;
    TensorHeader {
        name,
        dtype_name: info.dtype.to_string(),
        spec: readable(info.dtype).map(|dtype| Spec::new(dtype, info.shape.clone())),
        dims: info.shape,
        range: data_start + begin as u64..data_start + end as u64,
    }
}

/// Our dtype of a file's dtype, if there is one.
fn readable(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F64 => DType::F64,
        Dtype::I32 => DType::I32,
        Dtype::U32 => DType::U32,
        Dtype::I64 => DType::I64,
        Dtype::U8 => DType::U8,
        _ => return None,
    })
}

/// Names of the dtypes that are read, for messages.
pub(super) const READABLE: &str = "F32, F16, BF16, F64, I32, U32, I64 or U8";

/// Checks dtype, dimensions and offsets of a tensor against each other and the file.
fn check_tensor(name: &str, raw: RawTensor, data_bytes: u64) -> Result<TensorInfo, String> {
    if name.is_empty() {
        return Err("has no name".to_owned());
    }
    let dtype = Dtype::deserialize(raw.dtype.as_str().into_deserializer()).map_err(
        |_: serde::de::value::Error| format!("unknown dtype {:?}, expected {READABLE}", raw.dtype),
    )?;
    if raw.shape.len() > MAX_RANK {
        return Err(format!("has {} dimensions, expected at most {MAX_RANK}", raw.shape.len()));
    }
    let [begin, end] = raw.data_offsets;
    if begin > end || end > data_bytes {
        let outside = "do not lie inside the data of";
        return Err(format!("data_offsets {begin}..{end} {outside} {data_bytes} bytes (truncated file?)"));
    }
    // Saturation keeps an overflow far above every possible size.
    let elements = raw.shape.iter().fold(1_u128, |product, &dim| product.saturating_mul(dim.into()));
    let bits = elements.saturating_mul(dtype.bitsize() as u128);
    if bits != u128::from(end - begin) * 8 {
        let want = bits.div_ceil(8);
        let got = end - begin;
        return Err(format!(
            "{dtype} {:?} needs {want} bytes, data_offsets {begin}..{end} hold {got}",
            raw.shape
        ));
    }
    let size = |value: u64| usize::try_from(value).map_err(|_| format!("{value} does not fit this platform"));
    let shape: Vec<usize> = raw.shape.iter().map(|&dim| size(dim)).collect::<Result<_, _>>()?;
    // A zero among the dimensions hides the others from the comparison above.
    if shape
        .iter()
        .filter(|&&dim| dim > 0)
        .try_fold(8_usize, |product, &dim| product.checked_mul(dim))
        .is_none()
    {
        return Err(format!("dimensions {:?} overflow", raw.shape));
    }
    Ok(TensorInfo { dtype, shape, data_offsets: (size(begin)?, size(end)?) })
}

/// Checks that the tensors, sorted by offset, cover the data without overlap and hole.
fn check_coverage(infos: &[(String, TensorInfo)], data_bytes: u64) -> Result<(), String> {
    let mut covered = 0;
    let mut previous = "";
    for (name, info) in infos {
        let (begin, end) = info.data_offsets;
        if begin < covered {
            return Err(format!(
                "tensors `{previous}` and `{name}` overlap: `{name}` begins at byte {begin}, expected {covered}"
            ));
        }
        if begin > covered {
            return Err(format!(
                "hole in the data: bytes {covered}..{begin} before tensor `{name}` belong to no tensor"
            ));
        }
        (covered, previous) = (end, name);
    }
    if covered as u64 != data_bytes {
        return Err(format!(
            "the tensors end at byte {covered} of the data, the file has {data_bytes} bytes of data"
        ));
    }
    Ok(())
}

/// The header as it stands in the file.
struct RawHeader {
    tensors: Vec<(String, RawTensor)>,
    metadata: BTreeMap<String, String>,
}

#[derive(serde::Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawHeaderVisitor)
    }
}

struct RawHeaderVisitor;

impl<'de> Visitor<'de> for RawHeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader { tensors: Vec::new(), metadata: BTreeMap::new() };
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let in_field = |error| A::Error::custom(format_args!("`{name}`: {error}"));
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("`{name}` occurs twice")));
            }
            if name == "__metadata__" {
                header.metadata = map.next_value::<Option<_>>().map_err(in_field)?.unwrap_or_default();
            } else {
                let tensor = map.next_value().map_err(in_field)?;
                header.tensors.push((name, tensor));
            }
        }
        Ok(header)
    }
}

/// A JSON object whose keys must differ.
pub(super) struct UniqueMap(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for UniqueMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueMapVisitor)
    }
}

struct UniqueMapVisitor;

impl<'de> Visitor<'de> for UniqueMapVisitor {
    type Value = UniqueMap;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMap, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if let Some(previous) = entries.insert(key.clone(), value) {
                return Err(A::Error::custom(format_args!("`{key}` occurs twice, first as {previous:?}")));
            }
        }
        Ok(UniqueMap(entries))
    }
}
