//! Arrays of .npz files as inputs and outputs of ONNX models.

use crate::common;
use std::collections::BTreeMap;
use std::path::Path;
use wginfer::onnx::OnnxTensor;

/// The arrays of an .npz file as tensors.
pub(crate) fn arrays(path: &Path) -> BTreeMap<String, OnnxTensor> {
    let tensor = |array: common::NpzArray| match array.dtype.as_str() {
        "<f4" => {
            let values: Vec<f32> =
                array.bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
            OnnxTensor::from_f32(array.dims, &values)
        }
        "<i8" => {
            let values: Vec<i64> =
                array.bytes.as_chunks().0.iter().map(|value| i64::from_le_bytes(*value)).collect();
            OnnxTensor::from_i64(array.dims, &values)
        }
        other => panic!("{}: dtype {other}", path.display()),
    };
    common::npz_arrays(path).into_iter().map(|(name, array)| (name, tensor(array))).collect()
}

/// The inputs and outputs of a case: arrays named `PREFIX.in.NAME` and `PREFIX.out.NAME`.
pub(crate) fn case<'a>(
    arrays: &'a BTreeMap<String, OnnxTensor>,
    prefix: &str,
) -> [Vec<(&'a str, OnnxTensor)>; 2] {
    ["in", "out"].map(|side| {
        let start = format!("{prefix}.{side}.");
        let named = arrays.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(&start)?, tensor)));
        named.map(|(name, tensor)| (name, tensor.clone())).collect()
    })
}
