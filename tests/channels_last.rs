//! Operators that follow images with channels last, where these come from an operator that makes
//! them so, against their references.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use wginfer::gpu::Gpu;
use wginfer::graph::{Graph, Plan, ValueId, lower};
use wginfer::kernel::Form;
use wginfer::ops::cases::{self, Case};
use wginfer::ops::{ChannelsLast, ImageOrder, Pool, PoolFn, Reshape, Softmax, Transpose, Window};
use wginfer::session::{NoWeights, Session};
use wginfer::tensor::{DType, Spec, Tensor, Tolerance};

/// The form that follows, if the case has images for it.
fn following(gpu: &Gpu, case: &Case) -> Option<ChannelsLast> {
    let specs: Vec<Spec> = case.inputs.iter().map(|input| input.spec().clone()).collect();
    let form = case.op.channels_last(gpu.caps(), &specs)?;
    let image = |input: &usize| ImageOrder::ChannelsFirst.dims(case.op.as_ref(), &specs[*input]).is_ok();
    let floats = form.images.iter().all(|&input| specs[input].dtype == DType::F32);
    (!form.required && floats && form.images.iter().all(image)).then_some(form)
}

/// The same image, from an operator whose images have their channels last.
fn with_channels_last(graph: &mut Graph, image: ValueId) -> ValueId {
    let axes = graph.spec(image).shape.rank() - 2;
    graph.add_one(Pool::new(PoolFn::Max, Window::new(vec![1; axes])), &[image]).unwrap()
}

/// The outputs of a case whose images come with their channels last.
fn run(gpu: &Gpu, case: &Case, images: &[usize]) -> Vec<Tensor> {
    let mut graph = Graph::new();
    let mut ids = Vec::new();
    for (index, tensor) in case.inputs.iter().enumerate() {
        let id = graph.input(format!("input {index}"), tensor.spec().clone());
        ids.push(if images.contains(&index) { with_channels_last(&mut graph, id) } else { id });
    }
    let outputs = graph.add_shared(Arc::clone(&case.op), &ids).unwrap();
    let names: Vec<String> = (0..outputs.len()).map(|index| format!("output {index}")).collect();
    for (name, id) in names.iter().zip(outputs) {
        graph.output(name.clone(), id);
    }
    let mut session = Session::new(gpu, None);
    let plan = session.add(vec![graph], &NoWeights, &mut |_, _| {}).unwrap()[0];
    let inputs: Vec<(String, &[u8])> = case
        .inputs
        .iter()
        .enumerate()
        .map(|(index, input)| (format!("input {index}"), input.bytes()))
        .collect();
    let inputs: Vec<(&str, &[u8])> = inputs.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    session.run(plan, &inputs, &names, &|| false).unwrap()
}

#[test]
fn operators_that_follow_agree_with_their_references() {
    let Some(gpu) = common::gpu() else { return };
    let mut failures = Vec::new();
    let mut counts = BTreeMap::new();
    for form in [Form::Software, Form::Subgroup] {
        let gpu = gpu.with_caps(gpu.caps().clone().with_form(form));
        for case in cases::all() {
            let Some(form) = following(&gpu, &case) else { continue };
            *counts.entry(case.op.name()).or_insert(0) += 1;
            let want = case.op.reference(&case.inputs).unwrap();
            for (got, want) in run(&gpu, &case, &form.images).iter().zip(&want) {
                let tolerance = case.tolerance.unwrap_or(Tolerance::of(want.dtype()));
                if let Some(mismatch) = tolerance.mismatch(got, want) {
                    failures.push(format!("{}: {mismatch}", wginfer::doctor::describe(&case)));
                }
            }
        }
    }
    println!("{counts:?}");
    for name in ["argmax", "batch_norm", "reduce", "reshape", "transpose"] {
        assert!(counts.contains_key(name), "no case of {name} follows");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Patches of a vision transformer and the way back: no element moves.
#[test]
fn pixels_become_tokens_without_a_copy() {
    let Some(gpu) = common::gpu() else { return };
    let mut graph = Graph::new();
    let image = graph.input("image", Spec::f32([2, 8, 3, 5]));
    let image = with_channels_last(&mut graph, image);
    let flat = graph.add_one(Reshape { dims: vec![2, 8, 15] }, &[image]).unwrap();
    let tokens = graph.add_one(Transpose { permutation: vec![0, 2, 1] }, &[flat]).unwrap();
    let normed = graph.add_one(Softmax { logarithm: false }, &[tokens]).unwrap();
    let flat = graph.add_one(Transpose { permutation: vec![0, 2, 1] }, &[normed]).unwrap();
    let back = graph.add_one(Reshape { dims: vec![2, 8, 3, 5] }, &[flat]).unwrap();
    let pooled = with_channels_last(&mut graph, back);
    graph.output("pooled", pooled);
    lower(&mut graph, gpu.caps()).unwrap();
    let kernels: Vec<&str> =
        Plan::new(&graph, gpu.caps()).unwrap().steps.iter().map(|step| step.launch.kernel).collect();
    assert_eq!(kernels, ["strided", "pool", "softmax", "pool", "strided"]);
}
