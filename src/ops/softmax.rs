//! Softmax over the last axis.

use super::cases::{Case, ROW_SHAPES, Random};
use super::cost::rows_issued;
use super::{Cost, Expect, Inputs, Op};
use crate::Result;
use crate::kernel::{Candidate, Caps, Family, Form, Kernel, Launches, Operand, RowSpread, Rule};
use crate::kernel::{count, params, size_class};
use crate::tensor::{DType, Spec, Tensor};

static SOFTMAX: Kernel = Kernel::new("softmax", include_str!("../../shaders/softmax.wgsl"));
static PARTS: Kernel = Kernel::new("softmax_parts", include_str!("../../shaders/softmax_parts.wgsl"));
static MERGE: Kernel = Kernel::new("softmax_merge", include_str!("../../shaders/softmax_merge.wgsl"));

params!(
    struct Params {
        rows: u32,
        rows_per_group: u32,
        chunks: u32,
    }
);

params!(
    struct PartsParams {
        rows: u32,
        rows_per_group: u32,
        chunks: u32,
        parts: u32,
        part_chunks: u32,
    }
);

/// Workgroups that keep a GPU busy: rows are split into parts until there are so many.
const BUSY_WORKGROUPS: usize = 256;

/// Fewest chunks of a part, so that it outweighs the cost of another dispatch.
const FEWEST_CHUNKS: usize = 512;

/// e^(x - max) / sum e^(x - max) over the last axis: f32 `[.., cols]` to the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {
    /// Whether to return the natural logarithm of it.
    pub logarithm: bool,
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", &[DType::F32])?;
        Ok(vec![input.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let (rows, cols) = inputs[0].shape.rows_and_cols();
        let (choice, selected) = FAMILY.select(caps, &Sizes { rows, cols });
        let launches = match choice {
            Choice::Rows => {
                let spread = RowSpread::new(rows, cols, caps);
                let params = Params {
                    rows: spread.rows,
                    rows_per_group: spread.rows_per_group,
                    chunks: spread.chunks,
                };
                let launch = spread.launch(&SOFTMAX).variant("logarithm", self.logarithm);
                launch.params(params).bind_all(1, 1).into()
            }
            Choice::Parts => self.parts(caps, rows, cols),
        };
        Ok(launches.selected(selected))
    }

    fn cost(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        Cost::of_traffic(inputs, outputs).functions(inputs[0].elements())
    }

    fn issued(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        // Both passes load the row and take exponentials, the second none for a logarithm.
        let passes = if self.logarithm { 1 } else { 2 };
        rows_issued(inputs, outputs, 2).functions(passes * inputs[0].elements())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (_, cols) = inputs[0].spec().shape.rows_and_cols();
        let mut values = inputs[0].to_f64();
        for row in values.chunks_exact_mut(cols.max(1)) {
            let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = row.iter().map(|x| (x - highest).exp()).sum();
            for x in row {
                *x = if self.logarithm { *x - highest - total.ln() } else { (*x - highest).exp() / total };
            }
        }
        Ok(vec![Tensor::from_f64(DType::F32, inputs[0].dims(), &values)])
    }
}

impl Softmax {
    /// Each row in parts, whose maxima and sums are found first.
    fn parts(&self, caps: &Caps, rows: usize, cols: usize) -> Launches {
        let vectors = cols.is_multiple_of(4);
        let chunks = if vectors { cols / 4 } else { cols };
        let busy = if caps.form() == Form::Software { 4 } else { BUSY_WORKGROUPS };
        let part = chunks.div_ceil(busy.div_ceil(rows)).max(FEWEST_CHUNKS.min(chunks.div_ceil(2)));
        let parts = chunks.div_ceil(part);
        let spread = RowSpread::of_chunks(rows * parts, part, vectors, caps);
        let params = PartsParams {
            rows: spread.rows,
            rows_per_group: spread.rows_per_group,
            chunks: count(chunks),
            parts: count(parts),
            part_chunks: count(part),
        };
        let first = spread.launch(&PARTS).params(params).bind([Operand::Input(0), Operand::Scratch(0)]);
        let second = spread.launch(&MERGE).variant("logarithm", self.logarithm).params(params);
        let second = second.bind([Operand::Input(0), Operand::Scratch(0), Operand::Output(0)]);
        let scratch = vec![Spec::f32([rows, parts, 2])];
        Launches { steps: vec![first, second], scratch, ..Launches::default() }
    }
}

/// How rows are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Each by one lane, subgroup or workgroup.
    Rows,
    /// Each in parts by several, in two dispatches.
    Parts,
}

/// What is known of a shape when a choice is made.
#[derive(Debug)]
struct Sizes {
    rows: usize,
    cols: usize,
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", size_class(self.rows), self.cols)
    }
}

static FAMILY: Family<Sizes, Choice> = Family {
    name: "softmax",
    choices: &[
        Candidate::new("rows", Choice::Rows, |_, _| true),
        Candidate::new("parts", Choice::Parts, |_, it| it.cols >= 2 && it.rows <= BUSY_WORKGROUPS),
    ],
    rules: &[
        Rule::new(
            Choice::Parts,
            |caps, it| caps.form() == Form::Software && it.rows == 1 && it.cols >= 16_384,
            "one long row would leave cores idle",
        ),
        Rule::new(
            Choice::Parts,
            |caps, it| caps.form() != Form::Software && it.rows <= 64 && it.cols >= 16_384,
            "few long rows would leave a GPU idle",
        ),
        Rule::new(Choice::Rows, |_, _| true, "enough rows, or short ones"),
    ],
};

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(8);
    let mut cases = Vec::new();
    for dims in ROW_SHAPES {
        for logarithm in [false, true] {
            let input = random.tensor(DType::F32, dims, 8.0);
            let name = format!("{dims:?}{}", if logarithm { " logarithm" } else { "" });
            cases.push(Case::new(name, Softmax { logarithm }, vec![input]));
        }
    }
    for dims in [[1, 200_000], [2, 200_001], [40, 30_001]] {
        let input = random.tensor(DType::F32, dims, 8.0);
        cases.push(Case::new(format!("{dims:?}"), Softmax { logarithm: true }, vec![input]));
    }
    let large = Tensor::from_f32([2, 3], &[1e4, 1e4, -1e4, f32::NEG_INFINITY, 0.0, -200.0]);
    cases.push(Case::new("large values and minus infinity", Softmax { logarithm: false }, vec![large]));
    // Masked positions, also where a lane or the first chunks have no other.
    let mut masked = random.tensor(DType::F32, [3, 516], 8.0).to_f64();
    masked[..500].fill(f64::NEG_INFINITY);
    masked[700..1032].fill(f64::NEG_INFINITY);
    masked[1032..1540].fill(f64::NEG_INFINITY);
    let masked = Tensor::from_f64(DType::F32, [3, 516], &masked);
    cases.push(Case::new("masked", Softmax { logarithm: false }, vec![masked]));
    let scalar = Tensor::from_f32(vec![], &[3.0]);
    cases.push(Case::new("scalar", Softmax { logarithm: false }, vec![scalar]));
    cases
}
