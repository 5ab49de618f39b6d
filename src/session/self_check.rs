//! The self-check: what a plan computes with kernels that were never used on this adapter and driver
//! is compared with its reference on small cases, while weights are uploaded. What fails is demoted:
//! planned anew, with other kernels.
//!
//! Only pipelines that the plans use anyway are checked, so that nothing is compiled for it.

use super::{Session, run_op};
use crate::Error;
use crate::gpu::Gpu;
use crate::graph::Plan;
use crate::kernel::{Caps, Selected, Variant};
use crate::ops::cases::{self, Case};
use crate::self_check::{Demotion, SelfChecks};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Cases that a class is compared on.
const CASES: usize = 2;

/// Most elements of a case's inputs, and most multiplications and additions that it takes.
const MOST_ELEMENTS: usize = 1 << 14;
const MOST_FLOPS: u64 = 1 << 21;

/// No comparison begins after this; the rest is left for the next time.
const MOST_TIME: Duration = Duration::from_secs(1);

/// Kernels with their template variables.
type Pipelines = BTreeSet<(&'static str, BTreeMap<&'static str, Variant>)>;

/// What must not be used: pairs of family and choice, or of operator and form.
pub(super) type Failed = BTreeSet<(String, String)>;

/// Nodes that are computed by the same pipelines.
#[derive(Debug, Clone)]
struct Class {
    op: &'static str,
    /// Operator, kernels and variants.
    name: String,
    pipelines: Pipelines,
    /// What was picked for the nodes where there was a choice.
    selected: Arc<[Selected]>,
}

/// A check that runs beside the upload of weights.
#[derive(Debug)]
pub(super) struct Checking {
    thread: Option<JoinHandle<()>>,
    classes: Vec<Class>,
}

/// The classes of all nodes of plans.
fn classes(plans: &[Plan]) -> Vec<Class> {
    let mut classes = BTreeMap::new();
    for steps in plans.iter().flat_map(|plan| plan.steps.chunk_by(|a, b| a.node == b.node)) {
        let pipelines: Pipelines =
            steps.iter().map(|step| (step.launch.kernel, step.launch.variants.clone())).collect();
        let kernels: BTreeSet<String> = steps
            .iter()
            .map(|step| format!("{} {}", step.launch.kernel, step.launch.variant_text()))
            .collect();
        let kernels: Vec<&str> = kernels.iter().map(|kernel| kernel.trim_end()).collect();
        let (op, selected) = (steps[0].applied.op, steps[0].selected.clone());
        let name = format!("{op}: {}", kernels.join(" + "));
        classes.entry(name.clone()).or_insert(Class { op, name, pipelines, selected });
    }
    classes.into_values().collect()
}

impl Checking {
    /// Begins to check what plans need and nothing has checked before.
    pub(super) fn start(gpu: &Gpu, plans: &[Plan]) -> Self {
        let forced = gpu.caps().forced.is_some() || !gpu.caps().overrides.forced.is_empty();
        let Some(checks) = gpu.self_checks().filter(|_| !forced).cloned() else {
            return Self { thread: None, classes: Vec::new() };
        };
        let classes = classes(plans);
        let unknown: Vec<Class> =
            classes.iter().filter(|class| !checks.knows(&class.name)).cloned().collect();
        if unknown.is_empty() {
            return Self { thread: None, classes };
        }
        let (used, gpu) = (classes.iter().flat_map(|class| class.pipelines.clone()).collect(), gpu.clone());
        let thread = std::thread::spawn(move || {
            let _span = gpu.span("self-check").with("classes", unknown.len());
            check_classes(&gpu.unrecorded(), &checks, &unknown, &used);
        });
        Self { thread: Some(thread), classes }
    }

    /// Waits for the end of the check, and returns what failed that the plans use, and that is not
    /// demoted in `gpu`'s capabilities yet.
    pub(super) fn finish(self, gpu: &Gpu) -> Failed {
        if self.thread.is_some_and(|thread| thread.join().is_err()) {
            log::warn!("the self-check of kernels ended early");
        }
        let Some(checks) = gpu.self_checks() else { return Failed::new() };
        let is_planned = |demotion: &Demotion| self.classes.iter().any(|class| class.name == demotion.class);
        let demoted = checks.demotions().into_iter().filter(is_planned);
        let mut pairs: Failed = demoted.map(|demotion| (demotion.family, demotion.choice)).collect();
        pairs.retain(|pair| !gpu.caps().overrides.demoted.contains(pair));
        pairs
    }
}

