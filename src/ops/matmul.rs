//! Batched matrix products of activations, with broadcasting.

use super::cases::{Case, Random};
use super::tiles::{FOLD, Parts, Tiles};
use super::{Cost, Expect, Inputs, Op, UnaryFn};
use crate::kernel::{Candidate, Caps, Family, Form, Kernel, Launch, Launches, Operand, Rule};
use crate::kernel::{count, groups, params, size_class};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};

static ROWS: Kernel = Kernel::new("matmul_rows", include_str!("../../shaders/matmul_rows.wgsl"));
static TILES: Kernel = Kernel::new("matmul_tiles", include_str!("../../shaders/matmul_tiles.wgsl"));

params!(
    struct Params {
        batch_dims: [u32; 4],
        a_batch: [u32; 4],
        b_batch: [u32; 4],
        m: u32,
        n: u32,
        k: u32,
        alpha: f32,
        a_row: u32,
        a_inner: u32,
        b_inner: u32,
        b_column: u32,
        batches: u32,
        vectors: u32,
        parts: u32,
        part_vectors: u32,
    }
);

/// alpha A B: f32 `[.., m, k]` times f32 `[.., k, n]` to f32 `[.., m, n]`, where the outer
/// dimensions broadcast as in NumPy, and one-dimensional inputs are a row and a column.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatMul {
    /// Whether A lies as `[.., k, m]`.
    pub transpose_a: bool,
    /// Whether B lies as `[.., n, k]`.
    pub transpose_b: bool,
    /// Factor of the product.
    #[serde(with = "super::float")]
    pub alpha: f32,
}

impl MatMul {
    /// A B as they lie.
    pub const PLAIN: Self = Self { transpose_a: false, transpose_b: false, alpha: 1.0 };

    fn problem(&self, inputs: &[Spec]) -> Result<Problem> {
        let [a, b] = inputs.exactly(self)?;
        a.expect_dtype(self, "A", &[DType::F32])?;
        b.expect_dtype(self, "B", &[DType::F32])?;
        let fail = |what: &str| Err(Error::op(self.name(), format!("{what}: {a} times {b}")));
        if a.shape.rank() == 0 || b.shape.rank() == 0 {
            return fail("inputs must have at least one dimension");
        }
        let (a_outer, a_matrix) = matrix(&a.shape, true, self.transpose_a);
        let (b_outer, b_matrix) = matrix(&b.shape, false, self.transpose_b);
        if a_matrix.cols != b_matrix.rows {
            return fail("inner dimensions differ");
        }
        let Some(batch) = Shape::from(a_outer).broadcast(&Shape::from(b_outer)) else {
            return fail("outer dimensions do not broadcast");
        };
        let a_batch = batch_strides(a_outer, a_matrix.rows * a_matrix.cols, batch.rank());
        let b_batch = batch_strides(b_outer, b_matrix.rows * b_matrix.cols, batch.rank());
        let keep = [a.shape.rank() > 1, b.shape.rank() > 1];
        Ok(Problem { a: a_matrix, b: b_matrix, batch: batch.dims().to_vec(), a_batch, b_batch, keep })
    }
}

/// A matrix by strides.
#[derive(Debug, Clone, Copy)]
struct Matrix {
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// Outer dimensions, and the matrix of the last two; a vector is a row (`as_row`) or a column.
fn matrix(shape: &Shape, as_row: bool, transposed: bool) -> (&[usize], Matrix) {
    match *shape.dims() {
        [length] if as_row => (&[], Matrix { rows: 1, cols: length, row_stride: length, col_stride: 1 }),
        [length] => (&[], Matrix { rows: length, cols: 1, row_stride: 1, col_stride: length }),
        [ref outer @ .., cols, rows] if transposed => {
            (outer, Matrix { rows, cols, row_stride: 1, col_stride: rows })
        }
        [ref outer @ .., rows, cols] => (outer, Matrix { rows, cols, row_stride: cols, col_stride: 1 }),
        [] => unreachable!("scalars are refused before"),
    }
}

/// Elements to the next matrix along each of `rank` batch dimensions, 0 where it is broadcast.
fn batch_strides(outer: &[usize], matrix: usize, rank: usize) -> Vec<usize> {
    let mut strides = vec![0; rank];
    let mut stride = matrix;
    for (axis, &size) in outer.iter().enumerate().rev() {
        strides[rank - outer.len() + axis] = if size == 1 { 0 } else { stride };
        stride *= size;
    }
    strides
}

/// What a product computes, by sizes and strides.
#[derive(Debug)]
struct Problem {
    a: Matrix,
    b: Matrix,
    batch: Vec<usize>,
    a_batch: Vec<usize>,
    b_batch: Vec<usize>,
    /// Whether the output keeps the dimension m, and n.
    keep: [bool; 2],
}

impl Problem {
    fn output(&self) -> Spec {
        let mut dims = self.batch.clone();
        dims.extend(
            [(self.keep[0], self.a.rows), (self.keep[1], self.b.cols)].iter().filter(|d| d.0).map(|d| d.1),
        );
        Spec::f32(dims)
    }

