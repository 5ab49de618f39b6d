//! The inputs of a decoder of tokens by their names and shapes: tokens, mask, positions, and what
//! it keeps of earlier tokens.

use super::definition::DeclaredDim;
use super::element::{ElementType, OnnxTensor};
use super::file::OnnxFile;
use super::kept::{Kept, View};
use super::model::OnnxValueInfo;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// An input with its type.
type Typed = (String, ElementType);

/// The inputs of a decoder besides its caches.
#[derive(Debug)]
pub(super) struct TokenInputs {
    tokens: Typed,
    mask: Option<Typed>,
    positions: Option<Typed>,
    /// Whether there is a past, which some files ask for.
    flag: Option<Typed>,
}

/// What a decoder keeps of earlier tokens: keys or values.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    /// The model's input.
    pub(super) input: String,
    /// The model's output.
    pub(super) output: String,
    element: ElementType,
    /// Shape, with any size on the axis of tokens.
    dims: Vec<usize>,
    /// The axis of tokens; none where the shape is always the same.
    pub(super) axis: Option<usize>,
}

impl TokenInputs {
    /// Finds them among a model's inputs that are no caches.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming an input that is none of them, or `input_ids` where that is
    /// missing.
    pub(super) fn find<'a>(inputs: impl Iterator<Item = &'a OnnxValueInfo>) -> Result<Self> {
        let (mut tokens, mut mask, mut positions, mut flag) = (None, None, None, None);
        for input in inputs {
            let rank = input.dims.as_ref().map(Vec::len);
            let place = match input.name.as_str() {
                "input_ids" => &mut tokens,
                "attention_mask" if rank.is_none_or(|rank| rank == 2) => &mut mask,
                "position_ids" if rank.is_none_or(|rank| rank == 2) => &mut positions,
                "use_cache_branch" => &mut flag,
                name => {
                    let message = format!("input `{name}`, which is not one that a decoder of tokens has");
                    return Err(Error::Unsupported(message));
                }
            };
            *place = Some((input.name.clone(), input.element.unwrap_or(ElementType::Int64)));
        }
        let missing = || Error::Unsupported("a decoder of tokens without input `input_ids`".into());
        Ok(Self { tokens: tokens.ok_or_else(missing)?, mask, positions, flag })
    }

    /// Whether it is told which rows of the caches count.
    pub(super) fn has_mask(&self) -> bool {
        self.mask.is_some()
    }

    /// Whether it is told the places of the tokens.
    pub(super) fn has_positions(&self) -> bool {
        self.positions.is_some()
    }

    /// Rows of the table of positions, if the file has one.
    pub(super) fn learned_positions(&self, file: &OnnxFile) -> Option<usize> {
        let (name, _) = self.positions.as_ref()?;
        let graph = &file.graph;
        let readers = graph.nodes.iter().filter(|node| node.operator == "Gather" && node.domain.is_empty());
        let mut tables = readers.filter(|node| node.inputs.get(1) == Some(name));
        let table = graph.initializers.get(tables.next()?.inputs.first()?)?;
        table.shape.dims().first().copied()
    }

    /// Their values for tokens from a place on; of `rows` rows of the caches, these tokens' and
    /// those before them count.
    pub(super) fn given(
        &self,
        tokens: &[u32],
        start: usize,
        rows: usize,
    ) -> Result<BTreeMap<String, OnnxTensor>> {
        let end = start + tokens.len();
        let row = |typed: &Typed, values: &[i64]| {
            let tensor = OnnxTensor::new(typed.1, &Tensor::from_i64([1, values.len()], values))?;
            Ok::<_, Error>((typed.0.clone(), tensor))
        };
        let ids: Vec<i64> = tokens.iter().map(|&token| token.into()).collect();
        let mut given = BTreeMap::from([row(&self.tokens, &ids)?]);
        if let Some(mask) = &self.mask {
            let seen: Vec<i64> = (0..rows).map(|place| i64::from(place < end)).collect();
            given.extend([row(mask, &seen)?]);
        }
        if let Some(positions) = &self.positions {
            let places: Vec<i64> = (start..end).map(|place| place as i64).collect();
            given.extend([row(positions, &places)?]);
        }
        if let Some((name, element)) = &self.flag {
            let has_past = Tensor::from_i64([1], &[i64::from(start > 0)]);
            given.insert(name.clone(), OnnxTensor::new(*element, &has_past)?);
        }
        Ok(given)
    }
}

