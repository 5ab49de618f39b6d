//! Every operator on the GPU against its reference, in every form of kernel that this adapter
//! can run. WGINFER_CASE=part runs the cases whose operator or name contains it.

mod common;

use wginfer::doctor::{self, compare};
use wginfer::gpu::Gpu;
use wginfer::kernel::{Caps, Form};
use wginfer::ops::cases::{self, Case};

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
            failures.push(format!("{}: {message}", doctor::describe(&case)));
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