    fn batches(&self) -> usize {
        self.batch.iter().product()
    }

    /// Workgroups that make one tile each.
    fn tiles(&self, rows: u32, columns: u32) -> usize {
        self.batches() * self.a.rows.div_ceil(rows as usize) * self.b.cols.div_ceil(columns as usize)
    }

    /// Batch dimensions with neighbours merged that both inputs walk through evenly, as few as
    /// four: sizes, strides of A, strides of B.
    fn merged_batch(&self) -> Option<[[u32; 4]; 3]> {
        let mut axes: Vec<[usize; 3]> = Vec::new();
        for axis in (0..self.batch.len()).rev() {
            let next = [self.batch[axis], self.a_batch[axis], self.b_batch[axis]];
            match axes.last_mut() {
                _ if next[0] == 1 => {}
                Some(inner) if next[1] == inner[0] * inner[1] && next[2] == inner[0] * inner[2] => {
                    inner[0] *= next[0];
                }
                _ => axes.push(next),
            }
        }
        let mut merged = [[1; 4], [0; 4], [0; 4]];
        if axes.len() > 4 {
            return None;
        }
        for (place, axis) in axes.iter().enumerate() {
            for (row, &value) in merged.iter_mut().zip(axis) {
                row[3 - place] = count(value);
            }
        }
        Some(merged)
    }

    /// Value of output element `index` of matrix `batch`.
    fn reference(&self, a: &[f64], b: &[f64], batch: usize, row: usize, column: usize) -> f64 {
        let (mut rest, mut a_start, mut b_start) = (batch, 0, 0);
        for axis in (0..self.batch.len()).rev() {
            let index = rest % self.batch[axis];
            rest /= self.batch[axis];
            a_start += index * self.a_batch[axis];
            b_start += index * self.b_batch[axis];
        }
        let a_at = |k: usize| a[a_start + row * self.a.row_stride + k * self.a.col_stride];
        let b_at = |k: usize| b[b_start + k * self.b.row_stride + column * self.b.col_stride];
        (0..self.a.cols).map(|k| a_at(k) * b_at(k)).sum()
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let batches: usize = self.batch.iter().product();
        let order = |matrix: &Matrix| if matrix.col_stride == 1 { "" } else { "t" };
        let (a, b) = (order(&self.a), order(&self.b));
        write!(f, "{batches}x{}{a}x{}x{}{b}", size_class(self.a.rows), self.b.cols, self.a.cols)
    }
}

/// Which kernel computes a shape class on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Software adapters, blocks of this many rows.
    Rows(u32),
    /// GPUs, in tiles; with the inner dimension in parts or whole.
    Tiles(Tiles, bool),
}

impl Choice {
    /// The parts of the inner dimension, in vectors of four elements.
    fn parts(self, caps: &Caps, problem: &Problem) -> Parts {
        let vectors = problem.a.cols.div_ceil(4);
        match self {
            Self::Tiles(tiles, true) => {
                let sums = problem.batches() * problem.a.rows * problem.b.cols;
                Parts::of_tiles(caps, problem.tiles(tiles.rows, tiles.columns), vectors, 8, sums)
            }
            _ => Parts::whole(vectors),
        }
    }

