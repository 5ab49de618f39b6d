//! ONNX files and inputs that are broken or ask for too much: an error that says what is wrong,
//! never a panic, never without end.

mod common;
#[path = "common/onnx_file.rs"]
mod onnx_file;

use onnx_file::{
    attribute, bytes, declared, external, floats, graph, initializer, int, looping_model, model, model_of,
    node, small_model, tensor,
};
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};
use wginfer::kernel::Caps;
use wginfer::onnx::{OnnxLimits, OnnxModel, OnnxOptions, OnnxReport, OnnxTensor, check_bytes, check_model};

/// Limits that a broken file soon meets.
fn limits() -> OnnxLimits {
    OnnxLimits {
        nodes: 2000,
        elements: 1 << 20,
        host_elements: 1 << 16,
        time: Duration::from_secs(20),
        ..OnnxLimits::default()
    }
}

fn check(file: Vec<u8>) -> wginfer::Result<OnnxReport> {
    check_bytes(file, &BTreeMap::new(), limits(), &Caps::webgpu_minimum())
}

/// Numbers of a linear congruential generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

/// Files in which some bytes are others, missing or twice.
fn mutated(file: &[u8], random: &mut Random) -> Vec<u8> {
    let mut file = file.to_vec();
    for _ in 0..=random.below(3) {
        let place = random.below(file.len());
        match random.below(6) {
            0 => file[place] ^= 1 << random.below(8),
            1 => file[place] = random.below(256) as u8,
            2 => file[place] = [0, 1, 127, 128, 255][random.below(5)],
            3 => drop(file.remove(place)),
            4 => file.insert(place, random.below(256) as u8),
            _ => {
                let end = (place + random.below(16)).min(file.len());
                let part = file[place..end].to_vec();
                file.splice(place..place, part);
            }
        }
        if file.is_empty() {
            break;
        }
    }
    file
}

#[test]
fn broken_bytes_are_no_panic() {
    let mut random = Random(1);
    for file in [small_model(), looping_model()] {
        assert!(check(file.clone()).is_ok());
        for length in 0..file.len() {
            let _ = check(file[..length].to_vec());
        }
        for _ in 0..4000 {
            let _ = check(mutated(&file, &mut random));
        }
    }
    for length in 0..2000 {
        let _ = check((0..length % 100).map(|_| random.below(256) as u8).collect());
    }
}

/// The standard's cases with broken bytes: shapes, axes and attributes that do not fit.
#[test]
fn broken_cases_of_the_standard_are_no_panic() {
    let Some(shared) = common::shared() else { return };
    let mut random = Random(2);
    let mut panics = Vec::new();
    let mut slowest = (Duration::ZERO, String::new());
    let mut taken = 0;
    let filter = std::env::var("WGINFER_CASE").unwrap_or_default();
    for entry in std::fs::read_dir(shared.join("models/onnx_node_tests")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let Ok(file) = std::fs::read(folder.join("model.onnx")) else { continue };
        if file.len() > 5000 || !name.contains(&filter) {
            continue;
        }
        for _ in 0..30 {
            let broken = mutated(&file, &mut random);
            let begin = Instant::now();
            match catch_unwind(|| check(broken.clone()).is_ok()) {
                Ok(read) => taken += usize::from(read),
                Err(_) => {
                    panics.push(format!("{name}: {}", String::from_utf8_lossy(&broken).escape_debug()));
                    break;
                }
            }
            if begin.elapsed() > slowest.0 {
                slowest = (begin.elapsed(), name.clone());
            }
        }
    }
    assert!(panics.is_empty(), "{}", panics.join("\n"));
    println!("{taken} broken files could be read; the slowest took {slowest:?}");
    assert!(taken > 0, "nothing was checked");
    assert!(slowest.0 < Duration::from_secs(10), "{slowest:?}");
}

/// A graph of one node `y = Relu(x)` with other fields.
fn with(other: &[u8]) -> Vec<u8> {
    let relu = node("Relu", &["x"], &["y"], &[]);
    model(&graph(&[relu], &[floats("x", &[2])], &[floats("y", &[2])], other))
}

