//! `wginfer doctor`: every kernel on this adapter against its reference.

use crate::args::{DoctorArgs, GlobalFlags};
use crate::failure::{Failure, INTERRUPTED};
use crate::interrupt::Interrupt;
use crate::model;
use crate::terminal;
use indicatif::ProgressBar;
use serde::Serialize;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;
use wginfer::doctor::{Checked, caps_with_form, check};
use wginfer::kernel::Form;
use wginfer::ops::cases;
use wginfer::self_check::{Demotion, SelfChecks};

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    adapter: String,
    passed: bool,
    /// What the self-check of models' kernels took out of use on this adapter before.
    demoted: Vec<Demotion>,
    rows: Vec<Row>,
}

/// One operator in one form.
#[derive(Serialize)]
struct Row {
    op: &'static str,
    form: String,
    cases: usize,
    failed: usize,
    /// Largest deviation as a fraction of what is allowed; null where a value must be equal and
    /// is not, or there is no result.
    worst: Option<f64>,
    first_failure: Option<String>,
    milliseconds: f64,
}

impl From<&Checked> for Row {
    fn from(checked: &Checked) -> Self {
        Self {
            op: checked.op,
            form: form_name(checked.form),
            cases: checked.cases,
            failed: checked.failed,
            worst: Some(checked.worst).filter(|worst| worst.is_finite()),
            first_failure: checked.first_failure.clone(),
            milliseconds: checked.time.as_secs_f64() * 1e3,
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &DoctorArgs, global: &GlobalFlags) -> Result<ExitCode, Failure> {
    let only = args.only.as_deref();
    let names: BTreeSet<&str> = cases::all().iter().map(|case| case.op.name()).collect();
    if let Some(part) = only.filter(|part| !names.iter().any(|name| name.contains(part))) {
        let names: Vec<&str> = names.into_iter().collect();
        return Err(Failure::Usage(format!(
            "no operator is called `{part}`; there are {}",
            names.join(", ")
        )));
    }
    let interrupt = Interrupt::install()?;
    let gpu = model::open_gpu(global, args.checked, args.json)?;
    let demoted = gpu.self_checks().map(SelfChecks::demotions).unwrap_or_default();
    // What is out of use is checked too.
    let mut caps = gpu.caps().clone();
    caps.overrides.demoted.clear();
    let gpu = gpu.with_caps(caps);
    let mut forms: Vec<Form> = args.form.iter().map(|&name| name.into()).collect();
    if forms.is_empty() {
        forms.push(gpu.caps().form());
    }
    if let Some(form) = forms.iter().find(|&&form| caps_with_form(gpu.caps(), form).is_none()) {
        let name = form_name(*form);
        return Err(Failure::Other(format!(
            "this adapter cannot run the form `{name}`: it has no subgroups"
        )));
    }
    let bar = if global.quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    let cancel = interrupt.working();
    let rows = check(&gpu, &forms, only, &cancel, &mut |row| {
        bar.set_message(format!("{} ({})", row.op, form_name(row.form)));
        bar.tick();
    });
    bar.finish_and_clear();
    let passed = rows.iter().all(|row| row.failed == 0);
    if args.json {
        let adapter = gpu.adapter().to_string();
        terminal::write_json(&Report {
            adapter,
            passed,
            demoted,
            rows: rows.iter().map(Row::from).collect(),
        })?;
    } else {
        terminal::write(&describe(&rows, &demoted))?;
    }
    Ok(match (cancel.is_cancelled(), passed) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    })
}

fn form_name(form: Form) -> String {
    format!("{form:?}").to_lowercase()
}

fn describe(rows: &[Checked], demoted: &[Demotion]) -> String {
    let header = ["operator", "form", "cases", "failed", "worst", "time"].map(str::to_owned).to_vec();
    let line = |row: &Checked| {
        vec![
            row.op.to_owned(),
            form_name(row.form),
            row.cases.to_string(),
            row.failed.to_string(),
            format!("{:.2}", row.worst),
            format!("{:.0} ms", row.time.as_secs_f64() * 1e3),
        ]
    };
    let mut text = terminal::table(&std::iter::once(header).chain(rows.iter().map(line)).collect::<Vec<_>>());
    for row in rows {
        if let Some(failure) = &row.first_failure {
            text.push_str(&format!("\n{} ({}) failed: {failure}\n", row.op, form_name(row.form)));
        }
    }
    let (cases, failed) = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.cases, sum.1 + row.failed));
    let time: Duration = rows.iter().map(|row| row.time).sum();
    text.push_str(&format!("\n{cases} cases, {failed} failed, {:.1} s", time.as_secs_f64()));
    text.push_str("; worst: largest deviation as a fraction of what is allowed\n");
    for Demotion { family, choice, class, case, message } in demoted {
        text.push_str(&format!(
            "\nout of use on this adapter: {family} {choice}\n  {class}\n  {case}: {message}\n"
        ));
    }
    text
}
