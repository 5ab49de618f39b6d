//! The session and the device below it, through an operator of the test's own: states, row
//! parts, parameters of both kinds, budget, failing allocations, a lost device.

mod common;

use std::sync::Arc;
use wginfer::gpu::Gpu;
use wginfer::graph::Graph;
use wginfer::kernel::{
    Caps, Kernel, Launch, Launches, Layout, Operand, ParamsField, ParamsFormat, row_parts, row_pitch,
};
use wginfer::ops::cases::Random;
use wginfer::ops::{Linear, Op, Softmax};
use wginfer::session::{NoWeights, Session, run_op};
use wginfer::tensor::{Spec, Tensor};
use wginfer::{CancelToken, Error, Result};

#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct RowSumParams {
    rows: u32,
    cols: u32,
    pitch: u32,
    first_row: u32,
}

impl ParamsFormat for RowSumParams {
    const FIELDS: &'static [ParamsField] = &[
        ParamsField { name: "rows", kind: "u32", offset: 0 },
        ParamsField { name: "cols", kind: "u32", offset: 4 },
        ParamsField { name: "pitch", kind: "u32", offset: 8 },
        ParamsField { name: "first_row", kind: "u32", offset: 12 },
    ];
}

static ROW_SUM: Kernel = Kernel::new(
    "row_sum",
    "struct Params { rows: u32, cols: u32, pitch: u32, first_row: u32 }
@group(0) @binding(0) var<storage, read> matrix: array<f32>;
@group(0) @binding(1) var<storage, read_write> totals: array<f32>;
${params} params: Params;

@compute @workgroup_size(8)
fn main(@builtin(global_invocation_id) global: vec3<u32>) {
    if global.x >= params.rows { return; }
    var total = 0.0;
    for (var col = 0u; col < params.cols; col++) { total += matrix[global.x * params.pitch + col]; }
    totals[params.first_row + global.x] += total;
}
",
);

/// Adds the sums of a matrix's rows to a state.
#[derive(Debug)]
struct RowSum;

impl Op for RowSum {
    fn name(&self) -> &'static str {
        "row_sum"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(vec![inputs[1].clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let cols = inputs[0].shape.dims()[1];
        let step = |(part, rows): (usize, &wginfer::kernel::RowPart)| -> Launch {
            ROW_SUM
                .launch()
                .params(RowSumParams {
                    rows: rows.rows as u32,
                    cols: cols as u32,
                    pitch: row_pitch(cols, inputs[0].dtype) as u32,
                    first_row: rows.start as u32,
                })
                .bind([Operand::InputPart(0, part), Operand::Output(0)])
                .workgroups([rows.rows.div_ceil(8) as u32, 1, 1])
        };
        Ok(row_parts(&inputs[0], caps).iter().enumerate().map(step).collect::<Vec<_>>().into())
    }

    fn layout(&self, input: usize) -> Layout {
        if input == 0 { Layout::Rows } else { Layout::Plain }
    }

    fn aliases(&self) -> &'static [(usize, usize)] {
        &[(0, 1)]
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let cols = inputs[0].dims()[1];
        let sums = inputs[0].to_f64();
        let sums = sums.chunks(cols).map(|row| row.iter().sum::<f64>());
        let totals: Vec<f64> = sums.zip(inputs[1].to_f64()).map(|(sum, before)| before + sum).collect();
        Ok(vec![Tensor::from_f64(inputs[1].dtype(), inputs[1].dims(), &totals)])
    }
}

/// 300 rows of 5 small integers, and totals that start at 1000.
fn inputs() -> Vec<Tensor> {
    let matrix: Vec<f32> = (0..1500).map(|i| (i % 7) as f32).collect();
    vec![Tensor::from_f32([300, 5], &matrix), Tensor::from_f32([300], &[1000.0; 300])]
}

fn graph() -> Graph {
    let inputs = inputs();
    let mut graph = Graph::new();
    let matrix = graph.constant("matrix", Arc::new(inputs[0].clone()));
    let totals = graph.state("totals", inputs[1].spec().clone());
    let next = graph.add_one(RowSum, &[matrix, totals]).unwrap();
    graph.output("totals", next);
    graph
}

#[test]
fn parameters_and_row_parts_of_every_kind_agree() {
    let Some(gpu) = common::gpu() else { return };
    let want = RowSum.reference(&inputs()).unwrap();
    for immediates in [false, gpu.caps().immediates] {
        for max_binding_bytes in [2048, 128 << 20] {
            let caps = Caps { immediates, max_binding_bytes, ..gpu.caps().clone() };
            assert_eq!(run_op(&gpu.with_caps(caps), Arc::new(RowSum), &inputs()).unwrap(), want);
        }
    }
}

