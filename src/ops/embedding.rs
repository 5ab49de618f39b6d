//! Rows of a table by their ids.

use super::cases::{Case, Random};
use super::{Cost, Expect, Inputs, Op};
use crate::kernel::{
    Caps, Kernel, Launch, Launches, Layout, Operand, Spread, count, params, row_parts, row_pitch,
};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static EMBEDDING: Kernel = Kernel::new("embedding", include_str!("../../shaders/embedding.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        cols: u32,
        columns: u32,
        pitch_vectors: u32,
        first_row: u32,
        part_rows: u32,
        table_rows: u32,
        from_end: u32,
        scale: f32,
    }
);

/// Rows of a table, times a scale.
///
/// Inputs: table f32, f16 or bf16 `[vocab, width]`; ids `[rows]`, u32, or i32 where negative ones
/// count from the end. Output: f32 `[rows, width]`; an id outside the table gives zeros.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// Factor of the rows.
    #[serde(with = "super::float")]
    pub scale: f32,
}

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [table, ids] = inputs.exactly(self)?;
        table.expect_dtype(self, "the table", &[DType::F32, DType::F16, DType::BF16])?;
        ids.expect_dtype(self, "ids", &[DType::U32, DType::I32])?;
        match (table.shape.dims(), ids.shape.dims()) {
            (&[_, width], &[rows]) => Ok(vec![Spec::f32([rows, width])]),
            _ => Err(Error::op(
                self.name(),
                format!("takes a table [vocab, width] and ids [rows], got {table} and {ids}"),
            )),
        }
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let (table_rows, width) = inputs[0].shape.rows_and_cols();
        let (rows, _) = outputs[0].shape.rows_and_cols();
        let row_vectors = width.div_ceil(4);
        let spread = Spread::new(rows * row_vectors, caps);
        let step = |(part, range): (usize, crate::kernel::RowPart)| -> Launch {
            let params = Params {
                items: spread.items,
                per_group: spread.per_group,
                cols: count(width),
                columns: count(row_vectors),
                pitch_vectors: count(row_pitch(width, inputs[0].dtype) / 4),
                first_row: count(range.start),
                part_rows: count(range.rows),
                table_rows: count(table_rows),
                from_end: (inputs[1].dtype == DType::I32).into(),
                scale: self.scale,
            };
            let launch = spread.launch(&EMBEDDING).variant("weight_dtype", inputs[0].dtype.name());
            let bindings = [Operand::InputPart(0, part), Operand::Input(1), Operand::Output(0)];
            launch.variant("whole", width.is_multiple_of(4)).params(params).bind(bindings)
        };
        Ok(row_parts(&inputs[0], caps).into_iter().enumerate().map(step).collect::<Vec<_>>().into())
    }

    fn layout(&self, input: usize) -> Layout {
        if input == 0 { Layout::Rows } else { Layout::Plain }
    }

    fn cost(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        // Only the rows that are asked for.
        let rows = inputs[1].elements() * inputs[0].shape.dims()[1] * inputs[0].dtype.size();
        let others = Cost::of_traffic(&inputs[1..], outputs);
        Cost { read: rows as u64 + others.read, ..others }
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (table_rows, width) = inputs[0].spec().shape.rows_and_cols();
        let (table, ids) = (inputs[0].to_f64(), inputs[1].to_u32());
        let mut values = Vec::with_capacity(ids.len() * width);
        for id in &ids {
            let negative = inputs[1].dtype() == DType::I32 && id.cast_signed() < 0;
            let row = if negative { id.wrapping_add(table_rows as u32) } else { *id } as usize;
            for column in 0..width {
                let value = if row < table_rows { table[row * width + column] } else { 0.0 };
                values.push(value * f64::from(self.scale));
            }
        }
        Ok(vec![Tensor::from_f64(DType::F32, [ids.len(), width], &values)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(24);
    let mut cases = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for (vocab, width, rows) in [(1, 1, 1), (53, 64, 1), (131, 36, 33), (300, 7, 17), (257, 288, 9)] {
            let mut ids: Vec<u32> = (0..rows).map(|_| random.below(vocab)).collect();
            if rows > 9 {
                (ids[0], ids[1]) = (vocab, u32::MAX);
            }
            let inputs =
                vec![random.tensor(dtype, [vocab as usize, width], 1.0), Tensor::from_u32([rows], &ids)];
            let name = format!("{rows} of {vocab} x {width} {dtype}");
            if rows > 9 && dtype == DType::F16 {
                let ids: Vec<i32> = ids.iter().enumerate().map(|(i, &id)| id as i32 - i as i32).collect();
                let inputs = vec![inputs[0].clone(), Tensor::from_i32([rows], &ids)];
                cases.push(Case::new(format!("{name} from the end"), Embedding { scale: 1.0 }, inputs));
            }
            cases.push(Case::new(name.clone(), Embedding { scale: 1.5 }, inputs.clone()));
            if rows > 9 {
                let split = Case::new(format!("{name} in parts"), Embedding { scale: 1.0 }, inputs);
                cases.push(split.max_binding_bytes(12_000));
            }
        }
    }
    cases
}
