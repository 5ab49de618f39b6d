//! What the fuzz targets do with their bytes. Nothing may panic, run for seconds or take much memory; errors are
//! expected. The targets of `fuzz_targets` run these functions on what libFuzzer makes, the test
//! `tests/fuzz_seeds.rs` on the seeds.
#![allow(dead_code, reason = "each program uses one of the targets")]

mod config_json;
mod images;
mod nodes;
mod onnx;
mod safetensors;
mod tokenizer_json;

pub(crate) use config_json::config_json;
pub(crate) use images::images;
pub(crate) use nodes::onnx_nodes;
pub(crate) use onnx::onnx;
pub(crate) use safetensors::safetensors;
pub(crate) use tokenizer_json::tokenizer_json;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The folder of this process whose files the loaders read.
static FOLDER: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a temporary folder can be made"));

/// A folder for the files of a target.
fn folder(target: &str) -> PathBuf {
    let folder = FOLDER.path().join(target);
    std::fs::create_dir_all(&folder).expect("a folder in the temporary one can be made");
    folder
}

/// Writes a file that a loader reads.
fn write(path: &Path, data: &[u8]) {
    std::fs::write(path, data).expect("a file in the temporary folder can be written");
}
