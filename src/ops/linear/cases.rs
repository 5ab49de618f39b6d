//! Cases of [`Linear`]: all kernels around their tiles, all dtypes, epilogues, row parts.

use super::super::UnaryFn;
use super::super::cases::{Case, Random};
use super::{InputNorm, Linear, ResidualPlace};
use crate::tensor::{DType, Tensor};

/// A case with x of these leading dimensions, a weight of `n` rows (gated: 2 `n`), and bias and
/// residual as the layer has them. Weights are scaled so that sums stay near 1.
fn case(layer: Linear, dtype: DType, leading: &[usize], n: usize, k: usize) -> Case {
    let mut random = Random::new((leading.iter().product::<usize>() * 1_000_003 + n * 1009 + k) as u64);
    let weight_rows = if layer.gated { 2 * n } else { n };
    let with = |last: usize| [leading, &[last]].concat();
    let mut inputs: Vec<Tensor> =
        vec![random.f32(with(k)), random.tensor(dtype, [weight_rows, k], 1.5 / (k as f64).sqrt())];
    if layer.bias {
        inputs.push(random.f32([weight_rows]));
    }
    if layer.norm.is_some() {
        inputs.push(random.f32([k]));
    }
    if layer.residual.is_some() {
        inputs.push(random.f32(with(n)));
    }
    let name = format!("{} {leading:?} n {n} k {k}", dtype.name());
    Case::new(name, layer, inputs)
}

pub(in super::super) fn cases() -> Vec<Case> {
    let mut cases = shapes();
    cases.extend(dtypes());
    cases.extend(epilogues());
    cases.extend(norms());
    cases.extend(parts());
    cases
}

/// Edges of every kernel's tile, in f32.
fn shapes() -> Vec<Case> {
    let plain = |leading: &[usize], n, k| case(Linear::PLAIN, DType::F32, leading, n, k);
    let mut cases = Vec::new();
    for rows in [1, 2, 3, 5, 8, 9, 16, 17, 33, 65] {
        cases.push(plain(&[rows], 65, 64));
        cases.push(plain(&[rows], 31, 7));
    }
    for (n, k) in
        [(1, 1), (3, 4), (4, 3), (7, 8), (8, 7), (64, 31), (65, 65), (172, 288), (288, 172), (32, 48)]
    {
        for rows in [1, 5, 17] {
            cases.push(plain(&[rows], n, k));
        }
    }
    cases.push(plain(&[], 17, 36));
    cases.push(plain(&[2, 3], 8, 12));
    cases.push(plain(&[0], 8, 12));
    // Inner dimensions that are long enough for parts, and for several loads of a lane at a time.
    for (rows, n, k) in [(1, 5, 4501), (1, 18, 1096), (7, 33, 1031), (20, 65, 1032), (70, 12, 516)] {
        cases.push(plain(&[rows], n, k));
    }
    // Many large tiles, the last of each dimension partly filled.
    cases.push(plain(&[1000], 1030, 9));
    cases
}

/// f16 and bf16, with inner dimensions of whole blocks, whole vectors, and neither.
fn dtypes() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::F16, DType::BF16] {
        for (rows, n, k) in
            [(1, 65, 64), (1, 64, 172), (1, 7, 31), (3, 33, 96), (8, 31, 31), (17, 65, 72), (5, 32, 48)]
        {
            cases.push(case(Linear::PLAIN, dtype, &[rows], n, k));
        }
        cases.push(case(Linear::PLAIN, dtype, &[65], 64, 172));
        cases.push(case(Linear::PLAIN, dtype, &[1], 9, 4104));
        cases.push(case(Linear::PLAIN, dtype, &[40], 131, 520));
        cases.push(case(Linear::PLAIN, dtype, &[33], 65, 1));
    }
    cases
}

/// Bias, activations, gates and residuals.
fn epilogues() -> Vec<Case> {
    use ResidualPlace::{AfterActivation, BeforeActivation};
    use UnaryFn::{Gelu, GeluTanh, HardSigmoid, Identity, LeakyRelu, Relu, Sigmoid, Silu, Tanh};
    let mut cases = Vec::new();
    for (rows, n, k) in [(1, 33, 24), (6, 65, 24), (12, 31, 24), (17, 36, 24), (34, 70, 24)] {
        for (bias, activation, gated, residual) in [
            (true, Identity, false, None),
            (false, Identity, false, Some(AfterActivation)),
            (true, Relu, false, Some(AfterActivation)),
            (true, Relu, false, Some(BeforeActivation)),
            (false, Silu, true, None),
            (true, GeluTanh, true, None),
            (true, Sigmoid, true, Some(AfterActivation)),
        ] {
            let layer = Linear { bias, activation, gated, residual, norm: None };
            cases.push(case(layer, DType::F32, &[rows], n, k));
        }
        let gated = Linear { activation: Silu, gated: true, ..Linear::PLAIN };
        cases.push(case(gated, DType::F16, &[rows], n, k));
    }
    for activation in [Gelu, Tanh, LeakyRelu(0.25), HardSigmoid { alpha: 0.25, beta: 0.5 }] {
        cases.push(case(Linear { activation, ..Linear::PLAIN }, DType::F32, &[2, 2], 5, 24));
    }
    cases.push(case(Linear { gated: true, ..Linear::PLAIN }, DType::F32, &[1], 1, 5));
    cases
}

/// Norms of x, in the kernels that take them and before the others.
fn norms() -> Vec<Case> {
    let norm = |offset| Some(InputNorm { eps: 1e-5, offset });
    let residual = Some(ResidualPlace::AfterActivation);
    let plain = Linear { norm: norm(0.0), ..Linear::PLAIN };
    let gated = Linear { gated: true, activation: UnaryFn::Silu, norm: norm(1.0), ..Linear::PLAIN };
    let all = Linear { bias: true, residual, ..gated };
    let mut cases = Vec::new();
    for rows in [1, 2, 7, 12, 33] {
        for (n, k) in [(65, 64), (31, 7), (8, 12)] {
            cases.push(case(plain, DType::F32, &[rows], n, k));
            cases.push(case(gated, DType::F32, &[rows], n, k));
        }
        cases.push(case(plain, DType::F16, &[rows], 64, 172));
        cases.push(case(gated, DType::F16, &[rows], 33, 96));
        cases.push(case(all, DType::BF16, &[rows], 20, 31));
        cases.push(case(all, DType::F32, &[rows], 36, 288));
    }
    for rows in [1, 18] {
        let mut split = case(all, DType::F32, &[rows], 150, 36).max_binding_bytes(15_000);
        split.name += " in parts of 15000 bytes";
        cases.push(split);
    }
    cases
}

/// Weights over the binding limit: several launches, whose boundaries fall anywhere for gates.
fn parts() -> Vec<Case> {
    let mut cases = Vec::new();
    let residual = Some(ResidualPlace::AfterActivation);
    let gated = Linear { bias: true, gated: true, activation: UnaryFn::Silu, residual, norm: None };
    for rows in [1, 3, 18] {
        let mut split = |layer: Linear, dtype, n, k, limit| {
            let mut case = case(layer, dtype, &[rows], n, k).max_binding_bytes(limit);
            case.name += &format!(" in parts of {limit} bytes");
            cases.push(case);
        };
        split(Linear::PLAIN, DType::F32, 300, 20, 21_700);
        split(Linear { bias: true, residual, ..Linear::PLAIN }, DType::F16, 132, 96, 15_000);
        split(gated, DType::F32, 150, 36, 15_000);
        split(gated, DType::BF16, 33, 200, 15_000);
    }
    cases
}
