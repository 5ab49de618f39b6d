//! `wginfer tune` and `--explain`: what is measured is kept for the adapter, used by the commands
//! that follow, and changes no result; files that cannot be used are passed over.

mod common;
#[path = "common/onnx_file.rs"]
mod onnx_file;
#[path = "common/program.rs"]
mod program;

use program::{text, wginfer};
use std::path::{Path, PathBuf};
use std::process::Output;
use wginfer::kernel::{Selected, Tuned, Tuning};
use wginfer::session::plan_graph;
use wginfer::text::{InfoOptions, model_graphs};
use wginfer::tuning::write_tuning;

/// The small random Llama of the goldens.
const LLAMA: &str = "tests/goldens/llama2";

/// Runs with a cache folder of its own.
fn run_in(cache: &Path, arguments: &[&str]) -> Output {
    let output =
        wginfer(arguments).env("WGINFER_CACHE", cache).env_remove("WGINFER_TUNING").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    output
}

/// The one file in a cache of measured choices.
fn only_file(cache: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(cache.join("tuning")).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none(), "one file for the adapter");
    file
}

const GENERATE: [&str; 8] =
    ["generate", LLAMA, "--prompt-ids", "1,9,14", "--max-tokens", "4", "--temperature", "0"];

#[test]
fn a_model_is_measured_and_runs_the_same() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let before = run_in(&cache, &GENERATE);
    assert!(!cache.join("tuning").exists(), "only tuning writes there");
    let output = run_in(&cache, &["tune", LLAMA, "--ctx", "32", "--runs", "1"]);
    let table = text(&output.stdout);
    assert!(table.starts_with("operator "), "{table}");
    assert!(table.lines().filter(|line| line.starts_with("linear ")).count() > 3, "{table}");
    assert!(!table.contains("left out"), "{table}");
    assert!(text(&output.stderr).contains("are kept in"), "{}", text(&output.stderr));
    let file = only_file(&cache);
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(kept["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(run_in(&cache, &GENERATE).stdout, before.stdout);
}

/// What could be chosen for the small Llama.
fn selected() -> Vec<Selected> {
    let graphs = model_graphs(Path::new(LLAMA), InfoOptions::default()).unwrap();
    let caps = common::gpu().unwrap().caps();
    let plans = graphs.into_iter().map(|graph| plan_graph(graph, caps).unwrap());
    plans.flat_map(|plan| plan.selected().cloned().collect::<Vec<_>>()).collect()
}

/// Tells that for every class of shapes the choice of `other` was measured as twice as fast.
fn write_choices(file: &Path, other: impl Fn(&Selected) -> Option<String>) {
    let entry = |selected: &Selected| {
        let key = (selected.family.to_owned(), selected.class.clone());
        Some((key, Tuned { choice: other(selected)?, than: selected.choice.to_owned(), ratio: 2.0 }))
    };
    let tuning: Tuning = selected().iter().filter_map(entry).collect();
    write_tuning(file, &common::gpu().unwrap().adapter().to_string(), &tuning).unwrap();
}

#[test]
fn what_was_measured_is_used_and_what_does_not_fit_is_passed_over() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    run_in(cache, &["tune", LLAMA, "--ctx", "16", "--runs", "1"]);
    let (file, explain) = (only_file(cache), [&GENERATE[..], &["--explain"]].concat());
    let by_rule = run_in(cache, &[&explain[..], &["--no-tuning"]].concat());
    let words = text(&by_rule.stderr);
    assert!(
        words.contains("x linear f32[1, ") && words.contains("linear: ") && words.contains("(rule: "),
        "{words}"
    );
    write_choices(&file, |it| it.candidates.iter().find(|name| **name != it.choice).map(|&name| name.into()));
    let tuned = run_in(cache, &explain);
    assert!(text(&tuned.stderr).contains("(tuned: 2.00x faster than "), "{}", text(&tuned.stderr));
    assert_eq!(tuned.stdout, by_rule.stdout);
    write_choices(&file, |_| Some("what other devices have".into()));
    let foreign = run_in(cache, &explain);
    assert!(!text(&foreign.stderr).contains("tuned: "), "{}", text(&foreign.stderr));
    assert_eq!(foreign.stdout, by_rule.stdout);
    std::fs::write(&file, "{\"version\": 1").unwrap();
    let broken = run_in(cache, &GENERATE);
    assert!(text(&broken.stderr).contains("measured choices of kernels are not used"), "no warning");
    assert_eq!(broken.stdout, by_rule.stdout);
    let off = wginfer(&GENERATE).env("WGINFER_CACHE", cache).output().unwrap();
    assert!(!text(&off.stderr).contains("measured choices"), "{}", text(&off.stderr));
}

#[test]
fn networks_and_arrays_are_measured_and_explained() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    let table = run_in(cache, &["tune", "models/pretrained/digits", "--runs", "1"]).stdout;
    assert!(text(&table).contains("conv"), "{}", text(&table));
    let digit = "models/pretrained/digits/samples/digit_7.png";
    let explained = run_in(cache, &["classify", digit, "--explain"]);
    let words = text(&explained.stderr);
    assert!(words.contains("plan of ") && words.contains("      kernel "), "{words}");
    let model = folder.path().join("small.onnx");
    std::fs::write(&model, onnx_file::small_model()).unwrap();
    let model = model.to_str().unwrap();
    run_in(cache, &["tune", model, "--shape", "x=2x3", "--runs", "1"]);
    let explained = run_in(cache, &["run", model, "--shape", "x=2x3", "--explain"]);
    assert!(text(&explained.stderr).contains("plan of "), "{}", text(&explained.stderr));
    let refused = wginfer(&["tune", "--shape", "7b"]).env("WGINFER_CACHE", cache).output().unwrap();
    let message = text(&refused.stderr);
    assert!(
        refused.status.code() == Some(2) && message.contains("15m, 124m, 1b, squeezenet1_1"),
        "{message}"
    );
}
