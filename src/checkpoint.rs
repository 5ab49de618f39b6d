//! A model's files as what a session uploads: the dtypes of matrices, their rows, and the check
//! that every tensor the graphs want is there in the shape they want.

use crate::graph::{Graph, Segment, Source, WeightSource};
use crate::nn::WeightTypes;
use crate::session::WeightRows;
use crate::tensor::{DType, Shape, Spec};
use crate::weights::{ConversionReport, RowFormat, Weights, convert_rows};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Endings of tensors that published checkpoints carry though they are computed, not learned, or
/// of no use once a model is trained.
const COMPUTED: [&str; 9] = [
    ".rotary_emb.inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
    // Batch norms count the steps of the training.
    ".num_batches_tracked",
    // Always 0, 1, 2, ...
    ".dfl.conv.weight",
    // Tasks other than classification read it.
    ".pooler.dense.weight",
    ".pooler.dense.bias",
];

/// Named tensors of a model with the dtype that its matrices are to have on the device.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    weights: &'a dyn Weights,
    /// Where the tensors come from, for messages.
    path: PathBuf,
    dtype: Option<DType>,
    report: Mutex<ConversionReport>,
    /// Tensor that was read last; its mapped pages are released when another one is read.
    last: Mutex<String>,
}

impl<'a> Checkpoint<'a> {
    /// Reads from `weights`. Matrices keep their dtype, or get `dtype` if that is given.
    pub fn new(weights: &'a dyn Weights, path: impl Into<PathBuf>, dtype: Option<DType>) -> Self {
        Self { weights, path: path.into(), dtype, report: Mutex::default(), last: Mutex::default() }
    }

    /// What the conversions so far saw: NaN and infinite values, overflows.
    pub fn report(&self) -> ConversionReport {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that every tensor that the graphs read is there with the right shape, and that no
    /// tensor below `root` is left over.
    ///
    /// # Errors
    /// [`Error::File`] that lists all missing, misshapen and extra tensors.
    pub fn check<'g>(
        &self,
        graphs: impl IntoIterator<Item = &'g Graph>,
        root: &str,
        tied_head: &str,
    ) -> Result<()> {
        let mut wanted: BTreeMap<&str, &Shape> = BTreeMap::new();
        for graph in graphs {
            for (_, value) in graph.values() {
                if let Source::Weight(source) = &value.source {
                    wanted.extend(source.segments.iter().map(|part| (part.tensor.as_str(), &part.shape)));
                }
            }
        }
        let mut problems = Vec::new();
        for (name, shape) in &wanted {
            match self.weights.spec(name) {
                Some(spec) if spec.shape == **shape => {}
                Some(spec) => problems.push(format!("`{name}`: expected shape {shape}, got {spec}")),
                None => {
                    problems.push(format!("`{name}`: expected shape {shape}, {}", self.weights.absent(name)));
                }
            }
        }
        let wanted: BTreeSet<&str> = wanted.into_keys().collect();
        for name in self.weights.names() {
            let computed = COMPUTED.iter().any(|ending| name.ends_with(ending));
            if wanted.contains(name) || computed || name == tied_head {
                continue;
            }
            if name.starts_with(root) {
                problems.push(format!("`{name}`: the model has no such tensor"));
            } else {
                log::warn!("{}: tensor `{name}` is not used", self.path.display());
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        let count = problems.len();
        Err(Error::file(&self.path, format!("{count} tensors do not fit:\n  {}", problems.join("\n  "))))
    }

    /// Converts rows of one segment.
    fn convert(&self, part: &Segment, rows: Range<usize>, format: RowFormat) -> Result<Vec<u8>> {
        self.release_other(&part.tensor);
        let view = self.weights.require(&part.tensor)?;
        let mut report = ConversionReport::default();
        let bytes = convert_rows(&view, rows, format, &mut report)?;
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) += report;
        Ok(bytes)
    }

    fn release_other(&self, tensor: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != tensor {
            if !last.is_empty() {
                self.weights.release(&last);
            }
            tensor.clone_into(&mut last);
        }
    }

    /// A vector put together from parts of vectors, or of tensors of any shape taken as such.
    fn vector(&self, source: &WeightSource, dtype: DType) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for part in &source.segments {
            let (rows, cols) = part.shape.rows_and_cols();
            let format = RowFormat { dtype, pitch: cols, transposed: false };
            let whole = self.convert(part, 0..rows, format)?;
            bytes.extend_from_slice(&whole[part.rows.start * dtype.size()..part.rows.end * dtype.size()]);
        }
        Ok(bytes)
    }
}

impl WeightTypes for Checkpoint<'_> {
    fn matrix(&self, tensor: &str) -> DType {
        let stored = || self.weights.spec(tensor).map(|spec| spec.dtype);
        match self.dtype.or_else(stored) {
            Some(dtype @ (DType::F32 | DType::F16 | DType::BF16)) => dtype,
            _ => DType::F32,
        }
    }
}

impl WeightRows for Checkpoint<'_> {
    fn rows(&self, source: &WeightSource, spec: &Spec, rows: Range<usize>, pitch: usize) -> Result<Vec<u8>> {
        if spec.shape.rank() == 1 {
            return self.vector(source, spec.dtype);
        }
        let format = RowFormat { dtype: spec.dtype, pitch, transposed: source.transposed };
        let mut bytes = Vec::with_capacity(rows.len() * pitch * spec.dtype.size());
        let mut first = 0;
        for part in &source.segments {
            let here = first..first + part.rows.len();
            let (start, end) = (rows.start.max(here.start), rows.end.min(here.end));
            if start < end {
                let offset = part.rows.start;
                bytes.extend(self.convert(part, start - first + offset..end - first + offset, format)?);
            }
            first = here.end;
        }
        Ok(bytes)
    }
}
