//! The standard's own test cases, one operator each, in ../shared/models/onnx_node_tests: every
//! case must pass but those that tests/onnx/failing.txt lists with a reason, and these must fail.
//! WGINFER_CASE=part runs the cases whose name or operator contains it.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use wginfer::gpu::Gpu;
use wginfer::onnx::{OnnxModel, OnnxOptions, OnnxTensor, read_tensor};
use wginfer::tensor::Tolerance;

/// A case as the folder's index describes it.
struct Case {
    name: String,
    operator: String,
    tolerance: Tolerance,
}

fn cases(folder: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(folder.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&text).unwrap();
    let case = |case: &serde_json::Value| {
        let text = |key: &str| case[key].as_str().unwrap().to_owned();
        let number = |key: &str| case[key].as_f64().unwrap();
        let tolerance = Tolerance::new(number("atol"), number("rtol"));
        Case { name: text("name"), operator: text("ops"), tolerance }
    };
    index.as_array().unwrap().iter().map(case).collect()
}

/// Names and reasons of the cases that are known to fail: "name: reason" in each line.
fn known_failures() -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/failing.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let entry = |line: &str| {
        let (name, reason) = line.split_once(": ").expect("a name and a reason");
        (name.to_owned(), reason.to_owned())
    };
    lines.map(entry).collect()
}

/// The tensors `PREFIX_0.pb`, `PREFIX_1.pb` and so on of a case.
fn tensors(folder: &Path, prefix: &str) -> Vec<OnnxTensor> {
    let path = |index: usize| folder.join(format!("{prefix}_{index}.pb"));
    let read = |index: usize| Some((path(index), std::fs::read(path(index)).ok()?));
    (0..).map_while(read).map(|(path, bytes)| read_tensor(&path, bytes).unwrap().1).collect()
}

fn run(gpu: &Gpu, folder: &Path, tolerance: Tolerance) -> Result<(), String> {
    let model = OnnxModel::load_with(folder.join("model.onnx"), gpu, &OnnxOptions::default());
    let model = model.map_err(|error| error.to_string())?;
    let inputs = model.inputs();
    let given: Vec<(&str, OnnxTensor)> =
        inputs.iter().map(|input| input.name.as_str()).zip(tensors(folder, "input")).collect();
    let wanted = tensors(folder, "output");
    for run in ["first", "second"] {
        let outputs = model.run(&given).map_err(|error| error.to_string())?;
        assert_eq!(outputs.len(), wanted.len(), "{}", folder.display());
        for ((name, got), want) in outputs.iter().zip(&wanted) {
            if got.element() != want.element() {
                return Err(format!("{run} run, `{name}`: got {got}, want {want}"));
            }
            if let Some(mismatch) = tolerance.mismatch(got.tensor(), want.tensor()) {
                return Err(format!("{run} run, `{name}` {}: {mismatch}", got.element()));
            }
        }
    }
    Ok(())
}

#[test]
fn cases_of_the_standard() {
    let (Some(shared), Some(gpu)) = (common::shared(), common::gpu()) else { return };
    let folder = shared.join("models/onnx_node_tests");
    let known = known_failures();
    let filter = std::env::var("WGINFER_CASE").unwrap_or_default();
    let mut score: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    let mut surprises = Vec::new();
    for case in cases(&folder) {
        if !case.name.contains(&filter) && !case.operator.contains(&filter) {
            continue;
        }
        let result = run(gpu, &folder.join(&case.name), case.tolerance);
        let [passed, total] = score.entry(case.operator).or_default();
        *total += 1;
        *passed += usize::from(result.is_ok());
        match (result, known.get(&case.name)) {
            (Err(message), None) => surprises.push(format!("{}: {message}", case.name)),
            (Ok(()), Some(_)) => surprises.push(format!("{} passes now", case.name)),
            _ => {}
        }
    }
    for (operator, [passed, total]) in &score {
        println!("{operator:28} {passed:3} of {total:3}");
    }
    let sum = |index: usize| score.values().map(|counts| counts[index]).sum::<usize>();
    println!("{} of {} cases pass, {} submits", sum(0), sum(1), gpu.counts().submits);
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}
