//! Inputs of an ONNX model from the command line: files, archives, random numbers of a shape.

use crate::failure::Failure;
use crate::npy::{self, Archive};
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wginfer::onnx::{DeclaredDim, ElementType, OnnxTensor, OnnxValueInfo};
use wginfer::saved::PortInfo;
use wginfer::tensor::Tensor;

/// Most elements of a random input.
const MOST_ELEMENTS: usize = 1 << 30;

/// Where inputs come from.
#[derive(Debug, Args)]
pub(crate) struct InputFlags {
    /// An input from a NumPy file, or all that an .npz archive has (may be given several times)
    #[arg(long, value_name = "NAME=FILE.npy|FILE.npz", value_parser = parse_input)]
    input: Vec<InputFile>,
    /// An input of random numbers: floats from 0 to 1, integers 0 or 1 (may be given several times)
    #[arg(long, value_name = "NAME=1x3x224x224", value_parser = parse_shape)]
    shape: Vec<(String, Vec<usize>)>,
    /// Seed of the random numbers
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
}

impl InputFlags {
    /// Random inputs of these shapes, and of those that the model declares.
    pub(crate) fn of_shapes(shape: Vec<(String, Vec<usize>)>) -> Self {
        Self { input: Vec::new(), shape, seed: 0 }
    }
}

/// A file of inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InputFile {
    /// None for an archive, whose arrays have names.
    name: Option<String>,
    file: PathBuf,
}

fn parse_input(text: &str) -> Result<InputFile, String> {
    let is_archive = |file: &str| Path::new(file).extension().is_some_and(|ending| ending == "npz");
    match text.rsplit_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() && !is_archive(file) => {
            Ok(InputFile { name: Some(name.to_owned()), file: file.into() })
        }
        _ if is_archive(text) => Ok(InputFile { name: None, file: text.into() }),
        _ => Err("expected NAME=FILE.npy or FILE.npz".into()),
    }
}

/// Reads "NAME=1x3x224x224"; "NAME=" is one number.
pub(crate) fn parse_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let expected = || "expected NAME=1x3x224x224".to_owned();
    let (name, sizes) = text.rsplit_once('=').ok_or_else(expected)?;
    if name.is_empty() {
        return Err(expected());
    }
    let sizes = sizes.split('x').filter(|size| !sizes.is_empty() || !size.is_empty());
    let dims: Option<Vec<usize>> = sizes.map(|size| size.parse().ok()).collect();
    Ok((name.to_owned(), dims.ok_or_else(expected)?))
}

/// The inputs of a model in its order. Those that nothing gives are random if the others fit one of
/// `graphs`, the inputs that a converted model has; all that are missing are named at once.
pub(crate) fn collect(
    wanted: &[OnnxValueInfo],
    graphs: &[&[PortInfo]],
    flags: &InputFlags,
    case: &str,
) -> Result<Vec<(String, OnnxTensor)>, Failure> {
    let mut found = given(wanted, flags, case)?;
    let mut seed = flags.seed;
    let fits = |port: &PortInfo| found.get(&port.name).is_none_or(|tensor| tensor.dims() == port.dims);
    let graph = graphs.iter().find(|graph| graph.iter().all(fits)).copied().unwrap_or_default();
    for PortInfo { name, element, dims } in graph {
        if !found.contains_key(name) {
            let tensor = random(*element, dims, &mut seed).map_err(Failure::Other)?;
            found.insert(name.clone(), tensor);
        }
    }
    in_order(wanted, found)
}

/// The inputs of a model in its order; that are not given are random numbers where the file declares their sizes.
pub(crate) fn collect_or_random(
    wanted: &[OnnxValueInfo],
    flags: &InputFlags,
    case: &str,
) -> Result<Vec<(String, OnnxTensor)>, Failure> {
    let mut found = given(wanted, flags, case)?;
    let mut seed = flags.seed;
    for input in wanted.iter().filter(|input| !found.contains_key(&input.name)).collect::<Vec<_>>() {
        if let Some(dims) = declared_sizes(input) {
            found.insert(input.name.clone(), random_input(input, &dims, &mut seed)?);
        }
    }
    in_order(wanted, found)
}

/// The sizes that the file declares, if it declares all.
fn declared_sizes(input: &OnnxValueInfo) -> Option<Vec<usize>> {
    let size = |dim: &DeclaredDim| match dim {
        DeclaredDim::Size(size) => Some(*size),
        DeclaredDim::Named(_) | DeclaredDim::Any => None,
    };
    input.dims.as_ref()?.iter().map(size).collect()
}

fn random_input(input: &OnnxValueInfo, dims: &[usize], seed: &mut u64) -> Result<OnnxTensor, Failure> {
    random(input.element.unwrap_or(ElementType::Float), dims, seed)
        .map_err(|message| Failure::Other(format!("input `{}`: {message}", input.name)))
}