#[test]
fn states_live_between_runs_and_nothing_is_made_in_a_run() {
    let Some(gpu) = common::gpu() else { return };
    let mut session = Session::new(gpu, None);
    let plan = session.add(vec![graph()], &NoWeights, &mut |_, _| {}).unwrap()[0];
    session.write_state("totals", &inputs()[1]).unwrap();
    let first = session.run(plan, &[], &["totals"], &|| false).unwrap();
    let second = session.run(plan, &[], &["totals"], &|| false).unwrap();
    let (first, second) = (first[0].to_f64(), second[0].to_f64());
    assert!(first.iter().zip(&second).all(|(a, b)| (b - 1000.0) == 2.0 * (a - 1000.0)));
    session.clear_state_slot("totals", 3).unwrap();
    let third = session.run(plan, &[], &["totals"], &|| false).unwrap()[0].to_f64();
    assert_eq!(third[3], first[3] - 1000.0);
}

#[test]
fn wrong_names_and_sizes_are_errors() {
    let Some(gpu) = common::gpu() else { return };
    let mut session = Session::new(gpu, None);
    let plan = session.add(vec![graph()], &NoWeights, &mut |_, _| {}).unwrap()[0];
    let error = session.run(plan, &[("tokens", &[])], &[], &|| false).unwrap_err();
    assert!(error.to_string().contains("no input `tokens`"), "{error}");
    let error = session.run(plan, &[], &["logits"], &|| false).unwrap_err();
    assert!(error.to_string().contains("no output `logits`; there are totals"), "{error}");
    let error = session.write_state("totals", &Tensor::from_f32([2], &[0.0; 2])).unwrap_err();
    assert!(error.to_string().contains("f32[300], got f32[2]"), "{error}");
    let error = session.run(plan, &[], &["totals"], &|| true).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
}

#[test]
fn a_budget_is_kept_before_anything_is_uploaded() {
    let Some(gpu) = own_gpu() else { return };
    let before = gpu.allocated_bytes();
    let mut session = Session::new(&gpu, Some(before + 4000));
    let error = session.add(vec![graph()], &NoWeights, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, Error::Budget { needed, .. } if needed == 300 * 32 + 1200), "{error}");
    assert_eq!(gpu.allocated_bytes(), before);
}

#[test]
fn every_failing_allocation_is_an_error_and_the_device_stays_usable() {
    let Some(gpu) = own_gpu() else { return };
    let mut failures = 0;
    for n in 1.. {
        let mut session = Session::new(&gpu, None);
        gpu.fail_allocation(n);
        let added = session.add(vec![graph()], &NoWeights, &mut |_, _| {});
        let result = added.and_then(|plans| session.run(plans[0], &[], &["totals"], &|| false));
        match result {
            Err(Error::OutOfMemory { .. }) => failures += 1,
            Err(error) => panic!("{error}"),
            Ok(_) => break,
        }
    }
    gpu.fail_allocation(0);
    assert!(failures >= 3, "matrix, totals and readback at least, got {failures}");
}

#[test]
fn a_lost_device_is_an_error() {
    let Some(gpu) = own_gpu() else { return };
    let mut session = Session::new(&gpu, None);
    let plan = session.add(vec![graph()], &NoWeights, &mut |_, _| {}).unwrap()[0];
    gpu.destroy();
    let error = session.run(plan, &[], &["totals"], &|| false).unwrap_err();
    assert!(matches!(error, Error::DeviceLost(_)), "{error}");
}

/// A device that no other test shares.
fn own_gpu() -> Option<Gpu> {
    common::gpu()?;
    Some(common::own_gpu())
}

#[test]
fn handles_cross_threads() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Gpu>();
    assert_send_sync::<Session>();
    assert_send_sync::<CancelToken>();
    assert_send_sync::<Error>();
}

#[cfg(feature = "text")]
#[test]
fn models_and_streams_cross_threads() {
    use wginfer::text::{Batch, ModelBuilder, PieceStream, TextModel, TextStream};
    fn assert_send<T: Send>() {}
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<TextModel>();
    assert_send::<ModelBuilder>();
    assert_send::<Batch>();
    assert_send::<TextStream>();
    assert_send::<PieceStream>();
}

/// Every dispatch of a plan is timed, in order.
#[test]
fn a_profile_times_every_dispatch() {
    let Some(gpu) = common::gpu() else { return };
    let mut graph = Graph::new();
    let x = graph.input("x", Spec::f32([64, 256]));
    let weight = graph.constant("weight", Arc::new(Random::new(1).f32([256, 256])));
    let y = graph.add_one(Linear::PLAIN, &[x, weight]).unwrap();
    let y = graph.add_one(Softmax { logarithm: false }, &[y]).unwrap();
    graph.output("y", y);
    let mut session = Session::new(gpu, None);
    let plan = session.add(vec![graph], &NoWeights, &mut |_, _| {}).unwrap()[0];
    session.run(plan, &[("x", &vec![0; 64 * 256 * 4])], &["y"], &|| false).unwrap();
    let steps = session.profile(plan).unwrap();
    let kernels: Vec<&str> = steps.iter().map(|step| step.kernel().kernel).collect();
    assert_eq!(kernels.len(), 2);
    assert!(kernels[0].starts_with("linear") && kernels[1] == "softmax", "{kernels:?}");
    assert!(steps.iter().all(|step| !step.duration.is_zero()), "{steps:?}");
    assert!(steps[1].start >= steps[0].start + steps[0].duration, "{steps:?}");
}
