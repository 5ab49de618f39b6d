//! ONNX files made by hand: fields of protocol buffers, and the messages that tests need.
#![allow(dead_code, reason = "each test file uses a part of this")]

/// A number of seven bits a byte.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 128 {
        bytes.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field with bytes: a text, a message.
pub(crate) fn bytes(tag: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(tag << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A field with an integer.
pub(crate) fn int(tag: u64, value: i64) -> Vec<u8> {
    [varint(tag << 3), varint(value.cast_unsigned())].concat()
}

/// A model of operator set 17 with this graph.
pub(crate) fn model(graph: &[u8]) -> Vec<u8> {
    model_of(17, graph)
}

/// A model of an operator set.
pub(crate) fn model_of(opset: i64, graph: &[u8]) -> Vec<u8> {
    [int(1, 8), bytes(7, graph), bytes(8, int(2, opset))].concat()
}

/// A graph of nodes, inputs and outputs, and other fields.
pub(crate) fn graph(nodes: &[Vec<u8>], inputs: &[Vec<u8>], outputs: &[Vec<u8>], other: &[u8]) -> Vec<u8> {
    let list =
        |tag: u64, parts: &[Vec<u8>]| parts.iter().flat_map(|part| bytes(tag, part)).collect::<Vec<u8>>();
    [list(1, nodes), bytes(2, "graph"), list(11, inputs), list(12, outputs), other.to_vec()].concat()
}

/// A node of the standard's domain with encoded attributes.
pub(crate) fn node(operator: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    node_of("", operator, inputs, outputs, attributes)
}

/// A node of a domain with encoded attributes.
pub(crate) fn node_of(
    domain: &str,
    operator: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[Vec<u8>],
) -> Vec<u8> {
    let list = |tag: u64, names: &[&str]| names.iter().flat_map(|name| bytes(tag, name)).collect::<Vec<u8>>();
    let name = format!("the {operator}");
    let attributes = attributes.iter().flat_map(|attribute| bytes(5, attribute)).collect::<Vec<u8>>();
    let domain = if domain.is_empty() { Vec::new() } else { bytes(7, domain) };
    [list(1, inputs), list(2, outputs), bytes(3, name), bytes(4, operator), attributes, domain].concat()
}

/// An attribute: its field and content, and the number of its kind.
pub(crate) fn attribute(name: &str, field: Vec<u8>, kind: i64) -> Vec<u8> {
    [bytes(1, name), field, int(20, kind)].concat()
}

/// An input or output of floats; a dimension is a size, or open where negative.
pub(crate) fn floats(name: &str, dims: &[i64]) -> Vec<u8> {
    declared(name, 1, dims)
}

/// An input or output of an element type.
pub(crate) fn declared(name: &str, element: i64, dims: &[i64]) -> Vec<u8> {
    let dim = |&size: &i64| bytes(1, if size < 0 { bytes(2, "n") } else { int(1, size) });
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let tensor = [int(1, element), bytes(2, shape)].concat();
    [bytes(1, name), bytes(2, bytes(1, tensor))].concat()
}

/// A tensor with raw data.
pub(crate) fn tensor(name: &str, element: i64, dims: &[i64], raw: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&size| int(1, size)).collect();
    [dims, int(2, element), bytes(8, name), bytes(9, raw)].concat()
}

/// A tensor whose data lies in another file.
pub(crate) fn external(name: &str, dims: &[i64], entries: &[(&str, &str)]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&size| int(1, size)).collect();
    let entry = |(key, value): &(&str, &str)| bytes(13, [bytes(1, key), bytes(2, value)].concat());
    let entries: Vec<u8> = entries.iter().flat_map(entry).collect();
    [dims, int(2, 1), bytes(8, name), entries, int(14, 1)].concat()
}

/// An initialiser of a graph.
pub(crate) fn initializer(tensor: impl AsRef<[u8]>) -> Vec<u8> {
    bytes(5, tensor)
}

/// y = relu(x + w) of [2, 3] floats, where x may have any number of rows; w is 1, -2, 3.
pub(crate) fn small_model() -> Vec<u8> {
    let weight: Vec<u8> = [1.0_f32, -2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let nodes = [node("Add", &["x", "w"], &["sum"], &[]), node("Relu", &["sum"], &["y"], &[])];
    let w = initializer(tensor("w", 1, &[3], &weight));
    model(&graph(&nodes, &[floats("x", &[-1, 3])], &[floats("y", &[-1, 3])], &w))
}

/// The graph of a model that squares x as often as `times` says, where both are inputs.
pub(crate) fn looping_model() -> Vec<u8> {
    let same = node("Identity", &["go"], &["go_on"], &[]);
    let square = node("Mul", &["value", "value"], &["squared"], &[]);
    let body = graph(
        &[same, square],
        &[declared("i", 7, &[]), declared("go", 9, &[]), floats("value", &[2])],
        &[declared("go_on", 9, &[]), floats("squared", &[2])],
        &[],
    );
    let body = attribute("body", bytes(6, body), 5);
    let nodes = [node("Loop", &["times", "", "x"], &["y"], &[body])];
    model(&graph(&nodes, &[declared("times", 7, &[]), floats("x", &[2])], &[floats("y", &[2])], &[]))
}
