//! Models of a few nodes that bytes choose: known operators, attributes that they have, small tensors. Most of
//! them fit nothing; what is known is computed on the host, the rest is planned.

#[path = "../../tests/common/onnx_file.rs"]
mod onnx_file;

use super::onnx::check;
use onnx_file::{attribute, bytes, declared, graph, initializer, int, node_of, tensor};
use std::sync::LazyLock;
use wginfer::onnx::known_operators;

const OPSETS: [i64; 8] = [7, 9, 11, 13, 17, 18, 23, 26];
const INTEGERS: [i64; 24] = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    16,
    31,
    255,
    1 << 16,
    1 << 31,
    1 << 40,
    i64::MAX,
    -1,
    -2,
    -3,
    -4,
    -7,
    -128,
    -(1 << 31),
    i64::MIN,
];
const FLOATS: [f32; 16] = [
    0.0,
    1.0,
    2.0,
    0.5,
    -1.0,
    -2.5,
    3.0,
    1e-5,
    1e5,
    1e20,
    -1e30,
    f32::MAX,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    7.0,
];
const STRINGS: [&str; 56] = [
    "",
    "NOTSET",
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "constant",
    "reflect",
    "edge",
    "wrap",
    "linear",
    "nearest",
    "cubic",
    "bilinear",
    "bicubic",
    "zeros",
    "border",
    "reflection",
    "asymmetric",
    "half_pixel",
    "align_corners",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "tf_crop_and_resize",
    "round_prefer_floor",
    "round_prefer_ceil",
    "floor",
    "ceil",
    "not_larger",
    "not_smaller",
    "stretch",
    "none",
    "add",
    "mul",
    "max",
    "min",
    "forward",
    "reverse",
    "bidirectional",
    "tanh",
    "DCR",
    "CRD",
    "LEFT",
    "RIGHT",
    "Tanh",
    "Sigmoid",
    "Relu",
    "LeakyRelu",
    "HardSigmoid",
    "Softplus",
    "ij,jk->ik",
    "...ij,...jk->...ik",
    "ii->i",
    "ij->",
    "i,j",
    "ab,ab->a",
    "a...a->...",
];
const SIZES: [i64; 8] = [1, 2, 3, 4, 5, 7, 0, 8];
/// Numbers of element types: mostly floats, then all from float to bfloat16 and those of four bits.
const ELEMENTS: [i64; 24] = [1, 1, 1, 1, 1, 1, 10, 10, 11, 16, 7, 7, 7, 6, 9, 2, 3, 4, 5, 12, 13, 21, 22, 8];

/// What operators.txt says of an operator.
struct Schema {
    domain: &'static str,
    name: &'static str,
    inputs: &'static str,
    outputs: usize,
    attributes: Vec<(&'static str, u8)>,
}

static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(|| {
    let known: Vec<(&str, &str)> = known_operators().collect();
    let lines = include_str!("../operators.txt").lines().map(|line| {
        let mut words = line.split(' ');
        let mut word = || words.next().expect("a line has name, inputs, outputs");
        let (full, inputs, outputs) = (word(), word(), word().parse().expect("a number of outputs"));
        let (domain, name) = full.rsplit_once('.').unwrap_or(("", full));
        let attributes =
            words.filter_map(|pair| pair.split_once(':')).map(|(name, kind)| (name, kind.as_bytes()[0]));
        Schema { domain, name, inputs, outputs, attributes: attributes.collect() }
    });
    lines.filter(|schema| known.contains(&(schema.domain, schema.name))).collect()
});

/// Bytes that decide what the model is; zeros when there are no more.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(first)
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.byte() % values.len()]
    }

    fn several<T: Copy>(&mut self, values: &[T]) -> Vec<T> {
        (0..self.byte() % 9).map(|_| self.of(values)).collect()
    }

    /// Sizes of up to five dimensions, of at most 1024 elements.
    fn dims(&mut self) -> Vec<i64> {
        let mut dims: Vec<i64> = (0..self.byte() % 6).map(|_| self.of(&SIZES)).collect();
        while dims.iter().product::<i64>() > 1024 {
            dims.pop();
        }
        dims
    }
}

/// A graph that is being made.
#[derive(Default)]
struct Maker {
    /// Names of values, in all graphs.
    made: usize,
    depth: usize,
}

/// Parts of one graph.
#[derive(Default)]
struct Parts {
    nodes: Vec<Vec<u8>>,
    inputs: Vec<Vec<u8>>,
    tensors: Vec<u8>,
    values: Vec<String>,
}

impl Maker {
    fn name(&mut self) -> String {
        self.made += 1;
        format!("v{}", self.made)
    }

    /// Adds a node with its inputs to a graph.
    fn node(&mut self, choices: &mut Choices<'_>, parts: &mut Parts) {
        let schema = &SCHEMAS[choices.byte() % SCHEMAS.len()];
        let base = choices.dims();
        let mut inputs = Vec::new();
        let letters = schema.inputs.as_bytes();
        for (index, &letter) in letters.iter().enumerate() {
            let count = if letters.get(index + 1) == Some(&b'*') { choices.byte() % 4 } else { 1 };
            match letter {
                b'-' | b'*' => {}
                _ => inputs.extend((0..count).map(|_| self.input(choices, parts, letter, &base))),
            }
        }
        let attributes: Vec<Vec<u8>> = schema
            .attributes
            .iter()
            .filter_map(|&(name, kind)| self.attribute(choices, name, kind))
            .collect();
        let outputs: Vec<String> = (0..schema.outputs.max(1)).map(|_| self.name()).collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let names = &names[..names.len() - choices.byte() % 4 % names.len()];
        parts.nodes.push(node_of(schema.domain, schema.name, &inputs, names, &attributes));
        parts.values.extend(names.iter().map(|&name| name.to_owned()));
    }

