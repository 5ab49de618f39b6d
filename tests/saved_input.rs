//! Broken files of converted models: an error that says what is wrong, never a panic. Needs no GPU.

#[path = "common/onnx_file.rs"]
mod onnx_file;

use onnx_file::{attribute, floats, graph, initializer, int, model, node, tensor};
use serde_json::{Value, json};
use std::path::PathBuf;
use wginfer::kernel::Caps;
use wginfer::onnx::{OnnxLimits, convert};
use wginfer::ops::cases::Random;
use wginfer::saved::SavedInfo;

/// A converted model in a folder of its own.
struct Converted {
    folder: tempfile::TempDir,
    graph: String,
}

impl Converted {
    /// A convolution, a matrix, attributes of several kinds, an output that nothing computes.
    fn new() -> Self {
        let numbers = |count: usize| -> Vec<u8> {
            (0..count).flat_map(|index| (index as f32 / 99.0).to_le_bytes()).collect()
        };
        let integers: Vec<u8> = [-1_i64, 16].into_iter().flat_map(i64::to_le_bytes).collect();
        let axis = attribute("axis", int(3, 1), 2);
        let nodes = [
            node("Conv", &["x", "k"], &["a"], &[]),
            node("Clip", &["a", "low"], &["b"], &[]),
            node("Reshape", &["b", "dims"], &["c"], &[]),
            node("MatMul", &["c", "w"], &["d"], &[]),
            node("Softmax", &["d"], &["e"], &[axis]),
            node("Transpose", &["e"], &["y"], &[]),
            node("Shape", &["x"], &["shape"], &[]),
        ];
        let stored = [
            initializer(tensor("k", 1, &[4, 3, 3, 3], &numbers(108))),
            initializer(tensor("low", 1, &[], &f32::NEG_INFINITY.to_le_bytes())),
            initializer(tensor("dims", 7, &[2], &integers)),
            initializer(tensor("w", 1, &[16, 80], &numbers(16 * 80))),
        ];
        let outputs = [floats("y", &[80, 4]), onnx_file::declared("shape", 7, &[4])];
        let bytes = model(&graph(&nodes, &[floats("x", &[1, 3, 6, 6])], &outputs, &stored.concat()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, bytes).unwrap();
        convert(&path, &folder.path().join("out.safetensors"), &[], OnnxLimits::default()).unwrap();
        let graph = std::fs::read_to_string(folder.path().join("out.graph.json")).unwrap();
        Self { folder, graph }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What loading and planning say to another file of graphs.
    fn read(&self, graph: impl AsRef<[u8]>) -> Result<SavedInfo, String> {
        std::fs::write(self.file("out.graph.json"), graph).unwrap();
        SavedInfo::read(&self.file("out.safetensors"), &Caps::webgpu_minimum())
            .map_err(|error| error.to_string())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.graph).unwrap()
    }
}

#[test]
fn a_converted_model_is_described() {
    let converted = Converted::new();
    let info = converted.read(&converted.graph).unwrap();
    assert_eq!(info.opsets[""], 17);
    assert_eq!((info.graphs.len(), info.graphs[0].nodes), (1, 6), "{info:?}");
    assert_eq!(info.graphs[0].inputs[0].to_string(), "x float[1, 3, 6, 6]");
    assert_eq!(info.parameters, 108 + 16 * 80);
    // Either file may be named, others may not.
    SavedInfo::read(&converted.file("out.graph.json"), &Caps::webgpu_minimum()).unwrap();
    let error = SavedInfo::read(&converted.file("out.onnx"), &Caps::webgpu_minimum()).unwrap_err();
    assert!(error.to_string().contains("expected the name of a converted model"), "{error}");
}

#[test]
fn what_is_wrong_is_said() {
    let converted = Converted::new();
    type Change = fn(&mut Value);
    assert_eq!(converted.json()["graphs"][0]["nodes"][0]["op"], "conv");
    let table: &[(Change, &[&str])] = &[
        (|json| json["version"] = json!(2), &["out.graph.json: is of version 2", "reads version 1"]),
        (|json| json["format"] = json!("x"), &["expected the format `wginfer graph`, got `x`"]),
        (|json| json["content"] = json!("0"), &["is not of the same conversion as", "out.safetensors"]),
        (|json| json["graphs"] = json!([]), &["has no graphs"]),
        (|json| json["more"] = json!(1), &["unknown field `more`"]),
        (
            |json| {
                let graph = json["graphs"][0].clone();
                json["graphs"].as_array_mut().unwrap().push(graph);
            },
            &["graph 1: ", "its inputs are those of graph 0"],
        ),
        (|json| graph_of(json)["nodes"][0]["op"] = json!("wondrous"), &["operator `wondrous` is not known"]),
        (|json| graph_of(json)["nodes"][0]["inputs"][0] = json!(999), &["there is no value 999"]),
        (|json| graph_of(json)["nodes"][0]["outputs"][0] = json!(999), &["there is no value 999"]),
        (
            |json| graph_of(json)["nodes"][0]["outputs"][0] = json!(0),
            &["makes value 0, which is there already"],
        ),
        (
            |json| {
                let last = graph_of(json)["nodes"].as_array().unwrap().len() - 1;
                let made = graph_of(json)["nodes"][last]["outputs"][0].clone();
                graph_of(json)["nodes"][0]["inputs"][0] = made;
            },
            &["node 0, conv", "before it is made"],
        ),
        (|json| drop(graph_of(json)["nodes"].as_array_mut().unwrap().pop()), &["no node makes it"]),
        (|json| graph_of(json)["nodes"].as_array_mut().unwrap().swap(0, 1), &["before it is made"]),
        (
            |json| graph_of(json)["nodes"][0]["attributes"]["groups"] = json!(2),
            &["conv", "2 groups do not fit"],
        ),
        (
            |json| graph_of(json)["values"][0]["dims"] = json!([1, 3, 6, 7]),
            &["value 0", "is f32[1, 3, 6, 6]"],
        ),
        (|json| graph_of(json)["values"][0]["dtype"] = json!("i64"), &["the dtype i64, which no device has"]),
        (|json| graph_of(json)["values"][0]["dims"] = json!([0]), &["without elements"]),
        (
            |json| graph_of(json)["values"][0]["dims"] = json!([4_294_967_296_u64, 4_294_967_296_u64]),
            &["value 0: has the shape", "the limit is"],
        ),
        (|json| graph_of(json)["values"][0]["from"] = json!({"input": "z"}), &["there is no input `z`"]),
        (|json| graph_of(json)["values"][0]["from"] = json!({"constant": "z"}), &["no tensor `z`"]),
        (
            |json| {
                graph_of(json)["values"][0]["from"] = json!({"weight": {"tensor": "w", "transposed": false}});
            },
            &["the tensor `w` is f32[16, 80], got f32[1, 3, 6, 6]"],
        ),
        (|json| graph_of(json)["outputs"][0]["from"] = json!({"value": 999}), &["there is no value 999"]),
        (|json| graph_of(json)["outputs"][0]["from"] = json!({"value": 0}), &["value 0 is made by no node"]),
        (|json| graph_of(json)["outputs"][0]["from"] = json!({"input": "z"}), &["there is no input `z`"]),
        (|json| graph_of(json)["outputs"][0]["port"]["dims"] = json!([1]), &["output `y`: is y float[1]"]),
        (
            |json| graph_of(json)["outputs"][0]["port"]["name"] = json!("shape"),
            &["two outputs are named `shape`"],
        ),
        (
            |json| graph_of(json)["outputs"][0]["port"]["element"] = json!("string"),
            &["unknown variant `string`"],
        ),
    ];
    let mut failures = Vec::new();
    for (number, (change, parts)) in table.iter().enumerate() {
        let mut json = converted.json();
        change(&mut json);
        match converted.read(json.to_string()) {
            Ok(_) => failures.push(format!("change {number} was not noticed")),
            Err(message) if parts.iter().all(|part| message.contains(part)) => {}
            Err(message) => failures.push(format!("change {number}: {message}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    std::fs::remove_file(converted.file("out.graph.json")).unwrap();
    let error = SavedInfo::read(&converted.file("out.safetensors"), &Caps::webgpu_minimum()).unwrap_err();
    assert!(error.to_string().contains("out.graph.json"), "{error}");
    std::fs::remove_file(converted.file("out.safetensors")).unwrap();
    let error = converted.read(&converted.graph).unwrap_err();
    assert!(error.contains("out.safetensors"), "{error}");
}

fn graph_of(json: &mut Value) -> &mut Value {
    &mut json["graphs"][0]
}

/// Paths to all parts of a value.
fn parts(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| parts(item, &format!("{at}/{index}"), found));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| parts(field, &format!("{at}/{name}"), found));
        }
        _ => {}
    }
}

#[test]
fn every_part_may_be_something_else() {
    let converted = Converted::new();
    let json = converted.json();
    let mut paths = Vec::new();
    parts(&json, "", &mut paths);
    let mut others =
        vec![json!(null), json!(true), json!("x"), json!([]), json!({}), json!(0.5), json!(1e300)];
    others.extend([json!(u64::MAX), json!("node"), json!("0x7fc00000"), json!([1, 2]), json!({"x": 1})]);
    others.extend([0_i64, 1, 2, 3, 5, 16, 1 << 31, 1 << 62, i64::MAX, -1].map(Value::from));
    let (mut tried, mut accepted) = (0, 0);
    for path in &paths {
        for other in &others {
            let mut changed = json.clone();
            *changed.pointer_mut(path).unwrap() = other.clone();
            tried += 1;
            accepted += usize::from(converted.read(changed.to_string()).is_ok());
        }
    }
    println!("{tried} changes, {accepted} of them still a model");
    assert!(tried > 3_000 && accepted < tried / 5);
}

#[test]
fn every_byte_may_be_another() {
    let converted = Converted::new();
    let (text, mut random) = (converted.graph.as_bytes(), Random::new(9));
    let weights = std::fs::read(converted.file("out.safetensors")).unwrap();
    let mut change = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        for _ in 0..=random.below(3) {
            let place = random.below(bytes.len() as u32) as usize;
            match random.below(5) {
                0 => bytes[place] = random.below(256) as u8,
                1 => bytes[place] = b"0123456789-,:{}[]\"e."[random.below(20) as usize],
                2 => drop(bytes.remove(place)),
                3 => bytes.truncate(place.max(1)),
                _ => {
                    let end = (place + random.below(40) as usize).min(bytes.len());
                    let part = bytes[place..end].to_vec();
                    let to = random.below(bytes.len() as u32) as usize;
                    bytes.splice(to..to, part);
                }
            }
        }
        bytes
    };
    for _ in 0..4_000 {
        let _ = converted.read(change(text));
    }
    // The header of the tensors and the data behind it.
    for _ in 0..1_000 {
        let head = change(&weights[..weights.len().min(900)]);
        std::fs::write(converted.file("out.safetensors"), [&head, &weights[900..]].concat()).unwrap();
        let _ = converted.read(text);
    }
}
