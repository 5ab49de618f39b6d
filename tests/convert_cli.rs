//! The command `convert`, and what takes converted models, as their users see them.

mod common;
#[path = "common/onnx_file.rs"]
mod onnx_file;
#[path = "common/program.rs"]
mod program;

use onnx_file::{looping_model, small_model};
use program::{expect_failure, succeed, succeed_json, wginfer};
use serde_json::json;

#[test]
fn a_model_is_converted_described_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("small.onnx"), small_model()).unwrap();
    let (model, to, graph) = (path("small.onnx"), path("out.safetensors"), path("out.graph.json"));
    let shapes = ["--shape", "x=2x3", "--shape", "x=5x3"];
    let report = succeed_json(&[&["convert", &model, &to, "--json", "-q"], &shapes[..]].concat());
    assert_eq!((&report["graph"], &report["tensors"]), (&json!(graph), &json!(to)));
    assert_eq!(report["graphs"][1][0], json!({"name": "x", "element": "float", "dims": [5, 3]}));
    let shown = succeed(&["info", &to, "-q"]);
    for part in ["graph 1", "x float[5, 3] to y float[5, 3]", "2 nodes", "ai.onnx 17"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(succeed_json(&["info", &graph, "--json"])["graphs"][0]["nodes"], json!(2));
    let failures: Vec<String> = [
        (&["convert", &model, &to][..], 1, &["left open, shapes must be given: x[0] (n)"][..]),
        (&["convert", &model, &to, "--shape", "x=2"], 1, &["input `x` is declared as"]),
        (&["convert", &model, &to, "--shape", "x"], 2, &["expected NAME=1x3x224x224"]),
        (&["convert", &model, &path("out.bin"), "--shape", "x=1x3"], 1, &["out.bin", "NAME.safetensors"]),
        (&["convert", &model, &path("no/out.safetensors")], 1, &["no such folder"]),
        (&["convert", &path("none.onnx"), &to], 1, &["none.onnx"]),
    ]
    .into_iter()
    .filter_map(|(arguments, code, parts)| {
        let arguments = [arguments, &["-q"]].concat();
        expect_failure(&arguments, &wginfer(&arguments).output().unwrap(), code, parts)
    })
    .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    if common::gpu().is_none() {
        return;
    }
    let outputs = |arguments: &[&str]| succeed_json(&[arguments, &["--json"]].concat())["outputs"].clone();
    let want = outputs(&["run", &model, "--shape", "x=5x3"]);
    assert_eq!(outputs(&["run", &to, "--shape", "x=5x3"]), want);
    // What nothing gives is random in the shape of the first graph.
    assert_eq!(outputs(&["run", &graph])[0]["dims"], json!([2, 3]));
    let trace = path("trace.json");
    succeed(&["run", &to, "--profile", &trace]);
    assert!(std::fs::read_to_string(&trace).unwrap().contains("\"run\""));
    for (arguments, code, parts) in [
        (
            &["run", &to, "--shape", "x=4x3"][..],
            1,
            &["(x float[2, 3]) or (x float[5, 3]); got x float[4, 3]"][..],
        ),
        (&["run", &to, "--shape", "z=4x3"], 2, &["there is no input `z`; there are x"]),
        (&["run", &to, "--nodes"], 2, &["--nodes takes an ONNX model"]),
    ] {
        let arguments = [arguments, &["-q"]].concat();
        let failure = expect_failure(&arguments, &wginfer(&arguments).output().unwrap(), code, parts);
        assert_eq!(failure, None);
    }
}

#[test]
fn what_runs_on_the_host_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("loop.onnx"), looping_model()).unwrap();
    let arguments = ["convert", &path("loop.onnx"), &path("out.safetensors")];
    let output = wginfer(&arguments).output().unwrap();
    let parts = ["cannot be converted", "Loop `the Loop` is computed on the host", "input `times`"];
    assert_eq!(expect_failure(&arguments, &output, 1, &parts), None);
}
