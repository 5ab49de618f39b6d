//! Rows of a matrix in the dtype, order and pitch in which they are uploaded.
//!
//! Values are rounded to nearest, ties to even. Sources and targets are little-endian bytes at
//! any alignment; values pass through small buffers that stay in the first-level cache.

use super::TensorView;
use crate::tensor::DType;
use crate::{Error, Result};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::ops::Range;

/// Values converted at once.
const CHUNK: usize = 256;
/// Side of the square blocks in which a matrix is transposed.
const TILE: usize = 64;

/// How rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowFormat {
    /// Dtype of the elements.
    pub dtype: DType,
    /// Elements from one row to the next, at least the number of columns; the rest is zeros.
    pub pitch: usize,
    /// Whether the file holds the transposed matrix: `[cols, rows]` instead of `[rows, cols]`.
    pub transposed: bool,
}

/// What was seen among converted values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConversionReport {
    /// Source values that are NaN or infinite.
    pub nan_or_inf: u64,
    /// Finite source values that became infinite in the target dtype.
    pub overflowed: u64,
}

impl std::ops::AddAssign for ConversionReport {
    fn add_assign(&mut self, other: Self) {
        self.nan_or_inf += other.nan_or_inf;
        self.overflowed += other.overflowed;
    }
}

/// Converts some rows of a matrix; see [`convert_rows_into`].
///
/// # Errors
/// [`Error::Unsupported`] when there is no conversion between the dtypes.
pub fn convert_rows(
    view: &TensorView<'_>,
    rows: Range<usize>,
    format: RowFormat,
    report: &mut ConversionReport,
) -> Result<Vec<u8>> {
    let mut output = vec![0; rows.len() * format.pitch * format.dtype.size()];
    convert_rows_into(view, rows, format, &mut output, report)?;
    Ok(output)
}

/// Writes some rows of a matrix to `output`, which holds `rows.len() * pitch` elements.
///
/// The view's shape is taken as `[rows, cols]` with all leading dimensions as rows, or, when
/// transposed, as `[cols, rows]` with all leading dimensions as columns. Conversions between
/// f32, f16, bf16 and f64, and from every dtype to itself; `report` counts what was seen.
///
/// # Errors
/// [`Error::Unsupported`] when there is no conversion between the dtypes.
///
/// # Panics
/// When the rows, the pitch or the size of `output` do not fit the matrix.
pub fn convert_rows_into(
    view: &TensorView<'_>,
    rows: Range<usize>,
    format: RowFormat,
    output: &mut [u8],
    report: &mut ConversionReport,
) -> Result<()> {
    let (from, to) = (view.spec.dtype, format.dtype);
    if from != to && !(from.is_float() && to.is_float()) {
        return Err(Error::Unsupported(format!("conversion of weights from {from} to {to}")));
    }
    let (outer, inner) = view.spec.shape.rows_and_cols();
    let (all_rows, cols) = if format.transposed { (inner, outer) } else { (outer, inner) };
    assert!(rows.start <= rows.end && rows.end <= all_rows, "rows {rows:?} of a matrix of {all_rows} rows");
    assert!(format.pitch >= cols, "pitch {} of rows of {cols} elements", format.pitch);
    assert_eq!(output.len(), rows.len() * format.pitch * to.size(), "bytes of the converted rows");
    assert_eq!(view.bytes.len() as u64, view.spec.bytes(), "bytes of a tensor {}", view.spec);
    if output.is_empty() {
        return Ok(());
    }
    if format.transposed {
        let matrix = Transposed { bytes: view.bytes, from, rows: all_rows, cols };
        match from.size() {
            1 => matrix.convert::<1>(rows, format, output, report),
            2 => matrix.convert::<2>(rows, format, output, report),
            4 => matrix.convert::<4>(rows, format, output, report),
            _ => matrix.convert::<8>(rows, format, output, report),
        }
        return Ok(());
    }
    let row_bytes = cols * from.size();
    let source = &view.bytes[rows.start * row_bytes..rows.end * row_bytes];
    if format.pitch == cols {
        convert_run(source, from, output, to, report);
        return Ok(());
    }
    for (row, target) in output.chunks_exact_mut(format.pitch * to.size()).enumerate() {
        let (values, padding) = target.split_at_mut(cols * to.size());
        convert_run(&source[row * row_bytes..(row + 1) * row_bytes], from, values, to, report);
        padding.fill(0);
    }
    Ok(())
}

/// A matrix of which the file holds the columns one after the other.
struct Transposed<'a> {
    bytes: &'a [u8],
    from: DType,
    rows: usize,
    cols: usize,
}

impl Transposed<'_> {
    /// Converts rows tile by tile. `SIZE` is the size of a source element in bytes.
    fn convert<const SIZE: usize>(
        &self,
        rows: Range<usize>,
        format: RowFormat,
        output: &mut [u8],
        report: &mut ConversionReport,
    ) {
        let source = self.bytes.as_chunks::<SIZE>().0; // [cols, rows]
        let size = format.dtype.size();
        let row_bytes = format.pitch * size;
        let mut tile = [[[0; SIZE]; TILE]; TILE]; // [row, col]
        for first_row in rows.clone().step_by(TILE) {
            let tile_rows = TILE.min(rows.end - first_row);
            let start = (first_row - rows.start) * row_bytes;
            let target = &mut output[start..start + tile_rows * row_bytes];
            for first_col in (0..self.cols).step_by(TILE) {
                let tile_cols = TILE.min(self.cols - first_col);
                for col in 0..tile_cols {
                    let start = (first_col + col) * self.rows + first_row;
                    for (tile_row, value) in tile.iter_mut().zip(&source[start..start + tile_rows]) {
                        tile_row[col] = *value;
                    }
                }
                for (tile_row, target) in tile.iter().zip(target.chunks_exact_mut(row_bytes)) {
                    let values = &mut target[first_col * size..(first_col + tile_cols) * size];
                    convert_run(
                        tile_row[..tile_cols].as_flattened(),
                        self.from,
                        values,
                        format.dtype,
                        report,
                    );
                }
            }
            for target in target.chunks_exact_mut(row_bytes) {
                target[self.cols * size..].fill(0);
            }
        }
    }
}

