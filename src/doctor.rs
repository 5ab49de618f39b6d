//! The self-check: every operator on a device against its reference, in the forms of kernels that
//! the device can run. Tests and `wginfer doctor` share it. Prints nothing.

use crate::cancel::CancelToken;
use crate::gpu::Gpu;
use crate::kernel::{Caps, Form};
use crate::ops::cases::{self, Case, Failure};
use crate::session::run_op;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What the check of one operator in one form found.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Name of the operator.
    pub op: &'static str,
    /// Form of its kernels.
    pub form: Form,
    /// Number of cases.
    pub cases: usize,
    /// Number of cases that failed.
    pub failed: usize,
    /// Largest deviation found, as a fraction of what is allowed: above 1 is a failure.
    pub worst: f64,
    /// The first case that failed, and why.
    pub first_failure: Option<String>,
    /// Time of all cases with their references.
    pub time: Duration,
}

/// Results of one case on a device, which agree with its reference.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// The outputs.
    pub outputs: Vec<Tensor>,
    /// Largest deviation as a fraction of what is allowed.
    pub worst: f64,
}

/// What a device can do with one form of kernels forced; `None` where it cannot run that form.
pub fn caps_with_form(caps: &Caps, form: Form) -> Option<Caps> {
    match form {
        Form::Subgroup if !caps.subgroups => None,
        Form::Plain => Some(Caps { subgroups: false, ..caps.clone().with_form(form) }),
        _ => Some(caps.clone().with_form(form)),
    }
}

/// Computes one case on the device and compares it with the reference.
///
/// # Errors
/// [`Failure`] with the worst element, or with what the operator or the device says.
pub fn compare(gpu: &Gpu, case: &Case) -> Result<Agreement, Failure> {
    let mut caps = gpu.caps().clone();
    caps.max_binding_bytes = case.max_binding_bytes.unwrap_or(caps.max_binding_bytes);
    let outputs = run_op(&gpu.with_caps(caps), case.op.clone(), &case.inputs)
        .map_err(|error| Failure::without_result(error.to_string()))?;
    let worst = case.deviation(&outputs)?;
    Ok(Agreement { outputs, worst })
}

/// Checks all operators, or those whose name contains `only`, in each of `forms`. `each` is
/// called when an operator is done in a form. A cancelled check returns what it has.
pub fn check(
    gpu: &Gpu,
    forms: &[Form],
    only: Option<&str>,
    cancel: &CancelToken,
    each: &mut dyn FnMut(&Checked),
) -> Vec<Checked> {
    let mut by_op: BTreeMap<&'static str, Vec<Case>> = BTreeMap::new();
    for case in cases::all() {
        if only.is_none_or(|part| case.op.name().contains(part)) {
            by_op.entry(case.op.name()).or_default().push(case);
        }
    }
    let mut rows = Vec::new();
    for &form in forms {
        let Some(caps) = caps_with_form(gpu.caps(), form) else { continue };
        let gpu = gpu.with_caps(caps);
        for (op, cases) in &by_op {
            if cancel.is_cancelled() {
                return rows;
            }
            let row = check_op(&gpu, op, form, cases);
            each(&row);
            rows.push(row);
        }
    }
    rows
}

fn check_op(gpu: &Gpu, op: &'static str, form: Form, cases: &[Case]) -> Checked {
    let started = Instant::now();
    let mut row = Checked {
        op,
        form,
        cases: cases.len(),
        failed: 0,
        worst: 0.0,
        first_failure: None,
        time: Duration::ZERO,
    };
    for case in cases {
        match compare(gpu, case) {
            Ok(agreement) => row.worst = row.worst.max(agreement.worst),
            Err(failure) => {
                row.failed += 1;
                row.worst = row.worst.max(failure.worst);
                let text = || format!("{}: {}", case.describe(), failure.message);
                row.first_failure.get_or_insert_with(text);
            }
        }
    }
    row.time = started.elapsed();
    row
}