/// Compares classes on small cases and notes what was found.
fn check_classes(gpu: &Gpu, checks: &SelfChecks, unknown: &[Class], used: &Pipelines) {
    let started = Instant::now();
    let ops: BTreeSet<&str> = unknown.iter().map(|class| class.op).collect();
    let cases: Vec<Case> = cases::all().into_iter().filter(is_small).collect();
    let cases: Vec<(&Case, &'static str)> = cases
        .iter()
        .map(|case| (case, lowered(case, gpu.caps())))
        .filter(|(_, op)| ops.contains(op))
        .collect();
    let (mut passed, mut demotions, mut count) = (Vec::new(), Vec::new(), 0);
    for class in unknown {
        if started.elapsed() > MOST_TIME {
            break;
        }
        let gpu = gpu.with_caps(with_choices(gpu.caps(), &class.selected));
        let of_op = cases.iter().filter(|(_, op)| *op == class.op).map(|(case, _)| *case);
        // First those that run least besides.
        let mut fitting: Vec<(usize, &Case)> =
            of_op.filter_map(|case| Some((class.pipelines_of(case, gpu.caps(), used)?, case))).collect();
        fitting.sort_by_key(|(pipelines, _)| *pipelines);
        fitting.truncate(CASES);
        count += fitting.len();
        if fitting.is_empty() {
            log::debug!("self-check: no small case runs {}", class.name);
        }
        let failure = fitting.iter().try_for_each(|(_, case)| compare(&gpu, case));
        match failure {
            Ok(()) => passed.push(class.name.clone()),
            Err(Stop::Differs(case, message)) => demotions.push(class.demotion(gpu.caps(), case, message)),
            Err(Stop::Device(error)) => {
                log::info!("the self-check of kernels ended early: {error}");
                break;
            }
        }
    }
    for it in &demotions {
        log::warn!("{} {} is not used on this adapter: {}: {}", it.family, it.choice, it.case, it.message);
    }
    log::info!("self-check: {} classes of kernels on {count} cases, {:.2?}", passed.len(), started.elapsed());
    checks.add(passed, demotions);
}

/// Why comparing ended.
enum Stop {
    /// A case, and what was expected and got.
    Differs(String, String),
    /// The device is lost or full: that says nothing of a kernel.
    Device(Error),
}

fn compare(gpu: &Gpu, case: &Case) -> Result<(), Stop> {
    let differs = |message| Stop::Differs(case.describe(), message);
    match run_op(gpu, case.op.clone(), &case.inputs) {
        Ok(outputs) => match case.deviation(&outputs) {
            Ok(_) => Ok(()),
            Err(failure) => Err(differs(failure.message)),
        },
        Err(error @ (Error::DeviceLost(_) | Error::OutOfMemory { .. } | Error::Budget { .. })) => {
            Err(Stop::Device(error))
        }
        Err(error) => Err(differs(error.to_string())),
    }
}

fn is_small(case: &Case) -> bool {
    let elements: usize = case.inputs.iter().map(|input| input.spec().elements()).sum();
    elements <= MOST_ELEMENTS && case.max_binding_bytes.is_none()
}

/// Name of the operator that computes a case on a device.
fn lowered(case: &Case, caps: &Caps) -> &'static str {
    let specs: Vec<_> = case.inputs.iter().map(|input| input.spec().clone()).collect();
    case.op.channels_last(caps, &specs).map_or(case.op.name(), |form| form.op.name())
}

/// The device with what was picked for a node forced.
fn with_choices(caps: &Caps, selected: &[Selected]) -> Caps {
    let mut caps = caps.clone();
    let pairs = selected.iter().map(|it| (it.family.to_owned(), it.choice.to_owned()));
    caps.overrides.forced = pairs.collect();
    caps
}

impl Class {
    /// How many pipelines a case runs, if it runs this class, and nothing that the plans do not run.
    fn pipelines_of(&self, case: &Case, caps: &Caps, used: &Pipelines) -> Option<usize> {
        let plan = Plan::of_op(case.op.clone(), &case.inputs, caps).ok()?;
        let flops: u64 =
            plan.steps.iter().filter_map(|step| step.applied.cost.as_ref()).map(|cost| cost.flops).sum();
        let pipelines: Pipelines =
            plan.steps.iter().map(|step| (step.launch.kernel, step.launch.variants.clone())).collect();
        let fits = pipelines.is_superset(&self.pipelines) && pipelines.is_subset(used);
        (fits && flops <= MOST_FLOPS).then_some(pipelines.len())
    }

    /// What must not be used: the choice where there are others, else the form of the operator.
    fn demotion(&self, caps: &Caps, case: String, message: String) -> Demotion {
        let chosen = self.selected.iter().find(|selected| selected.candidates.len() > 1);
        let (family, choice) = match chosen {
            Some(selected) => (selected.family, selected.choice),
            None => (self.op, caps.of_op(self.op).form().name()),
        };
        let (family, choice) = (family.to_owned(), choice.to_owned());
        Demotion { family, choice, class: self.name.clone(), case, message }
    }
}

impl Session {
    /// Demotes what failed; whether there was anything.
    pub(super) fn demote(&mut self, failed: Failed) -> bool {
        if failed.is_empty() {
            return false;
        }
        let mut caps = self.gpu.caps().clone();
        caps.overrides.demoted.extend(failed);
        self.gpu = self.gpu.with_caps(caps);
        true
    }
}