/// The inputs that the command line gives.
fn given(
    wanted: &[OnnxValueInfo],
    flags: &InputFlags,
    case: &str,
) -> Result<BTreeMap<String, OnnxTensor>, Failure> {
    let mut found: BTreeMap<String, OnnxTensor> = BTreeMap::new();
    let find = |name: &str| {
        wanted.iter().find(|input| input.name == name).ok_or_else(|| {
            let names: Vec<&str> = wanted.iter().map(|input| input.name.as_str()).collect();
            Failure::Usage(format!("there is no input `{name}`; there are {}", names.join(", ")))
        })
    };
    let convert = |input: &OnnxValueInfo, tensor: OnnxTensor, file: &Path| {
        npy::converted(tensor, input.element).map_err(|message| {
            Failure::Other(format!("{}: input `{}`: {message}", file.display(), input.name))
        })
    };
    for InputFile { name, file } in &flags.input {
        if let Some(name) = name {
            let input = find(name)?;
            if found.insert(name.clone(), convert(input, npy::read(file)?, file)?).is_some() {
                return Err(Failure::Usage(format!("input `{name}` is given twice")));
            }
            continue;
        }
        let mut archive = Archive::open(file)?;
        for input in wanted {
            let name = &input.name;
            let names = [format!("{case}.in.{name}"), format!("in.{name}"), name.clone()];
            if let Some(tensor) = archive.find(&names)? {
                found.insert(name.clone(), convert(input, tensor, file)?);
            }
        }
    }
    let mut seed = flags.seed;
    for (name, dims) in &flags.shape {
        let input = find(name)?;
        found.insert(name.clone(), random_input(input, dims, &mut seed)?);
    }
    Ok(found)
}

fn in_order(
    wanted: &[OnnxValueInfo],
    mut found: BTreeMap<String, OnnxTensor>,
) -> Result<Vec<(String, OnnxTensor)>, Failure> {
    let missing: Vec<String> =
        wanted.iter().filter(|input| !found.contains_key(&input.name)).map(describe).collect();
    if !missing.is_empty() {
        let list = missing.join("\n  ");
        return Err(Failure::Usage(format!("inputs are missing (--input or --shape gives them):\n  {list}")));
    }
    let take = |input: &OnnxValueInfo| Some((input.name.clone(), found.remove(&input.name)?));
    Ok(wanted.iter().filter_map(take).collect())
}

/// Name, type and dimensions of an input as the file declares them.
fn describe(input: &OnnxValueInfo) -> String {
    let dims = input.dims.as_ref().map(|dims| dims.iter().map(ToString::to_string).collect::<Vec<_>>());
    let element = input.element.map_or("any type", ElementType::name);
    format!("{} {element}[{}]", input.name, dims.map_or("any shape".to_owned(), |dims| dims.join(", ")))
}

/// Numbers of SplitMix64: floats from 0 to 1, integers 0 or 1.
fn random(element: ElementType, dims: &[usize], seed: &mut u64) -> Result<OnnxTensor, String> {
    let count = dims.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    let count = count.filter(|&count| count <= MOST_ELEMENTS);
    let count = count.ok_or_else(|| format!("{dims:?} are more than {MOST_ELEMENTS} elements"))?;
    let mut next = || {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = *seed;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    let tensor = if element.is_float() {
        let values: Vec<f32> = (0..count).map(|_| (next() >> 40) as f32 / (1 << 24) as f32).collect();
        Tensor::from_f32(dims, &values)
    } else {
        let values: Vec<i64> = (0..count).map(|_| i64::from(next() >> 63 != 0)).collect();
        Tensor::from_i64(dims, &values)
    };
    OnnxTensor::new(element, &tensor).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_parsed() {
        assert_eq!(parse_shape("a=b=1x3"), Ok(("a=b".into(), vec![1, 3])));
        assert_eq!(parse_shape("x="), Ok(("x".into(), vec![])));
        assert_eq!(parse_shape("x=0"), Ok(("x".into(), vec![0])));
        assert!(["x", "=1", "x=1x", "x=-1", "x=1,2"].iter().all(|text| parse_shape(text).is_err()));
        let file = |name: Option<&str>, file: &str| {
            Ok(InputFile { name: name.map(str::to_owned), file: file.into() })
        };
        assert_eq!(parse_input("x=a.npy"), file(Some("x"), "a.npy"));
        assert_eq!(parse_input("a.npz"), file(None, "a.npz"));
        assert!(["x", "a.npy", "=a.npy", "x="].iter().all(|text| parse_input(text).is_err()));
    }
}
