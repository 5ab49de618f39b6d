//! Every operator on the GPU against its reference, in every form of kernel that this adapter
//! can run. WGINFER_CASE=part runs the cases whose operator or name contains it.

mod common;

use wginfer::gpu::Gpu;
use wginfer::kernel::{Caps, Form};
use wginfer::ops::cases::{self, Case};
use wginfer::session::run_op;
use wginfer::tensor::{Tensor, Tolerance};

/// Computes one case on the GPU and compares it; the text says what is wrong.
fn compare(gpu: &Gpu, case: &Case) -> Result<Vec<Tensor>, String> {
    let want = case.op.reference(&case.inputs).map_err(|error| format!("reference: {error}"))?;
    let got = run_op(gpu, case.op.clone(), &case.inputs).map_err(|error| error.to_string())?;
    if got.len() != want.len() {
        return Err(format!("got {} outputs, want {}", got.len(), want.len()));
    }
    for (index, (got, want)) in got.iter().zip(&want).enumerate() {
        let tolerance = case.tolerance.unwrap_or(Tolerance::of(want.dtype()));
        if let Some(mismatch) = tolerance.mismatch(got, want) {
            return Err(format!("output {index}: {mismatch}"));
        }
    }
    Ok(got)
}

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
        let mut caps = change(gpu.caps().clone());
        caps.max_binding_bytes = case.max_binding_bytes.unwrap_or(caps.max_binding_bytes);
        if let Err(message) = check(&gpu.with_caps(caps), &case) {
            let specs: Vec<String> = case.inputs.iter().map(|tensor| tensor.spec().to_string()).collect();
            failures.push(format!("{label}: {:?} on {}: {message}", case.op, specs.join(", ")));
        }
    }
    println!("{count} cases, {} failures", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check_form(change: impl Fn(Caps) -> Caps) {
    for_all_cases(change, |gpu, case| compare(gpu, case).map(drop));
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

/// naga's run-time checks must not change a bit: no kernel relies on them.
#[test]
fn checked_shaders_are_bit_identical() {
    for form in [Form::Software, Form::Subgroup] {
        for_all_cases(
            |caps| caps.with_form(form),
            |gpu, case| {
                let unchecked = compare(gpu, case)?;
                let checked = compare(&gpu.with_checks(true), case)?;
                let same = unchecked.iter().zip(&checked).all(|(a, b)| a.bytes() == b.bytes());
                if same { Ok(()) } else { Err("differs with run-time checks".into()) }
            },
        );
    }
}