/// Converts consecutive elements.
fn convert_run(source: &[u8], from: DType, target: &mut [u8], to: DType, report: &mut ConversionReport) {
    if from == to {
        target.copy_from_slice(source);
        report.nan_or_inf += count_not_finite(source, from);
        return;
    }
    let chunks = source.chunks(CHUNK * from.size()).zip(target.chunks_mut(CHUNK * to.size()));
    for (source, target) in chunks {
        let before = count_not_finite(source, from);
        convert_chunk(source, from, target, to);
        // A value that is not finite stays so: what came on top overflowed.
        report.overflowed += count_not_finite(target, to) - before;
        report.nan_or_inf += before;
    }
}

/// Converts at most [`CHUNK`] elements between two float types.
fn convert_chunk(source: &[u8], from: DType, target: &mut [u8], to: DType) {
    let mut values = [0.0_f32; CHUNK];
    let values = &mut values[..source.len() / from.size()];
    match (from, to) {
        (DType::F32, _) => load(source, values, f32::from_le_bytes),
        (DType::BF16, _) => load(source, values, |bytes| f32::from_bits(widen(bytes) << 16)),
        (DType::F16, _) => {
            let mut halves = [f16::ZERO; CHUNK];
            let halves = &mut halves[..values.len()];
            load(source, halves, f16::from_le_bytes);
            halves.convert_to_f32_slice(values);
        }
        (_, DType::F32) => load(source, values, |bytes| to_nearest(f64::from_le_bytes(bytes))),
        _ => load(source, values, |bytes| to_odd(f64::from_le_bytes(bytes))),
    }
    match to {
        DType::F32 => store(values, target, f32::to_le_bytes),
        DType::F64 => store(values, target, |value| f64::from(value).to_le_bytes()),
        DType::BF16 => store(values, target, |value| bf16::from_f32(value).to_le_bytes()),
        _ => {
            let mut halves = [f16::ZERO; CHUNK];
            let halves = &mut halves[..values.len()];
            halves.convert_from_f32_slice(values);
            store(halves, target, f16::to_le_bytes);
        }
    }
}

fn widen(bytes: [u8; 2]) -> u32 {
    u32::from(u16::from_le_bytes(bytes))
}

fn load<T, const SIZE: usize>(source: &[u8], target: &mut [T], from_bytes: impl Fn([u8; SIZE]) -> T) {
    for (target, source) in target.iter_mut().zip(source.as_chunks::<SIZE>().0) {
        *target = from_bytes(*source);
    }
}

fn store<T: Copy, const SIZE: usize>(source: &[T], target: &mut [u8], to_bytes: impl Fn(T) -> [u8; SIZE]) {
    for (target, source) in target.as_chunks_mut::<SIZE>().0.iter_mut().zip(source) {
        *target = to_bytes(*source);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding is what is wanted")]
fn to_nearest(value: f64) -> f32 {
    value as f32
}

/// Rounds to the neighbouring f32 with an odd last bit unless exact, so that rounding the result
/// again to a shorter type is as good as rounding once (Boldo and Melquiond 2008, "Emulation of
/// FMA and correctly rounded sums: proved algorithms using rounding to odd").
fn to_odd(value: f64) -> f32 {
    let nearest = to_nearest(value);
    if f64::from(nearest) == value || value.is_nan() {
        return nearest;
    }
    let away = f64::from(nearest).abs() > value.abs();
    f32::from_bits((nearest.to_bits() - u32::from(away)) | 1)
}

/// Number of NaNs and infinities.
fn count_not_finite(bytes: &[u8], dtype: DType) -> u64 {
    match dtype {
        DType::F32 => count(bytes, |bytes| u32::from_le_bytes(bytes) & 0x7f80_0000 == 0x7f80_0000),
        DType::F16 => count(bytes, |bytes| u16::from_le_bytes(bytes) & 0x7c00 == 0x7c00),
        DType::BF16 => count(bytes, |bytes| u16::from_le_bytes(bytes) & 0x7f80 == 0x7f80),
        DType::F64 => count(bytes, |bytes| !f64::from_le_bytes(bytes).is_finite()),
        DType::I32 | DType::U32 | DType::I64 | DType::U8 => 0,
    }
}

/// Number of elements that pass a test, in partial sums of 32 bits so that whole vectors count.
fn count<const SIZE: usize>(bytes: &[u8], test: impl Fn([u8; SIZE]) -> bool) -> u64 {
    let partial = |chunk: &[[u8; SIZE]]| chunk.iter().map(|&element| u32::from(test(element))).sum::<u32>();
    bytes.as_chunks::<SIZE>().0.chunks(1 << 20).map(|chunk| u64::from(partial(chunk))).sum()
}