/// Names that the next version of an input may have.
fn outputs_for(input: &str) -> [String; 2] {
    [input.replacen("past_key_values", "present", 1), input.replacen("past", "present", 1)]
}

impl Cache {
    /// The pairs of inputs and outputs that are caches: those that are named, and those whose names
    /// begin with `past` and `present`.
    ///
    /// # Errors
    /// [`Error::Request`] where a name is unknown, [`Error::Unsupported`] where a shape does not say
    /// which axis is that of tokens.
    pub(super) fn find(
        inputs: &[OnnxValueInfo],
        outputs: &[OnnxValueInfo],
        named: &[(String, String)],
    ) -> Result<Vec<Self>> {
        for (input, output) in named {
            for (name, list) in [(input, inputs), (output, outputs)] {
                if list.iter().all(|known| known.name != *name) {
                    return Err(Error::Request(format!("there is no input or output `{name}`")));
                }
            }
        }
        let mut caches = Vec::new();
        for input in inputs {
            let name = named.iter().find(|(known, _)| *known == input.name);
            let candidates = match name {
                Some((_, output)) => vec![output.clone()],
                None if input.name.starts_with("past") => outputs_for(&input.name).to_vec(),
                None => continue,
            };
            let mut found =
                candidates.iter().filter_map(|name| outputs.iter().find(|known| known.name == *name));
            match found.next() {
                Some(output) => caches.push(Self::new(input, output)?),
                None => {
                    let message = format!("input `{}` without output `{}`", input.name, candidates[0]);
                    return Err(Error::Unsupported(message));
                }
            }
        }
        Ok(caches)
    }

    fn new(input: &OnnxValueInfo, output: &OnnxValueInfo) -> Result<Self> {
        let unclear = || {
            let dims = &input.dims;
            let message = format!("input `{}` whose shape {dims:?} does not say what is what", input.name);
            Error::Unsupported(message)
        };
        let declared = input.dims.as_ref().ok_or_else(unclear)?;
        let axis = token_axis(declared, output.dims.as_deref());
        let mut dims = Vec::with_capacity(declared.len());
        for (index, dim) in declared.iter().enumerate() {
            dims.push(match dim {
                DeclaredDim::Size(size) => *size,
                // One text at a time.
                _ if axis == Some(index) || index == 0 => 1,
                DeclaredDim::Named(name) if name.contains("batch") => 1,
                _ => return Err(unclear()),
            });
        }
        if dims.is_empty() || dims.contains(&0) {
            return Err(unclear());
        }
        let element = input.element.unwrap_or(ElementType::Float);
        let (input, output) = (input.name.clone(), output.name.clone());
        Ok(Self { input, output, element, dims, axis })
    }

    /// The cache with room for so many tokens, in this state.
    pub(super) fn kept(&self, state: &str, capacity: usize, view: View) -> Kept {
        let mut dims = self.dims.clone();
        if let Some(axis) = self.axis {
            dims[axis] = capacity;
        }
        Kept { state: state.to_owned(), output: self.output.clone(), element: self.element, dims, view }
    }
}