    /// The name of an input: a value that is there, none, or a new tensor, known or not.
    fn input(&mut self, choices: &mut Choices<'_>, parts: &mut Parts, letter: u8, base: &[i64]) -> String {
        let choice = choices.byte();
        match choice % 16 {
            0 => return String::new(),
            1..=3 if !parts.values.is_empty() => {
                return parts.values[parts.values.len() - 1 - choice / 16 % parts.values.len()].clone();
            }
            _ => {}
        }
        let element = match letter {
            _ if choice % 16 == 4 => choices.of(&ELEMENTS),
            b'i' => 7,
            b'b' => 9,
            b'u' => 2,
            _ => 1,
        };
        let dims = match (choices.byte() % 8, letter) {
            (0..=2, b'i') => vec![base.len() as i64],
            (3..=4, b'i') => vec![],
            (5, b'i') => vec![1],
            (0..=2, _) => base.to_vec(),
            (3, _) => base.iter().rev().copied().collect(),
            (4, _) => base.last().copied().into_iter().collect(),
            (5, _) => base.iter().skip(1).take(1).copied().collect(),
            _ => choices.dims(),
        };
        let name = self.name();
        if (choice / 16).is_multiple_of(4) {
            parts.inputs.push(declared(&name, element, &dims));
        } else {
            parts.tensors.extend(initializer(known(choices, &name, element, &dims)));
        }
        name
    }

    fn attribute(&mut self, choices: &mut Choices<'_>, name: &str, kind: u8) -> Option<Vec<u8>> {
        if choices.byte().is_multiple_of(2) && kind != b'g' {
            return None;
        }
        let float =
            |tag: u64, value: f32| [vec![(tag << 3 | 5) as u8], value.to_le_bytes().to_vec()].concat();
        let (field, number) = match kind {
            b'i' => (int(3, choices.of(&INTEGERS)), 2),
            b'f' => (float(2, choices.of(&FLOATS)), 1),
            b's' => (bytes(4, choices.of(&STRINGS)), 3),
            b't' => {
                let (element, dims) = (choices.of(&ELEMENTS), choices.dims());
                (bytes(5, known(choices, "t", element, &dims)), 4)
            }
            b'g' => (bytes(6, self.graph(choices, true)), 5),
            b'I' => (choices.several(&INTEGERS).into_iter().flat_map(|value| int(8, value)).collect(), 7),
            b'F' => (choices.several(&FLOATS).into_iter().flat_map(|value| float(7, value)).collect(), 6),
            _ => (choices.several(&STRINGS).into_iter().flat_map(|value| bytes(9, value)).collect(), 8),
        };
        Some(attribute(name, field, number))
    }

    /// A graph of up to four nodes; one of control flow has inputs of its own.
    fn graph(&mut self, choices: &mut Choices<'_>, inner: bool) -> Vec<u8> {
        self.depth += 1;
        let mut parts = Parts::default();
        for index in 0..if inner { choices.byte() % 4 } else { 0 } {
            let name = self.name();
            parts.inputs.push(declared(&name, [7, 9, 1, 1][index], &[]));
            parts.values.push(name);
        }
        for _ in 0..if self.depth > 3 { 0 } else { 1 + choices.byte() % 4 } {
            self.node(choices, &mut parts);
        }
        let outputs = if inner { choices.byte() % 4 } else { 2 };
        let outputs: Vec<Vec<u8>> =
            parts.values.iter().rev().take(outputs).map(|name| declared(name, 1, &[])).collect();
        self.depth -= 1;
        graph(&parts.nodes, &parts.inputs, &outputs, &parts.tensors)
    }
}

/// A tensor with numbers that fit its type more or less.
fn known(choices: &mut Choices<'_>, name: &str, element: i64, dims: &[i64]) -> Vec<u8> {
    let (first, step) = (choices.byte(), choices.byte());
    let elements = usize::try_from(dims.iter().product::<i64>()).unwrap_or(0);
    let pick = |index: usize| first + step / 16 * index;
    let raw: Vec<u8> = match element {
        1 => (0..elements).flat_map(|i| FLOATS[pick(i) % 16].to_le_bytes()).collect(),
        11 => (0..elements).flat_map(|i| f64::from(FLOATS[pick(i) % 16]).to_le_bytes()).collect(),
        _ => {
            let size = [0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8, 0, 0, 2]
                [usize::try_from(element).unwrap_or(0) % 17];
            let size = if element > 16 { 1 } else { size };
            (0..elements).flat_map(|i| INTEGERS[pick(i) % 24].to_le_bytes()[..size].to_vec()).collect()
        }
    };
    let raw = if element > 16 { &raw[..raw.len().div_ceil(2)] } else { &raw };
    tensor(name, element, dims, raw)
}

/// The bytes choose.
pub(crate) fn onnx_nodes(data: &[u8]) {
    let mut choices = Choices(data);
    let opset = choices.of(&OPSETS);
    let graph = Maker::default().graph(&mut choices, false);
    let microsoft = bytes(8, [bytes(1, "com.microsoft"), int(2, 1)].concat());
    check(&[onnx_file::model_of(opset, &graph), microsoft].concat());
}
