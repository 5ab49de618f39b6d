//! Files of weights: headers, indices of shards, rows.

use super::{folder, write};
use std::path::Path;
use wginfer::tensor::DType;
use wginfer::weights::{
    Access, ConversionReport, FileWeights, ModelHeader, RowFormat, TensorView, Weights, convert_rows,
};

/// Tensors of a file that are read.
const MOST_TENSORS: usize = 8;
/// Elements of a tensor that is read.
const MOST_ELEMENTS: usize = 1 << 16;

/// A file that begins with a brace is the index of a sharded model, others are safetensors files.
pub(crate) fn safetensors(data: &[u8]) {
    if data.first() == Some(&b'{') {
        let folder = folder("shards");
        for shard in ["a.safetensors", "b.safetensors"] {
            let path = folder.join(shard);
            if !path.exists() {
                write(&path, &shard_of(&shard[..1]));
            }
        }
        write(&folder.join("model.safetensors.index.json"), data);
        read(&folder);
    } else {
        let path = folder("weights").join("model.safetensors");
        write(&path, data);
        read(&path);
    }
}

/// A shard with one f32 tensor `[2]` of this name.
fn shard_of(name: &str) -> Vec<u8> {
    let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}"#);
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 8]].concat()
}

fn read(path: &Path) {
    let header = ModelHeader::read(path);
    let weights = FileWeights::open_with(path, Access::Read);
    assert_eq!(header.is_ok(), weights.is_ok(), "both read the same header");
    let Ok(weights) = weights else { return };
    let _ = (weights.stored_dtypes(), weights.shapes(), weights.absent("none"));
    for name in weights.names().into_iter().take(MOST_TENSORS) {
        match weights.get(name) {
            Some(view) if view.spec.shape.elements() <= MOST_ELEMENTS => convert(&view),
            Some(_) => {}
            None => drop(weights.absent(name)),
        }
        weights.release(name);
    }
}

/// Reads a tensor in the forms in which weights are uploaded.
fn convert(view: &TensorView<'_>) {
    let _ = view.to_tensor();
    let (outer, inner) = view.spec.shape.rows_and_cols();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for transposed in [false, true] {
            let (rows, cols) = if transposed { (inner, outer) } else { (outer, inner) };
            if rows.saturating_mul(cols + 4) > 2 * MOST_ELEMENTS {
                continue;
            }
            for pitch in [cols, cols.next_multiple_of(4)] {
                let format = RowFormat { dtype, pitch, transposed };
                let _ = convert_rows(view, rows / 2..rows, format, &mut ConversionReport::default());
            }
        }
    }
}
