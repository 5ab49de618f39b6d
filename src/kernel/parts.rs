//! How values lie on the device: plain, or as padded rows split into bindable parts.

use super::Caps;
use crate::tensor::{DType, Spec};

/// How an operator wants one of its inputs to lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layout {
    /// Tightly packed, one buffer.
    Plain,
    /// A matrix whose rows are padded with zeros to [`row_pitch`] elements, and which is split
    /// into row parts where it exceeds the binding limit. For weights only.
    Rows,
}

/// Elements from one row of a [`Layout::Rows`] matrix to the next: rows start at 16 bytes,
/// so that kernels load whole vectors and never read past a row.
pub const fn row_pitch(cols: usize, dtype: DType) -> usize {
    let per_vector = 16 / dtype.size();
    cols.div_ceil(per_vector) * per_vector
}

/// Some rows of a matrix that are bound as one buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowPart {
    /// First row.
    pub start: usize,
    /// Number of rows.
    pub rows: usize,
}

/// The parts that a [`Layout::Rows`] matrix is split into on this device: each within the
/// binding limit, each but the last a multiple of 64 rows. Uploading and launching both ask here.
pub fn row_parts(matrix: &Spec, caps: &Caps) -> Vec<RowPart> {
    let (rows, cols) = matrix.shape.rows_and_cols();
    let row_bytes = (row_pitch(cols, matrix.dtype) * matrix.dtype.size()).max(1) as u64;
    let limit = caps.max_binding_bytes.min(caps.max_buffer_bytes);
    let fit = usize::try_from(limit / row_bytes).unwrap_or(usize::MAX);
    let step = if fit >= rows { rows } else { (fit / 64 * 64).max(fit.min(64)) }.max(1);
    (0..rows.max(1)).step_by(step).map(|start| RowPart { start, rows: step.min(rows - start) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_rows_within_the_limit() {
        let caps = Caps { max_binding_bytes: 10_000, ..Caps::webgpu_minimum() };
        let matrix = Spec::f32([300, 19]);
        let parts = row_parts(&matrix, &caps);
        assert_eq!(parts.iter().map(|part| part.rows).collect::<Vec<_>>(), [64, 64, 64, 64, 44]);
        assert_eq!(row_parts(&matrix, &Caps::webgpu_minimum()).len(), 1);
    }
}
