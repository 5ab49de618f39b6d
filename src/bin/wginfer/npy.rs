//! Arrays as NumPy files and archives of them
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

use std::io::Read;
use std::path::Path;
use wginfer::onnx::{ElementType, OnnxTensor};
use wginfer::tensor::Tensor;
use wginfer::{Error, Result};

/// Most bytes of an array.
const MOST_BYTES: u64 = 1 << 32;

/// Element types as NumPy writes them: those of this machine's byte order.
const TYPES: [(&str, ElementType); 12] = [
    ("<f4", ElementType::Float),
    ("<f8", ElementType::Double),
    ("<f2", ElementType::Float16),
    ("<i8", ElementType::Int64),
    ("<i4", ElementType::Int32),
    ("<i2", ElementType::Int16),
    ("|i1", ElementType::Int8),
    ("|u1", ElementType::Uint8),
    ("<u2", ElementType::Uint16),
    ("<u4", ElementType::Uint32),
    ("<u8", ElementType::Uint64),
    ("|b1", ElementType::Bool),
];

/// The bytes of a NumPy file, version 1.0, with elements of a type ("<f4") as they lie in memory.
fn file(descr: &str, dims: &[usize], data: &[u8]) -> Vec<u8> {
    let sizes: Vec<String> = dims.iter().map(|size| format!("{size},")).collect();
    let sizes =
        if dims.len() > 1 { sizes.join(" ").trim_end_matches(',').to_owned() } else { sizes.join("") };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    // The data begin at a multiple of 64: magic, version and length are 10 bytes.
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let length = u16::try_from(header.len()).expect("a header of a few numbers is short");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// The bytes of a NumPy file with rows of f32 numbers.
pub(crate) fn rows(cols: usize, rows: &[Vec<f32>]) -> Vec<u8> {
    let data: Vec<u8> = rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    file("<f4", &[rows.len(), cols], &data)
}

/// The bytes of a NumPy file with a tensor. Types that NumPy lacks are written as the next wider.
pub(crate) fn write(tensor: &OnnxTensor) -> Result<Vec<u8>> {
    let element = match tensor.element() {
        ElementType::Bfloat16 => ElementType::Float,
        ElementType::Int4 => ElementType::Int8,
        ElementType::Uint4 => ElementType::Uint8,
        other => other,
    };
    let tensor = OnnxTensor::new(element, tensor.tensor())?;
    let found = TYPES.iter().find(|(_, known)| *known == element);
    let (descr, _) = found.expect("every other element type has a NumPy type");
    Ok(file(descr, tensor.dims(), &tensor.to_bytes()))
}

/// Reads a tensor of a NumPy file.
pub(crate) fn read(path: &Path) -> Result<OnnxTensor> {
    let file = std::fs::File::open(path).map_err(|error| Error::io(path, error))?;
    let bytes = bounded(path, file)?;
    parse(&bytes).map_err(|message| Error::file(path, message))
}

fn bounded(path: &Path, source: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| Error::io(path, error))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Error::file(path, format!("has an array of more than {MOST_BYTES} bytes")));
    }
    Ok(bytes)
}

/// What stands after a key of the header, a Python dictionary.
fn entry<'a>(header: &'a str, key: &str) -> Result<&'a str, String> {
    let (_, rest) = header.split_once(&format!("'{key}':")).ok_or_else(|| format!("has no `{key}`"))?;
    Ok(rest.trim_start())
}