    /// The launch without its parameters and bindings.
    fn launch(self, caps: &Caps, problem: &Problem, parts: Parts) -> Launch {
        let (m, n, k, batches) = (problem.a.rows, problem.b.cols, problem.a.cols, problem.batches());
        let (launch, tile_rows, tile_columns) = match self {
            Self::Rows(block_rows) => {
                let share_a = caps.subgroups && caps.subgroup_min >= 8;
                (ROWS.launch().variant("block_rows", block_rows).variant("share_a", share_a), block_rows, 32)
            }
            Self::Tiles(tiles, _) => (tiles.launch(&TILES), tiles.rows, tiles.columns),
        };
        let b_form = match (k.is_multiple_of(4), n.is_multiple_of(4)) {
            (true, _) if problem.b.row_stride == 1 => "inner",
            (true, true) if matches!(self, Self::Rows(_)) => "columns",
            _ => "scalar",
        };
        let layers = count(batches * parts.count).min(FOLD);
        launch
            .variant("a_vectors", problem.a.col_stride == 1 && k.is_multiple_of(4))
            .variant("b_form", b_form)
            .workgroups([groups(n, tile_columns), groups(m, tile_rows).min(FOLD), layers])
            .work((batches * m * n * k) as u64)
    }
}

const SKINNY: Choice = Choice::Tiles(Tiles::T16X128, false);
const SKINNY_PARTS: Choice = Choice::Tiles(Tiles::T16X128, true);
const MEDIUM: Choice = Choice::Tiles(Tiles::T64X64, false);
const MEDIUM_PARTS: Choice = Choice::Tiles(Tiles::T64X64, true);
const LARGE: Choice = Choice::Tiles(Tiles::T128X128, false);

fn is_software(caps: &Caps, _: &Problem) -> bool {
    caps.form() == Form::Software
}

fn is_gpu(caps: &Caps, _: &Problem) -> bool {
    caps.form() != Form::Software
}

fn splits(caps: &Caps, it: &Problem, choice: Choice) -> bool {
    is_gpu(caps, it) && choice.parts(caps, it).count > 1
}

/// Whether tiles of so many rows by columns are too few for a device, and parts long enough.
fn parts_pay(caps: &Caps, it: &Problem, rows: u32, columns: u32) -> bool {
    Parts::pay(caps, it.tiles(rows, columns), it.a.cols)
}

static FAMILY: Family<Problem, Choice> = Family {
    name: "matmul",
    choices: &[
        Candidate::new("rows8", Choice::Rows(8), is_software),
        Candidate::new("rows16", Choice::Rows(16), is_software),
        Candidate::new("tiles16x128", SKINNY, is_gpu),
        Candidate::new("tiles16x128_parts", SKINNY_PARTS, |caps, it| splits(caps, it, SKINNY_PARTS)),
        Candidate::new("tiles64x64", MEDIUM, is_gpu),
        Candidate::new("tiles64x64_parts", MEDIUM_PARTS, |caps, it| splits(caps, it, MEDIUM_PARTS)),
        Candidate::new("tiles128x128", LARGE, is_gpu),
    ],
    rules: &[
        Rule::new(Choice::Rows(8), |_, it| it.a.rows <= 8, "few rows on a software adapter"),
        Rule::new(Choice::Rows(16), |_, _| true, "many rows on a software adapter"),
        Rule::new(
            SKINNY_PARTS,
            |caps, it| it.a.rows <= 16 && parts_pay(caps, it, 16, 128),
            "up to 16 rows, few tiles",
        ),
        Rule::new(SKINNY, |_, it| it.a.rows <= 16, "up to 16 rows"),
        Rule::new(
            LARGE,
            |caps, it| it.a.rows >= 128 && 2 * it.tiles(128, 128) >= caps.busy_workgroups(),
            "large tiles keep a GPU busy",
        ),
        Rule::new(MEDIUM_PARTS, |caps, it| parts_pay(caps, it, 64, 64), "few tiles for a GPU"),
        Rule::new(MEDIUM, |_, _| true, "more than 16 rows"),
    ],
};