/// The same with these nodes.
fn of_nodes(nodes: &[Vec<u8>]) -> Vec<u8> {
    model(&graph(nodes, &[floats("x", &[2])], &[floats("y", &[2])], &[]))
}

/// Conditions within conditions.
fn nested(depth: usize) -> Vec<u8> {
    let mut body = graph(&[node("Relu", &["x"], &["y"], &[])], &[], &[floats("y", &[2])], &[]);
    for _ in 0..depth {
        let branch = attribute("then_branch", bytes(6, &body), 5);
        body = graph(&[node("If", &["x"], &["y"], &[branch])], &[], &[floats("y", &[2])], &[]);
    }
    model(&body)
}

#[test]
fn broken_models_are_refused_with_reasons() {
    let four = [0; 4];
    let w = |dims: &[i64], raw: &[u8]| initializer(tensor("w", 1, dims, raw));
    let relu = |from: &str, to: &str| node("Relu", &[from], &[to], &[]);
    let sparse = bytes(15, bytes(1, tensor("holes", 1, &[1], &four)));
    let table: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("no bytes", vec![], &["is not an ONNX model", "no graph"]),
        ("a text", b"hello".to_vec(), &["is not an ONNX model"]),
        ("a wrong wire type", model(&int(1, 5)), &["is not an ONNX model", "wire type"]),
        ("a cycle", of_nodes(&[relu("y", "a"), relu("a", "y")]), &["the Relu", "cycle"]),
        ("a missing value", of_nodes(&[relu("nothing", "y")]), &["nothing makes the value `nothing`"]),
        ("a missing output", of_nodes(&[relu("x", "z")]), &["nothing makes the value `y`"]),
        ("two makers", of_nodes(&[relu("x", "y"), relu("x", "y")]), &["two values are named `y`"]),
        (
            "two weights",
            with(&[w(&[1], &four), w(&[1], &four)].concat()),
            &["two initialisers are named `w`"],
        ),
        ("an input twice", with(&bytes(11, floats("x", &[2]))), &["two inputs are named `x`"]),
        ("too large", with(&w(&[1 << 40, 1 << 40], &four)), &["`w`", "limit"]),
        ("too large but empty", with(&w(&[0, 1 << 40, 1 << 40], &[])), &["`w`", "limit"]),
        ("a negative size", with(&w(&[-2], &four)), &["`w`", "size -2"]),
        ("short data", with(&w(&[2], &four)), &["`w`", "takes 8 bytes, got 4"]),
        ("strings", with(&initializer(tensor("words", 8, &[1], &[]))), &["`words`", "element type string"]),
        ("a type of the future", with(&initializer(tensor("w", 77, &[1], &[]))), &["`w`", "number 77"]),
        ("sparse data", with(&sparse), &["sparse initialiser `holes`"]),
        (
            "data elsewhere",
            with(&initializer(external("w", &[1], &[("location", "a")]))),
            &["`w`", "in memory"],
        ),
        ("a new operator set", model_of(99, &[]), &["operator set 99"]),
        ("no operator set", bytes(7, graph(&[], &[], &[], &[])), &["no operator set"]),
        ("deep nesting", nested(200), &["is not an ONNX model", "recursion"]),
    ];
    let mut failures = Vec::new();
    for (what, file, parts) in table {
        match check(file) {
            Ok(_) => failures.push(format!("{what} was taken")),
            Err(error) => {
                let message = error.to_string();
                let missing = parts.iter().filter(|part| !message.contains(**part));
                failures.extend(missing.map(|part| format!("{what}: {message}, lacks {part}")));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn unknown_operators_are_listed_at_once() {
    let names = ["Wondrous", "Relu", "Marvellous"];
    let nodes = [("x", "a"), ("a", "b"), ("b", "y")];
    let nodes: Vec<Vec<u8>> =
        names.iter().zip(nodes).map(|(name, (from, to))| node(name, &[from], &[to], &[])).collect();
    let report = check(of_nodes(&nodes)).unwrap();
    let found: Vec<&str> = report.unsupported.iter().map(|note| note.operator.as_str()).collect();
    assert_eq!(found, ["Wondrous", "Marvellous"]);
    assert!(!report.is_good(false));
}

/// A function that calls itself as often as `calls` says.
fn recursive(calls: usize) -> Vec<u8> {
    let call = |from: &str, to: &str| [node("f", &[from], &[to], &[]), bytes(7, "own")].concat();
    let body: Vec<u8> = (0..calls).flat_map(|index| bytes(7, call("a", &format!("b{index}")))).collect();
    let function = [bytes(1, "f"), bytes(4, "a"), bytes(5, "b0"), body, bytes(10, "own")].concat();
    let graph = graph(&[call("x", "y")], &[floats("x", &[2])], &[floats("y", &[2])], &[]);
    [model(&graph), bytes(25, function)].concat()
}

/// Two functions of one name: which is called is said by the overload.
#[test]
fn functions_of_one_name_differ_by_their_overload() {
    let Some(gpu) = common::gpu() else { return };
    let function = |overload: &str, operator: &str| {
        let body = bytes(7, node(operator, &["a"], &["b"], &[]));
        let opset = bytes(9, int(2, 17));
        let names =
            [bytes(1, "f"), bytes(4, "a"), bytes(5, "b"), bytes(10, "own"), bytes(13, overload)].concat();
        bytes(25, [names, body, opset].concat())
    };
    let call = |overload: &str, from: &str, to: &str| {
        [node("f", &[from], &[to], &[]), bytes(7, "own"), bytes(8, overload)].concat()
    };
    let calls = [call("negated", "x", "m"), call("squashed", "m", "y")];
    let graph = graph(&calls, &[floats("x", &[2])], &[floats("y", &[2])], &[]);
    let file = [model(&graph), function("squashed", "Relu"), function("negated", "Neg")].concat();
    let options = OnnxOptions { limits: limits(), ..OnnxOptions::default() };
    let model = OnnxModel::from_bytes(file, gpu, &options).unwrap();
    let outputs = model.run(&[("x", OnnxTensor::from_f32(vec![2], &[-3.0, 2.0]))]).unwrap();
    assert_eq!(outputs[0].1.to_f32(), [3.0, 0.0]);
}

#[test]
fn endless_models_meet_a_limit() {
    let once = check(recursive(1)).unwrap();
    assert!(once.wrong.iter().any(|note| note.reason.contains("nested deeper than 64")), "{once:?}");
    let message = check(recursive(3)).unwrap_err().to_string();
    assert!(message.contains("more than 2000 nodes"), "{message}");
    let file = OnnxLimits { file_bytes: 10, ..limits() };
    let no_time = OnnxLimits { time: Duration::ZERO, ..limits() };
    let few = OnnxLimits { nodes: 1, ..limits() };
    for (limits, part) in
        [(file, "the limit is 10"), (no_time, "the limit"), (few, "nodes than the limit, 1")]
    {
        let result = check_bytes(small_model(), &BTreeMap::new(), limits, &Caps::webgpu_minimum());
        let message = result.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    let Some(gpu) = common::gpu() else { return };
    let options = OnnxOptions { limits: limits(), ..OnnxOptions::default() };
    let model = OnnxModel::from_bytes(looping_model(), gpu, &options).unwrap();
    let x = OnnxTensor::from_f32(vec![2], &[1.0, 1.5]);
    let times = |times: i64| OnnxTensor::from_i64(vec![], &[times]);
    let outputs = model.run(&[("times", times(2)), ("x", x.clone())]).unwrap();
    assert_eq!(outputs[0].1.to_f32(), [1.0, 5.0625]);
    let message = model.run(&[("times", times(i64::MAX)), ("x", x)]).unwrap_err().to_string();
    assert!(message.contains("more than 2000 nodes"), "{message}");
}

#[test]
fn external_data_stays_in_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    let data: Vec<u8> = [1.0_f32, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(folder.join("data.bin"), &data).unwrap();
    std::fs::write(root.path().join("secret.bin"), &data).unwrap();
    let secret = root.path().join("secret.bin");
    let secret = secret.to_str().unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(secret, folder.join("link.bin")).unwrap();
        std::os::unix::fs::symlink("data.bin", folder.join("good_link.bin")).unwrap();
        std::fs::hard_link(secret, folder.join("hard.bin")).unwrap();
    }
    let load = |entries: &[(&str, &str)]| {
        let file = folder.join("model.onnx");
        std::fs::write(&file, with(&initializer(external("w", &[2], entries)))).unwrap();
        check_model(&file, &BTreeMap::new(), limits(), &Caps::webgpu_minimum())
    };
    let absolute = [("location", secret)];
    let mut good: Vec<&[(&str, &str)]> =
        vec![&[("location", "data.bin")], &[("location", "./data.bin"), ("offset", "0"), ("length", "8")]];
    let mut bad: Vec<(&[(&str, &str)], &str)> = vec![
        (&[("location", "../secret.bin")], "outside of the model's folder"),
        (&absolute, "outside of the model's folder"),
        (&[("location", "a/../../secret.bin")], "outside of the model's folder"),
        (&[("location", "")], "outside of the model's folder"),
        (&[], "outside of the model's folder"),
        (&[("location", "missing.bin")], "missing.bin"),
        (&[("location", ".")], "model"),
        (&[("location", "data.bin"), ("offset", "4")], "takes 8 bytes, got 4"),
        (&[("location", "data.bin"), ("offset", "4"), ("length", "8")], "beyond the 8"),
        (&[("location", "data.bin"), ("offset", "9")], "beyond the 8"),
        (&[("location", "data.bin"), ("offset", "18446744073709551615"), ("length", "8")], "beyond the 8"),
        (&[("location", "data.bin"), ("offset", "-4")], "expected a number"),
        (&[("location", "data.bin"), ("length", "many")], "expected a number"),
    ];
    if cfg!(unix) {
        good.push(&[("location", "good_link.bin")]);
        bad.push((&[("location", "link.bin")], "outside of the model's folder"));
        bad.push((&[("location", "hard.bin")], "hard link"));
    }
    for entries in good {
        load(entries).unwrap_or_else(|error| panic!("{entries:?}: {error}"));
    }
    for (entries, part) in bad {
        let message = load(entries).expect_err(&format!("{entries:?}")).to_string();
        assert!(message.contains(part), "{entries:?}: {message}");
    }
    assert!(Path::new(secret).exists());
}

#[test]
fn wrong_inputs_are_refused_with_reasons() {
    let Some(gpu) = common::gpu() else { return };
    let load = |file| OnnxModel::from_bytes(file, gpu, &OnnxOptions::default()).unwrap();
    let model = load(small_model());
    let x = OnnxTensor::from_f32(vec![1, 3], &[0.0; 3]);
    let integers = OnnxTensor::from_i64(vec![1, 3], &[0; 3]);
    let wide = OnnxTensor::from_f32(vec![1, 4], &[0.0; 4]);
    let flat = OnnxTensor::from_f32(vec![3], &[0.0; 3]);
    type Given<'a> = &'a [(&'a str, OnnxTensor)];
    let table: [(Given<'_>, &[&str]); 5] = [
        (&[], &["input `x` is missing"]),
        (&[("z", x.clone())], &["no input `z`", "x"]),
        (&[("x", integers)], &["input `x` must be float, got int64[1, 3]"]),
        (&[("x", wide)], &["input `x`", "3", "got float[1, 4]"]),
        (&[("x", flat)], &["input `x` must have 2 dimensions, got float[3]"]),
    ];
    for (given, parts) in table {
        let message = model.run(given).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{parts:?}: {message}");
    }
    assert!(model.run(&[("x", x)]).is_ok());
    // No rows at all are legal.
    let none = model.run(&[("x", OnnxTensor::from_f32(vec![0, 3], &[]))]).unwrap();
    assert_eq!(none[0].1.dims(), [0, 3]);
    // Integers of 64 bits that the device does not hold.
    let double = node("Add", &["x", "x"], &["y"], &[]);
    let file = onnx_file::model(&graph(&[double], &[declared("x", 7, &[1])], &[declared("y", 7, &[1])], &[]));
    let large = OnnxTensor::from_i64(vec![1], &[1 << 40]);
    let message = load(file).run(&[("x", large)]).unwrap_err().to_string();
    assert!(message.contains("input `x`") && message.contains("1099511627776"), "{message}");
}