/// A tensor from the bytes of a NumPy file.
fn parse(bytes: &[u8]) -> Result<OnnxTensor, String> {
    let short = || "is cut off".to_owned();
    let Some(rest) = bytes.strip_prefix(b"\x93NUMPY") else { return Err("is not a NumPy file".into()) };
    let ([version, _], rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let (length, rest) = if *version == 1 {
        let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
        (usize::from(u16::from_le_bytes(*length)), rest)
    } else {
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        (u32::from_le_bytes(*length) as usize, rest)
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(short)?;
    let header = std::str::from_utf8(header).map_err(|_| "has a header that is not UTF-8".to_owned())?;
    let descr = entry(header, "descr")?;
    let known = TYPES.iter().find(|(name, _)| descr.starts_with(&format!("'{name}'")));
    let Some((_, element)) = known else {
        let types: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
        let got = descr.split(['\'', '"']).nth(1).unwrap_or("that is no name");
        return Err(format!("has elements of type {got}, expected one of {}", types.join(", ")));
    };
    let sizes = entry(header, "shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    let sizes =
        sizes.map_or("", |(sizes, _)| sizes).split(',').map(str::trim).filter(|size| !size.is_empty());
    let dims: Option<Vec<usize>> = sizes.map(|size| size.parse().ok()).collect();
    let dims = dims.ok_or("has a shape that is no numbers")?;
    if entry(header, "fortran_order")?.starts_with("True") && dims.len() > 1 {
        return Err("is in Fortran order; numpy.ascontiguousarray changes that before saving".into());
    }
    OnnxTensor::from_bytes(*element, dims, data).map_err(|error| error.to_string())
}

/// Arrays by name: an .npz archive.
#[derive(Debug)]
pub(crate) struct Archive {
    path: std::path::PathBuf,
    zip: zip::ZipArchive<std::fs::File>,
}

impl Archive {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|error| Error::io(path, error))?;
        let zip = zip::ZipArchive::new(file)
            .map_err(|error| Error::file(path, format!("is not an .npz archive: {error}")))?;
        Ok(Self { path: path.to_owned(), zip })
    }

    /// The first array of these names.
    pub(crate) fn find(&mut self, names: &[String]) -> Result<Option<OnnxTensor>> {
        let present = |name: &&String| self.zip.index_for_name(&format!("{name}.npy")).is_some();
        let Some(name) = names.iter().find(present) else { return Ok(None) };
        let fail = |message: String| Error::file(&self.path, format!("array `{name}`: {message}"));
        let entry = self.zip.by_name(&format!("{name}.npy")).map_err(|error| fail(error.to_string()))?;
        let bytes = bounded(&self.path, entry)?;
        parse(&bytes).map(Some).map_err(fail)
    }

    /// The array that stands for an output of a case.
    pub(crate) fn output(&mut self, name: &str, case: &str) -> Result<Option<OnnxTensor>> {
        self.find(&[format!("{case}.out.{name}"), format!("out.{name}"), name.to_owned()])
    }

    /// Names of all arrays.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = (0..self.zip.len()).filter_map(|index| self.zip.name_for_index(index)?.ok());
        names.filter_map(|name| Some(name.strip_suffix(".npy")?.to_owned())).collect()
    }
}

/// A tensor in the element type that is wanted: integers must fit, floats are rounded; floats are
/// no integers.
pub(crate) fn converted(tensor: OnnxTensor, wanted: Option<ElementType>) -> Result<OnnxTensor, String> {
    match wanted {
        Some(wanted) if wanted.is_float() != tensor.element().is_float() => {
            Err(format!("expected {wanted}, got {tensor}"))
        }
        Some(wanted) if wanted != tensor.element() => {
            OnnxTensor::new(wanted, tensor.tensor()).map_err(|error| error.to_string())
        }
        _ => Ok(tensor),
    }
}

/// Smallest, largest and mean value, for a summary.
pub(crate) fn range(tensor: &Tensor) -> Option<[f64; 3]> {
    let values = tensor.to_f64();
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (!values.is_empty()).then_some([low, high, mean])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_the_shape() {
        let bytes = rows(2, &[vec![1.0, 2.0], vec![3.0, f32::NAN], vec![5.0, 6.0]]);
        assert_eq!(bytes.len(), 128 + 3 * 2 * 4);
        let header = std::str::from_utf8(&bytes[10..128]).unwrap();
        assert!(header.contains("'shape': (3, 2)") && header.ends_with('\n'), "{header}");
        assert_eq!(bytes[8..10], 118_u16.to_le_bytes());
        assert_eq!(bytes[132..136], 2.0_f32.to_le_bytes());
    }

    #[test]
    fn what_is_written_is_read() {
        for dims in [vec![], vec![3], vec![2, 0], vec![1, 3, 1]] {
            let count = dims.iter().product::<usize>();
            let values: Vec<i64> = (0..count as i64).map(|value| value & 1).collect();
            let integers = Tensor::from_i64(dims, &values);
            for (_, element) in TYPES {
                let tensor = OnnxTensor::new(element, &integers).unwrap();
                assert_eq!(parse(&write(&tensor).unwrap()).unwrap(), tensor);
            }
        }
    }

    #[test]
    fn broken_files_are_refused() {
        let good = rows(2, &[vec![1.0, 2.0]]);
        for length in 0..good.len() {
            assert!(parse(&good[..length]).is_err(), "{length}");
        }
        let table = [("'<f4'", "'>f4'", ">f4"), ("(1, 2)", "(1, x)", "shape"), ("False", "True ", "Fortran")];
        for (from, to, part) in table {
            let text: Vec<u8> = String::from_utf8_lossy(&good[10..118]).replace(from, to).into_bytes();
            let bytes = [&good[..10], &text, &good[118..]].concat();
            let message = parse(&bytes).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
        assert!(parse(b"PK").unwrap_err().contains("NumPy"));
    }
}