impl Op for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(vec![self.problem(inputs)?.output()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let problem = self.problem(inputs)?;
        let (m, n, k) = (problem.a.rows, problem.b.cols, problem.a.cols);
        let Some([batch_dims, a_batch, b_batch]) = problem.merged_batch() else {
            let batch = &problem.batch;
            return Err(Error::op(
                self.name(),
                format!("at most 4 batch dimensions after merging, got {batch:?}"),
            ));
        };
        let (choice, selected) = FAMILY.select(caps, &problem);
        let parts = choice.parts(caps, &problem);
        let params = Params {
            batch_dims,
            a_batch,
            b_batch,
            m: count(m),
            n: count(n),
            k: count(k),
            alpha: self.alpha,
            a_row: count(problem.a.row_stride),
            a_inner: count(problem.a.col_stride),
            b_inner: count(problem.b.row_stride),
            b_column: count(problem.b.col_stride),
            batches: count(problem.batches()),
            vectors: count(k.div_ceil(4)),
            parts: count(parts.count),
            part_vectors: count(parts.blocks),
        };
        let launch = choice.launch(caps, &problem, parts).params(params);
        if parts.count == 1 {
            return Ok(Launches::from(launch.bind_all(2, 1)).selected(selected));
        }
        let rows = problem.batches() * m;
        let merge = parts.merge(caps, [rows, n], false, UnaryFn::Identity);
        let merge = merge.variant("bias", false).variant("slope", false).variant("residual", "none");
        let steps = vec![
            launch.bind([Operand::Input(0), Operand::Input(1), Operand::Scratch(0)]),
            merge.bind([Operand::Scratch(0), Operand::Output(0)]),
        ];
        let scratch = vec![Spec::f32([parts.count, rows, n])];
        Ok(Launches { steps, scratch, ..Launches::default() }.selected(selected))
    }

    fn cost(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        let Ok(Problem { a, .. }) = self.problem(inputs) else { return Cost::default() };
        Cost::of_traffic(inputs, outputs).products(outputs[0].elements() * a.cols)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        let problem = self.problem(&specs)?;
        let (a, b) = (inputs[0].to_f64(), inputs[1].to_f64());
        let mut values = Vec::with_capacity(problem.output().elements());
        for batch in 0..problem.batch.iter().product() {
            for row in 0..problem.a.rows {
                for column in 0..problem.b.cols {
                    let sum = problem.reference(&a, &b, batch, row, column);
                    values.push(f64::from(self.alpha) * sum);
                }
            }
        }
        Ok(vec![Tensor::from_f64(DType::F32, problem.output().shape, &values)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut random = Random::new(77);
    let mut add = |op: MatMul, a: &[usize], b: &[usize]| {
        cases.push(Case::new(format!("{a:?} times {b:?}"), op, vec![random.f32(a), random.f32(b)]));
    };
    for (m, n, k) in [(1, 1, 1), (3, 4, 7), (8, 31, 8), (9, 33, 12), (17, 65, 64), (65, 64, 31), (1, 172, 4)]
    {
        for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
            let a = if transpose_a { [k, m] } else { [m, k] };
            let b = if transpose_b { [n, k] } else { [k, n] };
            add(MatMul { transpose_a, transpose_b, alpha: 0.5 }, &a, &b);
        }
    }
    for (a, b) in [
        (&[3, 5, 4][..], &[3, 4, 6][..]),
        (&[2, 3, 5, 4], &[4, 6]),
        (&[5, 4], &[2, 3, 4, 6]),
        (&[2, 1, 5, 4], &[3, 4, 6]),
        (&[2, 1, 3, 1, 2, 5], &[4, 1, 2, 5, 3]),
        (&[7], &[7, 3]),
        (&[5, 7], &[7]),
        (&[8], &[8]),
        (&[2, 0, 4], &[4, 3]),
        (&[40_000, 1, 2], &[1, 2, 1]),
        (&[2, 1, 19, 8], &[3, 8, 36]),
        // Inner dimensions that are long enough for parts.
        (&[2, 5, 1030], &[1030, 33]),
        (&[70, 516], &[516, 12]),
    ] {
        add(MatMul::PLAIN, a, b);
    }
    cases
}
