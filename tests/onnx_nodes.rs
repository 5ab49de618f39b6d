//! The standard's own test cases, one operator each, in ../shared/models/onnx_node_tests, and those
//! of tests/onnx/cases for other operators, attributes and versions (made by
//! tests/onnx/make_cases.py): in every form of the kernels every case must pass but those that
//! tests/onnx/failing.txt lists with a reason, and these must fail. README's tables say the same.
//! WGINFER_CASE=part runs the cases whose name or operator contains it.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wginfer::doctor::caps_with_form;
use wginfer::gpu::Gpu;
use wginfer::kernel::Form;
use wginfer::onnx::{ConformanceCase, OnnxOptions, Outcome, Scores, known_operators, score_table};

/// Fewest cases of an operator without a shared one.
const FEWEST: usize = 5;

/// Cases of other operators, attributes and versions.
fn own_cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/cases")
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

#[test]
fn cases_of_the_standard() {
    let (Some(shared), Some(gpu)) = (common::shared(), common::gpu()) else { return };
    check(gpu, &shared.join("models/onnx_node_tests"));
}

#[test]
fn cases_of_other_operators() {
    let Some(gpu) = common::gpu() else { return };
    check(gpu, &own_cases());
}

/// An operator has cases of the standard, or at least five of ours.
#[test]
fn every_operator_has_cases() {
    let Some(shared) = common::shared() else { return };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for case in ConformanceCase::find(&shared.join("models/onnx_node_tests")).unwrap() {
        *counts.entry(case.operator).or_default() += FEWEST;
    }
    for case in ConformanceCase::find(&own_cases()).unwrap() {
        *counts.entry(case.operator).or_default() += 1;
    }
    let name = |(domain, operator): (&str, &str)| match (domain, operator) {
        // The same function under both domains.
        ("", _) | (_, "SimplifiedLayerNormalization") => operator.to_owned(),
        _ => format!("{domain}.{operator}"),
    };
    let few = known_operators().map(name).filter(|name| counts.get(name).is_none_or(|count| *count < FEWEST));
    let few: Vec<String> = few.collect();
    assert!(few.is_empty(), "fewer than {FEWEST} cases: {few:?}");
}

/// Runs all cases of a folder in all forms, and prints the score by operator as README has it.
fn check(gpu: &Gpu, folder: &Path) {
    let filter = std::env::var("WGINFER_CASE").unwrap_or_default();
    let mut cases = ConformanceCase::find(folder).unwrap();
    cases.retain(|case| case.name.contains(&filter) || case.operator.contains(&filter));
    let forms = Form::ALL.into_iter().filter_map(|form| caps_with_form(gpu.caps(), form));
    let (mut columns, mut surprises) = (Vec::new(), Vec::new());
    for caps in forms {
        let form = caps.form();
        let start = std::time::Instant::now();
        columns.push((form, score(&gpu.with_caps(caps), &cases, &mut surprises)));
        println!("{} form: {:.1?}", form.name(), start.elapsed());
    }
    let table = score_table(&columns);
    println!("{table}");
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let whole = filter.is_empty() && columns.len() == Form::ALL.len();
    assert!(
        !whole || readme.contains(&table),
        "README.md has another table than `conformance --table` prints"
    );
}

/// The score of a device, and the cases that did not come out as they are listed.
fn score(gpu: &Gpu, cases: &[ConformanceCase], surprises: &mut Vec<String>) -> Scores {
    let known = known_failures();
    let form = gpu.caps().form().name();
    let mut scores = Scores::default();
    for case in cases {
        let outcome = case.run(gpu, &OnnxOptions::default());
        scores.count(case, &outcome);
        match (outcome, known.get(&case.name)) {
            (Outcome::Failed(message) | Outcome::Unsupported(message), None) => {
                surprises.push(format!("{form} form, {}: {message}", case.name));
            }
            (Outcome::Passed, Some(_)) => surprises.push(format!("{form} form, {} passes now", case.name)),
            _ => {}
        }
    }
    scores
}
