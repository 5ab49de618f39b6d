//! The fuzz targets on their seeds: no panic, nothing that takes long.

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Most time for one seed, on a busy machine and without optimisation.
const LONGEST: Duration = Duration::from_secs(10);
/// Most bytes of a seed.
const LARGEST: u64 = 8 << 10;

/// Files below a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut waiting, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { waiting.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// Runs a target on all files of these folders.
fn replay(target: fn(&[u8]), folders: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut failures = Vec::new();
    for path in folders.iter().flat_map(|folder| files(&root.join(folder))) {
        let data = std::fs::read(&path).unwrap();
        let begin = Instant::now();
        let ran = catch_unwind(|| target(&data)).is_ok();
        let took = begin.elapsed();
        let small = !path.starts_with(root.join("fuzz")) || data.len() as u64 <= LARGEST;
        if !(ran && small && took < LONGEST) {
            failures.push(format!(
                "{}: {} bytes, panicked: {}, took {took:?}",
                path.display(),
                data.len(),
                !ran
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn safetensors() {
    replay(targets::safetensors, &["fuzz/seeds/safetensors"]);
}

/// Besides its seeds: the models and tensors of the cases of operators.
#[test]
fn onnx() {
    replay(targets::onnx, &["fuzz/seeds/onnx", "tests/onnx/cases"]);
}

#[test]
fn onnx_nodes() {
    replay(targets::onnx_nodes, &["fuzz/seeds/onnx_nodes"]);
}

#[test]
fn config_json() {
    replay(targets::config_json, &["fuzz/seeds/config_json"]);
}

#[test]
fn tokenizer_json() {
    replay(targets::tokenizer_json, &["fuzz/seeds/tokenizer_json"]);
}

#[test]
fn images() {
    replay(targets::images, &["fuzz/seeds/images"]);
}
