//! The commands for ONNX models as their users see them.

mod common;
#[path = "common/onnx_file.rs"]
mod onnx_file;
#[path = "common/program.rs"]
mod program;

use onnx_file::{
    attribute, bytes, declared, floats, graph, initializer, looping_model, model, node, small_model,
};
use program::{expect_failure, succeed, succeed_json, text, wginfer};
use serde_json::json;
use std::path::{Path, PathBuf};

/// A folder with a file in it.
fn with_file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

/// A NumPy file of floats.
fn npy(dims: &str, values: &[f32]) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {dims}, }}\n");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [b"\x93NUMPY\x01\x00".to_vec(), length.to_vec(), header.into_bytes(), data].concat()
}

/// An archive of NumPy files.
fn npz(path: &Path, arrays: &[(&str, Vec<u8>)]) {
    use std::io::Write;
    let mut writer = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in arrays {
        writer.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap();
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_model_is_run_on_arrays() {
    if common::gpu().is_none() {
        return;
    }
    let (folder, file) = with_file("small.onnx", &small_model());
    let folder = folder.path();
    std::fs::write(folder.join("x.npy"), npy("(2, 3)", &[0.0, 0.0, 0.0, -2.0, 4.5, 1.0])).unwrap();
    let input = format!("x={}", path(folder, "x.npy"));
    let results = path(folder, "results");
    let report = succeed_json(&["run", &file, "--input", &input, "--output", &results, "--json"]);
    assert_eq!(report["inputs"], json!(["x float[2, 3]"]));
    let output = &report["outputs"][0];
    assert_eq!((&output["name"], &output["dims"]), (&json!("y"), &json!([2, 3])));
    let written = std::fs::read(Path::new(&results).join("y.npy")).unwrap();
    let values: Vec<f32> =
        written[written.len() - 24..].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(values, [1.0, 0.0, 3.0, 0.0, 2.5, 4.0]);
    // The same arrays from an archive, compared with what is wanted, and with what is not.
    let x = npy("(2, 3)", &[0.0, 0.0, 0.0, -2.0, 4.5, 1.0]);
    npz(&folder.join("good.npz"), &[("in.x", x.clone()), ("out.y", npy("(2, 3)", &values))]);
    npz(&folder.join("bad.npz"), &[("case0.in.x", x), ("case0.out.y", npy("(2, 3)", &[0.5; 6]))]);
    let (good, bad) = (path(folder, "good.npz"), path(folder, "bad.npz"));
    let trace = path(folder, "trace.json");
    let arguments = ["run", &file, "--input", &good, "--compare", &good, "--nodes", "--profile", &trace];
    let shown = succeed(&arguments);
    assert!(shown.contains("the Add") && shown.contains("float[2, 3]"), "{shown}");
    let events: serde_json::Value = serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap();
    let names: Vec<&str> =
        events["traceEvents"].as_array().unwrap().iter().filter_map(|event| event["name"].as_str()).collect();
    assert!(names.contains(&"run") && names.iter().any(|name| name.starts_with("the ")), "{names:?}");
    let output = wginfer(&["run", &file, "--input", &bad, "--compare", &bad]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("differ, worst at"), "{}", text(&output.stdout));
    // Random numbers of any shape that the file allows.
    let report = succeed_json(&["run", &file, "--shape", "x=5x3", "--json"]);
    assert_eq!(report["outputs"][0]["dims"], json!([5, 3]));
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    if common::gpu().is_none() {
        return;
    }
    let (folder, file) = with_file("small.onnx", &small_model());
    let folder = folder.path();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.join(name), bytes).unwrap();
        format!("x={}", path(folder, name))
    };
    let cut = write("cut.npy", &npy("(2, 3)", &[0.0; 5]));
    let text_file = write("text.npy", b"1 2 3");
    let rewritten = |old: &[u8; 3], new: &[u8; 3]| {
        let mut file = npy("(1, 3)", &[0.0; 3]);
        let start = file.windows(3).position(|part| part == old).unwrap();
        file[start..start + 3].copy_from_slice(new);
        file
    };
    let integers = write("integers.npy", &rewritten(b"<f4", b"<i4"));
    npz(&folder.join("empty.npz"), &[("z", npy("(1,)", &[0.0]))]);
    let good = write("good.npy", &npy("(1, 3)", &[0.0; 3]));
    let empty = path(folder, "empty.npz");
    let strings = write("strings.npy", &rewritten(b"<f4", b"<U2"));
    let swapped = write("swapped.npy", &rewritten(b"<f4", b">f4"));
    let folder_name = folder.to_str().unwrap();
    let there = path(folder, "good.npy");
    let table: [(&[&str], i32, &[&str]); 16] = [
        (&["run", folder_name], 1, &["is a folder, expected an ONNX file"]),
        (&["check", folder_name], 1, &["is a folder, expected an ONNX file"]),
        (&["run", &file, "--input", &strings], 1, &["strings.npy", "elements of type <U2, expected"]),
        (&["run", &file, "--input", &swapped], 1, &["swapped.npy", "elements of type >f4, expected"]),
        (&["run", &file, "--input", &good, "--input", &good], 2, &["input `x` is given twice"]),
        (&["run", &file, "--input", &good, "--output", &there], 1, &["good.npy"]),
        (&["run", &file, "--shape", "x=1x3", "--profile", folder_name], 1, &[folder_name]),
        (&["run", &file], 2, &["inputs are missing", "x float[n, 3]"]),
        (&["run", &file, "--shape", "z=1"], 2, &["no input `z`", "there are x"]),
        (
            &["run", &file, "--shape", "x=1x4"],
            1,
            &["input `x` must have the dimensions [n, 3]", "float[1, 4]"],
        ),
        (&["run", &file, "--shape", "x=3"], 1, &["input `x` must have 2 dimensions", "float[3]"]),
        (&["run", &file, "--shape", "x=999999999999x999999999"], 1, &["input `x`", "elements"]),
        (&["run", &file, "--input", &cut], 1, &["cut.npy", "24 bytes, got 20"]),
        (&["run", &file, "--input", &text_file], 1, &["text.npy", "not a NumPy file"]),
        (&["run", &file, "--input", &integers], 1, &["input `x`: expected float, got int32[1, 3]"]),
        (&["run", &file, "--input", &good, "--compare", &empty], 1, &["no output has an array", "z"]),
    ];
    let mut failures = Vec::new();
    for (arguments, code, parts) in table {
        let output = wginfer(&[arguments, &["-q"]].concat()).output().unwrap();
        failures.extend(expect_failure(arguments, &output, code, parts));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Nodes of an unknown operator within a branch, one that reads a value back, one after it.
fn problematic_model() -> Vec<u8> {
    let nodes = [
        node("Relu", &["x"], &["a"], &[]),
        node("Wondrous", &["a"], &["b"], &[]),
        node("Neg", &["b"], &["c"], &[]),
        node("NonZero", &["a"], &["d"], &[]),
        node("Gemm", &["a"], &["e"], &[]),
    ];
    model(&graph(
        &nodes,
        &[floats("x", &[2, 3])],
        &[floats("c", &[2, 3]), declared("d", 7, &[2, -1]), floats("e", &[2, 3])],
        &[],
    ))
}

#[test]
fn check_lists_what_does_not_run() {
    let (_folder, file) = with_file("small.onnx", &small_model());
    let report = succeed_json(&["check", &file, "--strict", "--json", "-q"]);
    assert_eq!((&report["runs"], &report["host_steps"]), (&json!(true), &json!([])));
    assert_eq!(report["operators"], json!({"Add": 1, "Relu": 1}));
    assert_eq!(report["assumed"], json!(["x[0] (n)"]));
    assert!(report["memory_weights"].as_u64() >= Some(12), "{report}");
    let larger = succeed_json(&["check", &file, "--shape", "x=1000x3", "--json", "-q"]);
    assert!(larger["memory_buffers"].as_u64() > report["memory_buffers"].as_u64(), "{larger}");
    // A loop whose number of iterations is an input: a host step, and refused where it is asked.
    let (_folder, file) = with_file("loop.onnx", &looping_model());
    let report = succeed_json(&["check", &file, "--json", "-q"]);
    assert_eq!(report["host_steps"][0]["operator"], json!("Loop"), "{report}");
    assert!(report["host_steps"][0]["reason"].as_str().unwrap().contains("input `times`"), "{report}");
    assert_eq!(wginfer(&["check", &file, "--strict", "-q"]).output().unwrap().status.code(), Some(1));
    let (_folder, file) = with_file("bad.onnx", &problematic_model());
    let output = wginfer(&["check", &file, "-q"]).output().unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    for part in
        ["cannot run: Wondrous `the Wondrous`", "wrong: Gemm `the Gemm`: input 1 is missing", "does not run"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

/// x by one matrix or by two others, as `which` says; and rows that what comes of it names.
fn model_of_branches(with_places: bool) -> Vec<u8> {
    let weight = |name: &str| initializer(onnx_file::tensor(name, 1, &[64, 64], &[0; 4 * 64 * 64]));
    let out = [floats("out", &[1, 64])];
    let then = graph(&[node("MatMul", &["x", "a"], &["out"], &[])], &[], &out, &weight("a"));
    let twice = [node("MatMul", &["x", "b"], &["y"], &[]), node("MatMul", &["y", "c"], &["out"], &[])];
    let other = graph(&twice, &[], &out, &[weight("b"), weight("c")].concat());
    let branch = |name: &str, graph: Vec<u8>| attribute(name, bytes(6, graph), 5);
    let branches = [branch("then_branch", then), branch("else_branch", other)];
    let mut nodes = vec![node("If", &["which"], &["chosen"], &branches)];
    let mut outputs = vec![floats("chosen", &[1, 64])];
    if with_places {
        nodes.push(node("NonZero", &["chosen"], &["places"], &[]));
        nodes.push(node("Gather", &["d", "places"], &["rows"], &[]));
        outputs.push(floats("rows", &[2, -1, 64]));
    }
    let inputs = [floats("x", &[1, 64]), declared("which", 9, &[])];
    model(&graph(&nodes, &inputs, &outputs, &weight("d")))
}

#[test]
fn memory_behind_host_steps_is_counted() {
    let matrix = 4 * 64 * 64;
    let (_folder, file) = with_file("branches.onnx", &model_of_branches(false));
    let report = succeed_json(&["check", &file, "--json", "-q"]);
    // The larger branch, its input, output and what is between.
    assert_eq!(report["memory_weights"], json!(2 * matrix), "{report}");
    assert_eq!(report["memory_is_complete"], json!(true), "{report}");
    assert!(report["memory_buffers"].as_u64() >= Some(3 * 256), "{report}");
    assert_eq!(report["webgpu_binding_limit"], json!(134_217_728));
    let (_folder, file) = with_file("places.onnx", &model_of_branches(true));
    let report = succeed_json(&["check", &file, "--json", "-q"]);
    assert_eq!(report["memory_weights"], json!(3 * matrix), "{report}");
    assert_eq!(report["memory_is_complete"], json!(false), "{report}");
    assert!(succeed(&["check", &file, "-q"]).contains("more than "));
}

#[test]
fn graphs_are_drawn() {
    let (_folder, file) = with_file("loop.onnx", &looping_model());
    let dot = succeed(&["graph", &file, "--dot"]);
    for part in
        ["digraph model {", "Loop\\nthe Loop", "subgraph cluster_", "Mul\\nthe Mul", "times\\nint64[]"]
    {
        assert!(dot.contains(part), "{part}: {dot}");
    }
    assert_eq!(dot.matches('{').count(), dot.matches('}').count());
    let output = wginfer(&["graph", &file]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// A case as the ONNX project stores them.
fn write_case(folder: &Path, wanted: f32) {
    let set = folder.join("test_data_set_0");
    std::fs::create_dir_all(&set).unwrap();
    std::fs::write(folder.join("model.onnx"), small_model()).unwrap();
    let tensor = |name: &str, values: [f32; 3]| {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        onnx_file::tensor(name, 1, &[1, 3], &raw)
    };
    std::fs::write(set.join("input_0.pb"), tensor("x", [1.0, 1.0, 1.0])).unwrap();
    std::fs::write(set.join("output_0.pb"), tensor("y", [2.0, 0.0, wanted])).unwrap();
}

#[test]
fn cases_are_counted() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root: PathBuf = folder.path().join("node");
    write_case(&root.join("test_good"), 4.0);
    let name = root.to_str().unwrap();
    assert!(succeed(&["conformance", name, "-q"]).contains("1 of 1 cases passed"));
    write_case(&root.join("test_wrong"), 5.0);
    std::fs::create_dir_all(root.join("test_unknown")).unwrap();
    std::fs::write(root.join("test_unknown/model.onnx"), problematic_model()).unwrap();
    std::fs::write(root.join("test_unknown/input_0.pb"), onnx_file::tensor("x", 1, &[2, 3], &[0; 24]))
        .unwrap();
    let output = wginfer(&["conformance", name, "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let counts = ["passed", "failed", "unsupported"].map(|key| report[key].as_u64().unwrap());
    assert_eq!(counts, [1, 1, 1], "{report}");
    let wrong = report["problems"].as_array().unwrap().iter().find(|entry| entry["case"] == "test_wrong");
    assert!(wrong.unwrap()["reason"].as_str().unwrap().contains("got 4e0, want 5e0"), "{report}");
    let table = wginfer(&["conformance", name, "--only", "Add+Relu", "--table"]).output().unwrap();
    assert!(text(&table.stdout).contains("| Add+Relu | 2 | 1 |"), "{}", text(&table.stdout));
    let empty = tempfile::tempdir().unwrap();
    let arguments = ["conformance", empty.path().to_str().unwrap()];
    let failure = expect_failure(&arguments, &wginfer(&arguments).output().unwrap(), 1, &["has no cases"]);
    assert_eq!(failure, None);
    let arguments = ["conformance", name, "--only", "Conv"];
    let failure = expect_failure(&arguments, &wginfer(&arguments).output().unwrap(), 1, &["operator `Conv`"]);
    assert_eq!(failure, None);
}

#[test]
fn models_are_measured_after_a_comparison() {
    if common::gpu().is_none() {
        return;
    }
    let (folder, file) = with_file("small.onnx", &small_model());
    let x = npy("(2, 3)", &[0.0, 0.0, 0.0, -2.0, 4.5, 1.0]);
    let (good, bad) = (path(folder.path(), "good.npz"), path(folder.path(), "bad.npz"));
    let wanted = npy("(2, 3)", &[1.0, 0.0, 3.0, 0.0, 2.5, 4.0]);
    npz(Path::new(&good), &[("in.x", x.clone()), ("out.y", wanted)]);
    npz(Path::new(&bad), &[("in.x", x), ("out.y", npy("(2, 3)", &[0.5; 6]))]);
    let bench = ["bench", "onnx", &file, "--runs", "2"];
    let report = succeed_json(&[&bench[..], &["--input", &good, "--golden", &good, "--json"]].concat());
    assert_eq!((&report["compared"], &report["mismatches"]), (&json!(1), &json!([])));
    assert_eq!((&report["run"]["count"], &report["graphs"]), (&json!(2), &json!(1)));
    let shown = succeed(&[&bench[..], &["--shape", "x=5x3"]].concat());
    assert!(shown.contains("x float[5, 3]") && shown.contains("0 compared, 0 wrong"), "{shown}");
    let output = wginfer(&[&bench[..], &["--input", &bad, "--golden", &bad]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("1 compared, 1 wrong"), "{}", text(&output.stdout));
    // The first dimension has a name only, so that there is no size to take.
    let output = wginfer(&bench).output().unwrap();
    assert_eq!(expect_failure(&bench, &output, 2, &["inputs are missing", "x float"]), None);
}

/// A file, and a folder that holds nothing but it and its config.json.
#[test]
fn a_decoder_generates() {
    let (Some(_), Some(shared)) = (common::gpu(), common::shared()) else { return };
    let folder = shared.join("models/gpt2_capp");
    let golden = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&golden).unwrap();
    let copy = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.onnx"] {
        std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
    }
    let file = folder.join("model.onnx");
    for (model, case) in [(&*file, 0), (&*file, 1), (copy.path(), 2)] {
        let model = model.to_str().unwrap();
        let case = &golden["cases"][case];
        let ids = |name: &str| case[name].as_array().unwrap().clone();
        let (prompt, all) = (ids("prompt_ids"), ids("output_ids"));
        let words: Vec<String> = prompt.iter().map(ToString::to_string).collect();
        let prompt_ids = words.join(",");
        let arguments = ["generate", model, "--prompt-ids", &prompt_ids, "--temperature", "0", "--json"];
        let report = succeed_json(&arguments);
        assert_eq!(report["ids"], serde_json::Value::from(all[prompt.len()..].to_vec()));
        assert_eq!((&report["finish_reason"], &report["context"]), (&"end_token".into(), &512.into()));
    }
    let file = file.to_str().unwrap();
    let seeded = ["generate", file, "--prompt-ids", "2,8,49", "--seed", "7", "--max-tokens", "6"];
    assert_eq!(succeed(&seeded), succeed(&seeded));
    let zoo = shared.join("models/onnx_zoo/yunet_320/model.onnx");
    let table: [(&[&str], i32, &str); 5] = [
        (&["generate", file, "--prompt-ids", "1", "--dtype", "f16"], 2, "--dtype"),
        (&["generate", file], 2, "is a model: the prompt is missing"),
        (&["generate", file, "a text"], 1, "no tokenizer.json"),
        (&["generate", file, "--prompt-ids", "1", "--ctx", "513"], 1, "positions for 512"),
        (&["generate", zoo.to_str().unwrap(), "--prompt-ids", "1"], 1, "past_key_values"),
    ];
    let mut failures = Vec::new();
    for (arguments, code, part) in table {
        let output = wginfer(&[arguments, &["-q"]].concat()).output().unwrap();
        failures.extend(expect_failure(arguments, &output, code, &[part]));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
