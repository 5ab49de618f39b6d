//! Loops that run long: llvmpipe silently ends all loops of an invocation after 65,535 iterations
//! together, so kernels must spread long work over invocations.

mod common;

use std::sync::Arc;
use wginfer::kernel::Form;
use wginfer::ops::cases::Random;
use wginfer::ops::{CachedAttention, Linear, Op};
use wginfer::session::run_op;
use wginfer::tensor::{Tensor, Tolerance};

#[test]
fn attention_over_16384_keys() {
    let Some(gpu) = common::gpu() else { return };
    let (context, head_dim) = (16_384, 64);
    let mut random = Random::new(1);
    let keys = random.f32([1, 1, context, head_dim]);
    let values = random.f32([1, 1, context, head_dim]);
    for (rows, one_sequence) in [(1, false), (3, false), (16, true)] {
        let op = CachedAttention {
            heads: 2,
            kv_heads: 1,
            head_dim,
            scale: 0.125,
            softcap: None,
            window: None,
            one_sequence,
        };
        let first = u32::try_from(context - rows).unwrap();
        let positions: Vec<u32> = (0..rows).map(|row| first + u32::try_from(row).unwrap()).collect();
        let inputs = [
            random.f32([rows, 2, head_dim]),
            keys.clone(),
            values.clone(),
            Tensor::from_u32([rows], &positions),
            Tensor::from_u32([rows], &vec![0; rows]),
        ];
        let want = op.reference(&inputs).unwrap();
        let op: Arc<dyn Op> = Arc::new(op);
        for form in [Form::Software, Form::Subgroup, Form::Plain] {
            let gpu = gpu.with_caps(gpu.caps().clone().with_form(form));
            let got = run_op(&gpu, op.clone(), &inputs).unwrap();
            if let Some(mismatch) = Tolerance::new(1e-5, 1e-4).mismatch(&got[0], &want[0]) {
                panic!("{form:?}, {rows} rows: {mismatch}");
            }
        }
    }
}

#[test]
fn linear_over_65536_inputs() {
    let Some(gpu) = common::gpu() else { return };
    let mut random = Random::new(2);
    let inner = 65_536;
    let weight = random.f32([24, inner]);
    for rows in [1, 8, 17] {
        let inputs = [random.f32([rows, inner]), weight.clone()];
        let want = Linear::PLAIN.reference(&inputs).unwrap();
        for form in [Form::Software, Form::Subgroup, Form::Plain] {
            let gpu = gpu.with_caps(gpu.caps().clone().with_form(form));
            let got = run_op(&gpu, Arc::new(Linear::PLAIN), &inputs).unwrap();
            // Sums of 65,536 products in f32.
            if let Some(mismatch) = Tolerance::new(2e-3, 1e-5).mismatch(&got[0], &want[0]) {
                panic!("{form:?}, {rows} rows: {mismatch}");
            }
        }
    }
}
