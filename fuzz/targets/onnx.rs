//! ONNX models and tensors as files.

use super::{folder, write};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use wginfer::kernel::Caps;
use wginfer::onnx::{OnnxLimits, check_bytes, check_model, model_dot, read_tensor};

/// Limits that keep a run short.
pub(super) const LIMITS: OnnxLimits = OnnxLimits {
    file_bytes: 1 << 20,
    nodes: 500,
    elements: 1 << 18,
    host_elements: 1 << 12,
    time: Duration::from_secs(1),
};

/// The bytes are a model's file, and a tensor's. Beside it lies `data.bin` with 64 bytes.
pub(crate) fn onnx(data: &[u8]) {
    let _ = read_tensor(Path::new("tensor.pb"), data.to_vec());
    check(data);
    if data.windows(8).any(|part| part == b"location") {
        let folder = folder("onnx");
        let external = folder.join("data.bin");
        if !external.exists() {
            write(&external, &[0; 64]);
        }
        let path = folder.join("model.onnx");
        write(&path, data);
        let _ = check_model(&path, &BTreeMap::new(), LIMITS, &Caps::webgpu_minimum());
        let _ = model_dot(&path, LIMITS);
    }
}

/// Builds the model's graphs, computes what is known, and plans them.
pub(super) fn check(data: &[u8]) {
    let _ = check_bytes(data.to_vec(), &BTreeMap::new(), LIMITS, &Caps::webgpu_minimum());
}
