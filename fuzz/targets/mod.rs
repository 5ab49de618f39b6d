//! What the fuzz targets do with their bytes. Nothing may panic, run for seconds or take much memory; errors are
//! expected. The targets of `fuzz_targets` run these functions on what libFuzzer makes, the test
//! `tests/fuzz_seeds.rs` on the seeds.
#![allow(dead_code, unused_imports, reason = "each program uses one of the targets")]

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

use std::cell::RefCell;
use std::panic::{catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Once};

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

thread_local! {
    /// The panics of a guarded run, each with its place; none outside of one.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Runs a body in which the library turns panics of other crates into errors. libFuzzer's hook ends the process at
/// any panic, this one keeps messages: what leaves the library is a finding, and any panic of the library's own.
fn guarded(body: fn(&[u8]), data: &[u8]) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            let ours = panic.location().is_some_and(|location| is_ours(Path::new(location.file())));
            let text = format!("{}{panic}", if ours { "ours: " } else { "" });
            let kept = PANICS.with_borrow_mut(|panics| panics.as_mut().map(|panics| panics.push(text)));
            if kept.is_none() {
                usual(panic);
            }
        }));
    });
    PANICS.set(Some(Vec::new()));
    let result = catch_unwind(|| body(data));
    let panics = PANICS.take().unwrap_or_default();
    let text = panics.join("\n");
    match result {
        Err(_) => panic!("{text}"),
        Ok(()) => assert!(!panics.iter().any(|text| text.starts_with("ours: ")), "{text}"),
    }
}

/// Whether a source file is one of this repository: compilers name those of a workspace relative to it.
fn is_ours(file: &Path) -> bool {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = if manifest.ends_with("fuzz") { manifest.parent().unwrap_or(manifest) } else { manifest };
    file.is_relative() || file.starts_with(root.join("src")) || file.starts_with(root.join("models"))
}
