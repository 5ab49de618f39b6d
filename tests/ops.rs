//! Every operator on the GPU against its reference, in every form of kernel that this adapter
//! can run. WGINFER_CASE=part runs the cases whose operator or name contains it.

mod common;

use wginfer::doctor::compare;
use wginfer::gpu::Gpu;
use wginfer::graph::{Graph, Plan, ValueId, op_choices};
use wginfer::kernel::{Caps, DeviceKind, Form, Why};
use wginfer::ops::cases::{self, Case};
use wginfer::ops::{ImageOrder, Pool, PoolFn, Window};
use wginfer::session::{NoWeights, Session};
use wginfer::tensor::{DType, Spec, Tensor, Tolerance};

/// Runs `check` on every case that the filter lets through, and lists all failures.
fn for_all_cases(change: impl Fn(Caps) -> Caps, check: impl Fn(&Gpu, &Case) -> Result<(), String>) {
    let Some(gpu) = common::gpu() else { return };
    let filter = std::env::var("WGINFER_CASE").unwrap_or_default();
    let (mut failures, mut count) = (Vec::new(), 0);
    for case in cases::all() {
        let label = format!("{} / {}", case.op.name(), case.name);
        if !label.contains(&filter) {
            continue;
        }
        count += 1;
        if let Err(message) = check(&gpu.with_caps(change(gpu.caps().clone())), &case) {
            failures.push(format!("{}: {message}", case.describe()));
        }
    }
    println!("{count} cases, {} failures", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check_form(change: impl Fn(Caps) -> Caps) {
    for_all_cases(change, |gpu, case| compare(gpu, case).map(drop).map_err(|failure| failure.message));
}

#[test]
fn chosen_form() {
    check_form(|caps| caps);
}

#[test]
fn software_form() {
    check_form(|caps| caps.with_form(Form::Software));
}

/// A software adapter without subgroup operations: rows are computed by one invocation each.
#[test]
fn software_form_without_subgroups() {
    check_form(|caps| Caps { subgroups: false, ..caps.with_form(Form::Software) });
}

#[test]
fn subgroup_form() {
    check_form(|caps| caps.with_form(Form::Subgroup));
}

#[test]
fn plain_form() {
    check_form(|caps| Caps { subgroups: false, ..caps.with_form(Form::Plain) });
}

/// A device with wgpu's default limits and no features, as a host application may have.
#[test]
fn minimum_device() {
    check_form(|caps| Caps { kind: caps.kind, forced: Some(Form::Plain), ..Caps::webgpu_minimum() });
}

/// Where kernels are chosen, every choice computes the same, not only the one that rules pick.
fn check_choices(change: impl Fn(Caps) -> Caps) {
    let count = std::cell::Cell::new(0);
    for_all_cases(change, |gpu, case| {
        let mut caps = gpu.caps().clone();
        caps.max_binding_bytes = case.max_binding_bytes.unwrap_or(caps.max_binding_bytes);
        let steps = |caps: &Caps| Plan::of_op(case.op.clone(), &case.inputs, caps).map(|plan| plan.steps);
        let by_rule = steps(&caps).map_err(|error| error.to_string())?;
        for caps in op_choices(&case.op, &case.inputs, &caps).map_err(|error| error.to_string())? {
            let forced = caps.overrides.forced.clone();
            let chosen = steps(&caps).map_err(|error| error.to_string())?;
            if chosen.iter().map(|step| &step.launch).eq(by_rule.iter().map(|step| &step.launch)) {
                continue;
            }
            let selected = chosen.iter().flat_map(|step| step.selected.iter());
            assert!(selected.clone().all(|it| it.why == Why::Forced), "{:?}", selected.collect::<Vec<_>>());
            count.set(count.get() + 1);
            compare(&gpu.with_caps(caps), case)
                .map_err(|failure| format!("{forced:?}: {}", failure.message))?;
        }
        Ok(())
    });
    println!("{} other choices", count.get());
}

#[test]
fn software_choices() {
    check_choices(|caps| caps.with_form(Form::Software));
}

#[test]
fn subgroup_choices() {
    check_choices(|caps| caps.with_form(Form::Subgroup));
}

#[test]
fn plain_choices() {
    check_choices(|caps| Caps { subgroups: false, ..caps.with_form(Form::Plain) });
}

/// Kernels for matrix units with shaders in their place, because no software adapter has such
/// units: places in tiles and edges are the same. One factor of the products is rounded to f16. A
/// few cases, because these shaders are long.
#[test]
fn emulated_matrix_units() {
    let wanted = ["f16 [40] n 131 k 520", "f16 [34] n 70 k 24", "f16 [1, 36, 7, 9] to 70 by [3, 3]"];
    let count = std::cell::Cell::new(0);
    let device = |caps: Caps| Caps {
        cooperative_matrix: Some(8),
        half_products: true,
        ..caps.with_form(Form::Subgroup)
    };
    for_all_cases(device, |gpu, case| {
        if gpu.caps().kind != DeviceKind::Software || !wanted.contains(&case.name.as_str()) {
            return Ok(());
        }
        let mut caps = gpu.caps().clone();
        caps.max_binding_bytes = case.max_binding_bytes.unwrap_or(caps.max_binding_bytes);
        for caps in op_choices(&case.op, &case.inputs, &caps).map_err(|error| error.to_string())? {
            let forced = caps.overrides.forced.clone();
            if forced.values().any(|choice| choice.starts_with("matrices")) {
                let case = Case {
                    name: case.name.clone(),
                    op: case.op.clone(),
                    inputs: case.inputs.clone(),
                    tolerance: Some(Tolerance::of(DType::F16)),
                    max_binding_bytes: case.max_binding_bytes,
                };
                count.set(count.get() + 1);
                compare(&gpu.with_caps(caps), &case)
                    .map_err(|failure| format!("{forced:?}: {}", failure.message))?;
            }
        }
        Ok(())
    });
    println!("{} choices with matrix units", count.get());
}

/// naga's run-time checks must not change a bit: no kernel relies on them.
#[test]
fn checked_shaders_are_bit_identical() {
    for form in [Form::Software, Form::Subgroup] {
        for_all_cases(
            |caps| caps.with_form(form),
            |gpu, case| {
                let outputs = |gpu| compare(gpu, case).map(|it| it.outputs).map_err(|it| it.message);
                let unchecked = outputs(gpu)?;
                let checked = outputs(&gpu.with_checks(true))?;
                let same = unchecked.iter().zip(&checked).all(|(a, b)| a.bytes() == b.bytes());
                if same { Ok(()) } else { Err("differs with run-time checks".into()) }
            },
        );
    }
}

/// The inputs of a case that are images for an operator that follows their order.
fn followed_images(gpu: &Gpu, case: &Case) -> Vec<usize> {
    let specs: Vec<Spec> = case.inputs.iter().map(|input| input.spec().clone()).collect();
    let form = case.op.channels_last(gpu.caps(), &specs).filter(|form| !form.required);
    let images = form.map_or(Vec::new(), |form| form.images);
    let is_image = |&input: &usize| {
        let has_axes = ImageOrder::ChannelsFirst.dims(case.op.as_ref(), &specs[input]).is_ok();
        has_axes && specs[input].dtype == DType::F32
    };
    if images.iter().all(is_image) { images } else { Vec::new() }
}

/// Runs a case whose images come from an operator that makes them with their channels last.
fn run_following(gpu: &Gpu, case: &Case, images: &[usize]) -> wginfer::Result<Vec<Tensor>> {
    let mut graph = Graph::new();
    let mut ids: Vec<ValueId> = Vec::new();
    for (index, tensor) in case.inputs.iter().enumerate() {
        let mut id = graph.input(format!("input {index}"), tensor.spec().clone());
        if images.contains(&index) {
            let copy = Pool::new(PoolFn::Max, Window::new(vec![1; tensor.dims().len() - 2]));
            id = graph.add_one(copy, &[id])?;
        }
        ids.push(id);
    }
    let outputs = graph.add_shared(case.op.clone(), &ids)?;
    for (index, id) in outputs.iter().enumerate() {
        graph.output(format!("output {index}"), *id);
    }
    let names = |kind, count| (0..count).map(move |index| format!("{kind} {index}"));
    let (inputs, outputs): (Vec<String>, Vec<String>) =
        (names("input", ids.len()).collect(), names("output", outputs.len()).collect());
    let given: Vec<(&str, &[u8])> =
        inputs.iter().map(String::as_str).zip(case.inputs.iter().map(Tensor::bytes)).collect();
    let wanted: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let mut session = Session::new(gpu, None);
    let plan = session.add(vec![graph], &NoWeights, &mut |_, _| {})?[0];
    session.run(plan, &given, &wanted, &|| false)
}

/// An operator that follows the order of images gives the same in either.
#[test]
fn images_that_come_with_their_channels_last() {
    for form in [Form::Software, Form::Subgroup] {
        for_all_cases(
            |caps| caps.with_form(form),
            |gpu, case| {
                let images = followed_images(gpu, case);
                if images.is_empty() {
                    return Ok(());
                }
                let outputs = run_following(gpu, case, &images).map_err(|error| error.to_string())?;
                let wanted = case.op.reference(&case.inputs).map_err(|error| error.to_string())?;
                let differ = outputs.iter().zip(&wanted).find_map(|(got, want)| {
                    case.tolerance.unwrap_or(Tolerance::of(want.dtype())).mismatch(got, want)
                });
                differ.map_or(Ok(()), |mismatch| Err(mismatch.to_string()))
            },
        );
    }
}
