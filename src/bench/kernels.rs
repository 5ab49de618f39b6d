//! The speed of single kernels at shapes of real models, beside what the device can do at best.

use super::families::subjects;
use super::measurement::{Measurement, Report};
use super::sample::Subject;
use super::{Family, Limits, Spread, measure_limits};
use crate::gpu::Gpu;
use crate::graph::Graph;
use crate::kernel::{DeviceKind, Layout};
use crate::ops::{Cost, Op, image};
use crate::profile::Bound;
use crate::session::{PlanId, Session};
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};
use serde::Serialize;
use std::sync::Arc;

/// Seconds that a measured run should take at least, so that the submit hardly counts.
const RUN_SECONDS: f64 = 0.05;

/// Most times that a run goes through all sets of buffers.
const MOST_ROUNDS: f64 = 1000.0;

/// Most sets of buffers that a kernel takes turns with.
const MOST_SETS: u64 = 128;

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
    let mut chosen: Vec<Subject> = subjects().into_iter().filter(wanted).collect();
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
    let cost = cost(subject.op.as_ref(), &inputs)?;
    let mismatch = subject.mismatch(gpu, &inputs)?;
    let (seconds, kernels) = match mismatch {
        None => time(gpu, &subject.op, inputs, cost.bytes(), runs)?,
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
    })
}

fn cost(op: &dyn Op, inputs: &[Tensor]) -> Result<Cost> {
    let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
    Ok(op.cost(&specs, &op.infer(&specs)?))
}

/// Seconds of an operator, and its kernels.
fn time(
    gpu: &Gpu,
    op: &Arc<dyn Op>,
    inputs: Vec<Tensor>,
    bytes: u64,
    runs: usize,
) -> Result<(Spread, Vec<&'static str>)> {
    let (op, inputs) = as_launched(gpu, op, inputs)?;
    let sets = (cached_bytes(gpu) / bytes.max(1) + 1).min(MOST_SETS) as usize;
    let rotation = Rotation::new(gpu, &op, &inputs, sets)?;
    rotation.seconds(1)?;
    let first = rotation.seconds(1)?;
    let rounds = (RUN_SECONDS / first).clamp(1.0, MOST_ROUNDS) as usize;
    let seconds = (0..runs)
        .map(|_| Ok(rotation.seconds(rounds)? / (rounds * sets) as f64))
        .collect::<Result<Vec<_>>>()?;
    let mut kernels = rotation.session.kernels(rotation.plan);
    kernels.truncate(kernels.len() / sets);
    Ok((Spread::of(&seconds), kernels))
}

/// More bytes than the caches of a device hold.
fn cached_bytes(gpu: &Gpu) -> u64 {
    if gpu.caps().kind == DeviceKind::Discrete { 256 << 20 } else { 64 << 20 }
}

/// The operator that is launched and its inputs: operators on images take theirs with the channels
/// last. Their elements stay in the old order, as times do not depend on values.
fn as_launched(gpu: &Gpu, op: &Arc<dyn Op>, mut inputs: Vec<Tensor>) -> Result<(Arc<dyn Op>, Vec<Tensor>)> {
    let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
    let Some(form) = op.channels_last(gpu.caps(), &specs) else { return Ok((op.clone(), inputs)) };
    for index in form.images {
        let spec = Spec::new(specs[index].dtype, image::to_last(&specs[index].shape));
        inputs[index] = Tensor::from_bytes(spec, inputs[index].bytes().to_vec());
    }
    for (index, rule) in form.prepared {
        inputs[index] = rule.prepare(&inputs[index..=index])?;
    }
    Ok((form.op, inputs))
}

/// A plan that computes an operator once on each of several sets of buffers.
struct Rotation {
    session: Session,
    plan: PlanId,
}

impl Rotation {
    fn new(gpu: &Gpu, op: &Arc<dyn Op>, inputs: &[Tensor], sets: usize) -> Result<Self> {
        let mut graph = Graph::new();
        let name = |set: usize, index: usize| format!("input {index} of set {set}");
        for set in 0..sets {
            let mut ids = Vec::with_capacity(inputs.len());
            for (index, tensor) in inputs.iter().enumerate() {
                ids.push(match op.layout(index) {
                    Layout::Rows => graph.constant(name(set, index), Arc::new(tensor.clone())),
                    Layout::Plain => graph.state(name(set, index), tensor.spec().clone()),
                });
            }
            for (index, output) in graph.add_shared(op.clone(), &ids)?.into_iter().enumerate() {
                graph.output(format!("output {index} of set {set}"), output);
            }
        }
        let mut session = Session::new(gpu, None);
        let plan = session.add_as_is(graph)?;
        for (index, tensor) in
            inputs.iter().enumerate().filter(|(index, _)| op.layout(*index) == Layout::Plain)
        {
            for set in 0..sets {
                session.write_state(&name(set, index), tensor)?;
            }
            gpu.flush()?;
        }
        Ok(Self { session, plan })
    }

    /// Seconds of going through all sets so many times.
    fn seconds(&self, rounds: usize) -> Result<f64> {
        Ok(self.session.time(self.plan, rounds)?.best().as_secs_f64())
    }
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
        writeln!(f, "{:50}{:26}{:>9}{:>9}  of ceiling", "", "microseconds", "GFLOP/s", "GB/s")?;
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
            writeln!(f, "  {:48}{time:26}{flops:>9}{bytes:>9.2}  {part:3.0}% {bound}", row.name)?;
        }
        Ok(())
    }
}
