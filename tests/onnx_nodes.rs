//! The standard's own test cases, one operator each, in ../shared/models/onnx_node_tests, and those
//! of tests/onnx/cases for other operators (made by tests/onnx/make_cases.py): every case must pass
//! but those that tests/onnx/failing.txt lists with a reason, and these must fail.
//! WGINFER_CASE=part runs the cases whose name or operator contains it.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use wginfer::gpu::Gpu;
use wginfer::onnx::{ConformanceCase, OnnxOptions, Outcome, Scores};

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

#[test]
fn cases_of_the_standard() {
    let (Some(shared), Some(gpu)) = (common::shared(), common::gpu()) else { return };
    check(gpu, &shared.join("models/onnx_node_tests"));
}

#[test]
fn cases_of_other_operators() {
    let Some(gpu) = common::gpu() else { return };
    check(gpu, &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/cases"));
}

/// Runs all cases of a folder and prints the score by operator.
fn check(gpu: &Gpu, folder: &Path) {
    let known = known_failures();
    let filter = std::env::var("WGINFER_CASE").unwrap_or_default();
    let mut scores = Scores::default();
    let mut surprises = Vec::new();
    for case in ConformanceCase::find(folder).unwrap() {
        if !case.name.contains(&filter) && !case.operator.contains(&filter) {
            continue;
        }
        let outcome = case.run(gpu, &OnnxOptions::default());
        scores.count(&case, &outcome);
        match (outcome, known.get(&case.name)) {
            (Outcome::Failed(message) | Outcome::Unsupported(message), None) => {
                surprises.push(format!("{}: {message}", case.name));
            }
            (Outcome::Passed, Some(_)) => surprises.push(format!("{} passes now", case.name)),
            _ => {}
        }
    }
    for (operator, score) in scores.operators() {
        println!("{operator:28} {:3} of {:3}", score.passed, score.total());
    }
    let sum = scores.sum();
    println!("{} of {} cases pass, {} submits", sum.passed, sum.total(), gpu.counts().submits);
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}