/// The axis of tokens: that whose name differs from the output's, or that is named for a length.
fn token_axis(input: &[DeclaredDim], output: Option<&[DeclaredDim]>) -> Option<usize> {
    let named = |dims: &[DeclaredDim], axis: usize| match dims.get(axis) {
        Some(DeclaredDim::Named(name)) => Some(name.to_lowercase()),
        _ => None,
    };
    let open = || (0..input.len()).filter(|&axis| !matches!(input[axis], DeclaredDim::Size(_)));
    let differs = |&axis: &usize| match (named(input, axis), output.and_then(|dims| named(dims, axis))) {
        (Some(input), Some(output)) => input != output,
        _ => false,
    };
    let mut differing = open().filter(differs);
    if let (Some(axis), None) = (differing.next(), differing.next()) {
        return Some(axis);
    }
    let says = |name: &str| ["past", "seq", "len"].iter().any(|part| name.contains(part));
    let by_name = open().find(|&axis| named(input, axis).is_some_and(|name| says(&name)));
    by_name.or_else(|| {
        open().find(|&axis| axis > 0 && named(input, axis).is_none_or(|name| !name.contains("batch")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, dims: &[&str]) -> OnnxValueInfo {
        let dim = |text: &&str| match text.parse() {
            Ok(size) => DeclaredDim::Size(size),
            Err(_) if text.is_empty() => DeclaredDim::Any,
            Err(_) => DeclaredDim::Named((*text).to_owned()),
        };
        let dims = Some(dims.iter().map(dim).collect());
        OnnxValueInfo { name: name.into(), element: Some(ElementType::Float), dims }
    }

    /// Names of input and output, their dimensions, and the axis of tokens.
    type Pair = (&'static str, &'static str, &'static [&'static str], &'static [&'static str], Option<usize>);

    #[test]
    fn caches_are_found_by_their_names_and_shapes() {
        let cases: [Pair; 8] = [
            (
                "past_key_values.0.key",
                "present.0.key",
                &["batch", "4", "past", "16"],
                &["batch", "4", "all", "16"],
                Some(2),
            ),
            (
                "past_key_values.1.decoder.value",
                "present.1.decoder.value",
                &["b", "4", "past_length", "16"],
                &["b", "4", "past_length + 1", "16"],
                Some(2),
            ),
            (
                "past_0",
                "present_0",
                &["2", "batch", "12", "past_seq_len", "64"],
                &["2", "batch", "12", "total_seq_len", "64"],
                Some(3),
            ),
            ("past_key_0", "present_key_0", &["batch", "8", "n", "64"], &["batch", "8", "n", "64"], Some(2)),
            ("past.0.key", "present.0.key", &["", "8", "", "64"], &["", "8", "", "64"], Some(2)),
            (
                "past_key_values.0.key",
                "present.0.key",
                &["batch", "seq", "8", "64"],
                &["batch", "seq", "8", "64"],
                Some(1),
            ),
            ("past_conv.0", "present_conv.0", &["batch", "768", "4"], &["batch", "768", "4"], None),
            ("past_ssm", "present_ssm", &["1", "768", "16"], &["1", "768", "16"], None),
        ];
        for (input, output, before, after, axis) in cases {
            let found = Cache::find(&[info(input, before)], &[info(output, after)], &[]).unwrap();
            assert_eq!((found.len(), found[0].axis, found[0].output.as_str()), (1, axis, output), "{input}");
        }
        let state = ("state".to_owned(), "stateN".to_owned());
        let found =
            Cache::find(&[info("state", &["2", "1", "9"])], &[info("stateN", &["2", "1", "9"])], &[state]);
        assert_eq!(found.unwrap()[0].dims, [2, 1, 9]);
    }

    #[test]
    fn what_is_unclear_is_named() {
        let error = |input: OnnxValueInfo, output: &str, named: &[(String, String)]| {
            Cache::find(&[input], &[info(output, &["1"])], named).unwrap_err().to_string()
        };
        let heads_open = info("past.0", &["batch", "heads", "past", "64"]);
        assert!(error(heads_open, "present.0", &[]).contains("input `past.0` whose shape"));
        let lonely = info("past_key_values.0.key", &["1", "2", "n", "8"]);
        let message = error(lonely, "logits", &[]);
        assert!(
            message.ends_with("input `past_key_values.0.key` without output `present.0.key`"),
            "{message}"
        );
        let wrong = ("x".to_owned(), "y".to_owned());
        assert_eq!(error(info("z", &["1"]), "y", &[wrong]), "there is no input or output `x`");
        let other = [info("input_ids", &["1", "n"]), info("pixels", &["1", "3"])];
        let message = TokenInputs::find(other.iter()).unwrap_err().to_string();
        assert!(message.contains("input `pixels`, which is not one"), "{message}");
    }
}
