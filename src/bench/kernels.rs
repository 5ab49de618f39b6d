//! The speed of single kernels at shapes of real models, beside what the device can do at best.

use super::families::subjects;
use super::measurement::{Measurement, Report};
use super::rotation::{Rotation, rounds_for};
use super::sample::Subject;
use super::{Family, Limits, Spread, measure_limits};
use crate::gpu::Gpu;
use crate::ops::{Cost, Op};
use crate::profile::Bound;
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};
use serde::Serialize;
use std::sync::Arc;

/// Speed of one kernel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelRow {
    /// Its kind.
    pub family: Family,
    /// Operator and shape.
    pub name: String,
    /// Its dispatches.
    pub kernels: Vec<&'static str>,
    /// What differs from the reference; nothing is timed then.
    pub mismatch: Option<String>,
    /// Microseconds of the operator.
    pub microseconds: Spread,
    /// Multiplications and additions of sums of products, by its definition.
    pub flops: u64,
    /// Bytes of what it reads and writes, each value once.
    pub bytes: u64,
    /// GFLOP/s at the median time; none where it has no sums of products.
    pub gigaflops: Option<f64>,
    /// GB/s at the median time.
    pub gigabytes: f64,
    /// What keeps it from being faster.
    pub bound: Bound,
    /// The least time by the limits of the same run, as a part of the median time.
    pub part_of_ceiling: f64,
    /// The time of what the kernels issue (loads and stores by the rates of memory, then exponentials
    /// and the like by theirs), as a part of the median time; none where there are sums of products.
    pub part_of_issued: Option<f64>,
}

/// Speeds of kernels on one adapter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelReport {
    /// Form of the kernels.
    pub form: String,
    /// The ceilings.
    pub limits: Limits,
    /// The kernels.
    pub rows: Vec<KernelRow>,
}

/// Measures the kernels whose names or families contain `only`, `runs` times each, in the form
/// that the device's [`Caps`](crate::kernel::Caps) say.
///
/// # Errors
/// [`Error::Request`] where no kernel is called so, or what the device says.
pub fn measure_kernels(gpu: &Gpu, runs: usize, only: &str) -> Result<KernelReport> {
    let wanted = |subject: &Subject| subject.name.contains(only) || subject.family.name().contains(only);
    let mut chosen: Vec<Subject> = subjects(gpu.caps().kind).into_iter().filter(wanted).collect();
    chosen.sort_by_key(|subject| subject.family);
    if chosen.is_empty() {
        let names = Family::ALL.map(Family::name).join(", ");
        return Err(Error::Request(format!("no kernel is called `{only}`; there are the families {names}")));
    }
    let limits = measure_limits(gpu, runs)?;
    let rows = chosen.iter().map(|subject| measure(gpu, subject, runs, &limits)).collect::<Result<_>>()?;
    Ok(KernelReport { form: format!("{:?}", gpu.caps().form()).to_lowercase(), limits, rows })
}

fn measure(gpu: &Gpu, subject: &Subject, runs: usize, limits: &Limits) -> Result<KernelRow> {
    let inputs = (subject.inputs)();
    let [cost, issued] = costs(subject.op.as_ref(), &inputs)?;
    let mismatch = subject.mismatch(gpu, &inputs)?;
    let (seconds, kernels) = match mismatch {
        None => time(gpu, &subject.op, &inputs, runs)?,
        Some(_) => (Spread::of(&[]), Vec::new()),
    };
    let per_second = |amount: f64| if seconds.median > 0.0 { amount / seconds.median } else { 0.0 };
    let (least, bound) = limits.ceilings().least_seconds(&cost);
    Ok(KernelRow {
        family: subject.family,
        name: subject.name.clone(),
        kernels,
        mismatch,
        microseconds: seconds.scaled(1e6),
        flops: cost.flops,
        bytes: cost.bytes(),
        gigaflops: (cost.flops > 0).then(|| per_second(cost.flops as f64 / 1e9)),
        gigabytes: per_second(cost.bytes() as f64 / 1e9),
        bound,
        part_of_ceiling: per_second(least),
        part_of_issued: (cost.flops == 0).then(|| per_second(limits.ceilings().issued_seconds(&issued))),
    })
}

/// What an operator takes at least, and what its kernels issue.
fn costs(op: &dyn Op, inputs: &[Tensor]) -> Result<[Cost; 2]> {
    let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
    let outputs = op.infer(&specs)?;
    Ok([op.cost(&specs, &outputs), op.issued(&specs, &outputs)])
}

/// Seconds of an operator, and its kernels.
fn time(gpu: &Gpu, op: &Arc<dyn Op>, inputs: &[Tensor], runs: usize) -> Result<(Spread, Vec<&'static str>)> {
    let rotation = Rotation::new(gpu, op, inputs)?;
    let rounds = rounds_for(rotation.first_seconds()?);
    let seconds = (0..runs).map(|_| rotation.seconds_of_one(rounds)).collect::<Result<Vec<_>>>()?;
    Ok((Spread::of(&seconds), rotation.kernels()))
}

impl Report for KernelReport {
    const WHAT: &'static str = "kernels";

    fn adapter(&self) -> &str {
        &self.limits.adapter
    }

    fn measurements(&self) -> Vec<Measurement> {
        let timed = self.rows.iter().filter(|row| row.mismatch.is_none());
        timed.map(|row| Measurement::time(row.name.clone(), "us", row.microseconds)).collect()
    }
}

impl std::fmt::Display for KernelReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.limits)?;
        writeln!(f, "form of kernels   {}", self.form)?;
        let heads = ("microseconds", "GFLOP/s", "GB/s", "issued");
        writeln!(f, "{:50}{:26}{:>9}{:>9}{:>8}  of ceiling", "", heads.0, heads.1, heads.2, heads.3)?;
        let mut family = None;
        for row in &self.rows {
            if family.replace(row.family) != Some(row.family) {
                writeln!(f, "{}", row.family.name())?;
            }
            if let Some(mismatch) = &row.mismatch {
                writeln!(f, "  {:48}wrong: {mismatch}", row.name)?;
                continue;
            }
            let flops = row.gigaflops.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
            let (time, bytes) = (row.microseconds.to_string(), row.gigabytes);
            let (part, bound) = (100.0 * row.part_of_ceiling, row.bound.name());
            let issued = row.part_of_issued.map_or("-".to_owned(), |part| format!("{:.0}%", 100.0 * part));
            write!(f, "  {:48}{time:26}{flops:>9}{bytes:>9.2}{issued:>8}", row.name)?;
            writeln!(f, "  {part:3.0}% {bound}")?;
        }
        Ok(())
    }
}
