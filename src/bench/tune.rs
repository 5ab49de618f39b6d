//! Measures the choices of kernels for the operators of a model, and keeps those that are faster
//! than what the rules pick.
//!
//! Each class of shapes (see [`Selected`]) is measured once, at the first operator that has it. All
//! choices compute the same random inputs; one whose outputs differ from those of the rules' choice
//! is left out. They are timed in turns, so that what disturbs one disturbs all.

use super::Spread;
use super::rotation::{Rotation, rounds_for};
use crate::cancel::CancelToken;
use crate::gpu::Gpu;
use crate::graph::{Graph, Node, Plan, Source, lower, optimise};
use crate::kernel::{Caps, Selected, Tuned, Tuning};
use crate::ops::cases::Random;
use crate::ops::{CachedAttention, Op};
use crate::session::run_op;
use crate::tensor::{DType, Spec, Tensor, Tolerance};
use crate::{Error, Result};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// A choice is kept if it is this much faster than that of the rules by the median of the runs ...
const LEAST_RATIO: f64 = 1.1;

/// ... and still by this much in all but a fifth of the runs.
const LEAST_SURE_RATIO: f64 = 1.05;

/// A choice that takes this many times as long as the fastest in the first run is not timed again.
const HOPELESS: f64 = 3.0;

/// How the choices for one class of shapes compare.
#[derive(Debug, Clone, PartialEq)]
pub struct TunedRow {
    /// Name of the family.
    pub family: &'static str,
    /// Class of the shape.
    pub class: String,
    /// The choice of the rules.
    pub default: &'static str,
    /// The fastest choice.
    pub fastest: &'static str,
    /// Microseconds of these two.
    pub microseconds: [Spread; 2],
    /// Time of the rules' choice as a multiple of the fastest's: the median of the runs.
    pub ratio: f64,
    /// Whether that is clear enough for the choice to be kept.
    pub kept: bool,
    /// Choices whose outputs differ from those of the rules' choice, and how.
    pub wrong: Vec<(&'static str, String)>,
}

impl TunedRow {
    /// Puts what was found in place of what was known of the class.
    pub fn apply(&self, tuning: &mut Tuning) {
        let key = (self.family.to_owned(), self.class.clone());
        tuning.remove(&key);
        if self.kept {
            let (choice, than) = (self.fastest.to_owned(), self.default.to_owned());
            tuning.insert(key, Tuned { choice, than, ratio: self.ratio });
        }
    }
}

/// An operator of a graph with the inputs that it is measured with.
struct Subject {
    op: Arc<dyn Op>,
    inputs: Vec<Tensor>,
}

/// One way to compute a subject.
struct Trial {
    caps: Caps,
    /// What differs from the outputs of the rules' choice, or went wrong.
    mismatch: Option<String>,
    /// Seconds of each run; none where it was not timed.
    seconds: Vec<f64>,
}

/// The trials by what is chosen in them, the outermost choice first.
enum Choices {
    Trial(usize),
    Among { default: Selected, ways: Vec<(&'static str, Self)> },
}

/// Measures what can be chosen for the operators of these graphs, which need not be optimised,
/// `runs` times each. Classes of shapes whose choice the device has measured already are left out
/// (see [`GpuOptions::untuned`](crate::gpu::GpuOptions)). `each` gets every row when it is measured,
/// with the number of operators done and in all. A cancelled measurement ends early.
///
/// # Errors
/// When a graph cannot be planned, or the device is lost. An operator that cannot be measured is
/// only logged.
pub fn tune(
    gpu: &Gpu,
    graphs: Vec<Graph>,
    runs: usize,
    cancel: &CancelToken,
    each: &mut dyn FnMut(&TunedRow, usize, usize),
) -> Result<()> {
    let mut tuning = gpu.caps().overrides.tuning.as_deref().cloned().unwrap_or_default();
    let mut done: BTreeSet<(String, String)> = tuning.keys().cloned().collect();
    let nodes = nodes_with_choices(graphs, gpu.caps())?;
    for (index, (graph, node)) in nodes.iter().enumerate() {
        if cancel.is_cancelled() {
            break;
        }
        let mut caps = gpu.caps().clone();
        caps.overrides.tuning = Some(Arc::new(tuning.clone()));
        let gpu = gpu.with_caps(caps);
        match tune_node(&gpu, graph, node, runs, &done, cancel) {
            Ok(rows) => {
                for row in rows {
                    done.insert((row.family.to_owned(), row.class.clone()));
                    row.apply(&mut tuning);
                    each(&row, index + 1, nodes.len());
                }
            }
            Err(error @ (Error::DeviceLost(_) | Error::Cancelled)) if !cancel.is_cancelled() => {
                return Err(error);
            }
            Err(error) => log::warn!("{}: not measured: {error}", node.name),
        }
    }
    Ok(())
}

/// Nodes for which there is something to choose: of those that compute the same on inputs of the
/// same specs one only.
fn nodes_with_choices(graphs: Vec<Graph>, caps: &Caps) -> Result<Vec<(Arc<Graph>, Node)>> {
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for mut graph in graphs {
        optimise(&mut graph)?;
        let mut lowered = graph.clone();
        lower(&mut lowered, caps)?;
        let plan = Plan::new(&lowered, caps)?;
        let with_choice = |selected: &Selected| selected.candidates.len() > 1;
        let steps = plan.steps.iter().filter(|step| step.selected.iter().any(with_choice));
        let names: HashSet<&str> = steps.map(|step| step.name.as_str()).collect();
        let graph = Arc::new(graph);
        for node in graph.nodes().iter().filter(|node| names.contains(node.name.as_str())) {
            let specs: Vec<&Spec> = node.inputs.iter().map(|id| graph.spec(*id)).collect();
            if seen.insert(format!("{:?} {specs:?}", node.op)) {
                found.push((graph.clone(), node.clone()));
            }
        }
    }
    Ok(found)
}

fn tune_node(
    gpu: &Gpu,
    graph: &Graph,
    node: &Node,
    runs: usize,
    done: &BTreeSet<(String, String)>,
    cancel: &CancelToken,
) -> Result<Vec<TunedRow>> {
    let subject = Subject { op: node.op.clone(), inputs: inputs_of(graph, node)? };
    let mut trials = Vec::new();
    let choices = subject.choices(gpu.caps().clone(), done, &mut trials)?;
    if trials.len() < 2 {
        return Ok(Vec::new());
    }
    subject.check(gpu, choices.default(), &mut trials)?;
    subject.time(gpu, &mut trials, runs, cancel)?;
    if cancel.is_cancelled() {
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    choices.compare(&trials, &mut rows);
    Ok(rows)
}

/// Random inputs; constants of the graph as they are.
fn inputs_of(graph: &Graph, node: &Node) -> Result<Vec<Tensor>> {
    let mut random = Random::new(3);
    let attention = (node.op.as_ref() as &dyn Any).downcast_ref::<CachedAttention>();
    let inputs = node.inputs.iter().enumerate().map(|(index, id)| {
        let spec = graph.spec(*id);
        match (&graph.value(*id).source, spec.dtype, attention) {
            (Source::Constant(tensor), ..) => Ok(tensor.as_ref().clone()),
            (_, DType::F32 | DType::F16 | DType::BF16, _) => {
                Ok(random.tensor(spec.dtype, spec.shape.clone(), 1.0))
            }
            (_, DType::U32, Some(attention)) => {
                let context = graph.spec(node.inputs[1]).shape.dims()[2];
                Ok(rows_of_cache(attention, index, spec.shape.elements(), context))
            }
            _ => Err(Error::op(node.op.name(), format!("input {index} is {spec}, which is not made up"))),
        }
    });
    inputs.collect()
}

/// Positions (input 3) or slots (input 4) of rows that see half of the context: what a step sees on
/// average.
fn rows_of_cache(attention: &CachedAttention, input: usize, rows: usize, context: usize) -> Tensor {
    let last = (context / 2).max(rows.min(context)) - 1;
    let place =
        |row: usize| if attention.one_sequence { (last + 1 + row).saturating_sub(rows) } else { last };
    let value = |row: usize| if input == 3 { place(row) } else { 0 };
    let values: Vec<u32> = (0..rows).map(|row| u32::try_from(value(row)).unwrap_or(0)).collect();
    Tensor::from_u32([rows], &values)
}

impl Subject {
    /// Every way to compute it, with those choices open that are not yet done.
    fn choices(
        &self,
        caps: Caps,
        done: &BTreeSet<(String, String)>,
        trials: &mut Vec<Trial>,
    ) -> Result<Choices> {
        let plan = Plan::of_op(self.op.clone(), &self.inputs, &caps)?;
        let is_open = |it: &&Selected| {
            let key = (it.family.to_owned(), it.class.clone());
            let forced = caps.overrides.forced.contains_key(it.family);
            it.candidates.len() > 1 && !forced && !done.contains(&key)
        };
        let Some(default) = plan.selected().find(is_open).cloned() else {
            trials.push(Trial { caps, mismatch: None, seconds: Vec::new() });
            return Ok(Choices::Trial(trials.len() - 1));
        };
        let mut ways = Vec::new();
        for candidate in &default.candidates {
            let mut caps = caps.clone();
            caps.overrides.forced.insert(default.family.to_owned(), (*candidate).to_owned());
            ways.push((*candidate, self.choices(caps, done, trials)?));
        }
        Ok(Choices::Among { default, ways })
    }

    /// Compares the outputs of all trials with those of the rules' choice.
    fn check(&self, gpu: &Gpu, default: usize, trials: &mut [Trial]) -> Result<()> {
        let outputs =
            |trial: &Trial| run_op(&gpu.with_caps(trial.caps.clone()), self.op.clone(), &self.inputs);
        let want = outputs(&trials[default])?;
        for trial in trials.iter_mut() {
            trial.mismatch = match outputs(trial) {
                Ok(got) => got.iter().zip(&want).find_map(|(got, want)| difference(got, want)),
                Err(error @ Error::DeviceLost(_)) => return Err(error),
                Err(error) => Some(error.to_string()),
            };
        }
        Ok(())
    }

    /// Times the trials in turns.
    fn time(&self, gpu: &Gpu, trials: &mut [Trial], runs: usize, cancel: &CancelToken) -> Result<()> {
        let (op, inputs) = (&self.op, &self.inputs);
        let mut sound: Vec<&mut Trial> = trials.iter_mut().filter(|trial| trial.mismatch.is_none()).collect();
        let devices: Vec<Caps> = sound.iter().map(|trial| trial.caps.clone()).collect();
        let rotations = Rotation::all(gpu, op, inputs, &devices)?;
        let first: Vec<f64> = rotations.iter().map(|it| it.first_seconds()).collect::<Result<_>>()?;
        let least = first.iter().copied().fold(f64::INFINITY, f64::min);
        let rounds = rounds_for(least);
        for run in 0..runs {
            let order: Vec<usize> = match run % 2 {
                0 => (0..sound.len()).collect(),
                _ => (0..sound.len()).rev().collect(),
            };
            for index in order.into_iter().filter(|&index| first[index] <= HOPELESS * least) {
                if cancel.is_cancelled() {
                    return Ok(());
                }
                sound[index].seconds.push(rotations[index].seconds_of_one(rounds)?);
            }
        }
        Ok(())
    }
}

/// In what the outputs of two choices differ beyond rounding: sums of many products are rounded by
/// the size of the products, not by that of a sum.
fn difference(got: &Tensor, want: &Tensor) -> Option<String> {
    let largest = want.to_f64().into_iter().map(f64::abs).fold(1.0, f64::max);
    let Tolerance { abs, rel } = Tolerance::of(want.dtype());
    Tolerance::new(abs * largest, rel).mismatch(got, want).map(|mismatch| mismatch.to_string())
}

impl Choices {
    /// The trial that the rules pick.
    fn default(&self) -> usize {
        match self {
            Self::Trial(index) => *index,
            Self::Among { default, ways } => {
                let picked = ways.iter().find(|(name, _)| *name == default.choice);
                picked.or(ways.first()).map_or(0, |(_, way)| way.default())
            }
        }
    }

    /// The fastest trial, and the rows of all classes of shapes. A choice counts as it is with the
    /// best of those choices that it leaves open.
    fn compare(&self, trials: &[Trial], rows: &mut Vec<TunedRow>) -> Option<usize> {
        let (default, ways) = match self {
            Self::Trial(index) => return (!trials[*index].seconds.is_empty()).then_some(*index),
            Self::Among { default, ways } => (default, ways),
        };
        let best: BTreeMap<&'static str, usize> =
            ways.iter().filter_map(|(name, way)| Some((*name, way.compare(trials, rows)?))).collect();
        let median = |index: usize| Spread::of(&trials[index].seconds).median;
        let (fastest, winner) = best
            .iter()
            .map(|(name, index)| (*name, *index))
            .min_by(|a, b| median(a.1).total_cmp(&median(b.1)))?;
        let wrong = |(name, way): &(&'static str, Self)| match way {
            Self::Trial(index) => trials[*index].mismatch.clone().map(|mismatch| (*name, mismatch)),
            Self::Among { .. } => None,
        };
        let wrong: Vec<_> = ways.iter().filter_map(wrong).collect();
        // Without a time of its own, the rules' choice was hopeless.
        let of_default = best.get(default.choice).copied();
        let (ratio, kept) = match of_default {
            Some(index) => compared(&trials[index].seconds, &trials[winner].seconds),
            None => (HOPELESS, true),
        };
        let kept = kept && fastest != default.choice;
        let spread = |index: usize| Spread::of(&trials[index].seconds).scaled(1e6);
        rows.push(TunedRow {
            family: default.family,
            class: default.class.clone(),
            default: default.choice,
            fastest,
            microseconds: [of_default.map_or(Spread::of(&[]), spread), spread(winner)],
            ratio,
            kept,
            wrong,
        });
        if kept || of_default.is_none() { Some(winner) } else { of_default }
    }
}

/// The median of the ratios of two times, run by run, and whether the second is clearly faster.
fn compared(default: &[f64], other: &[f64]) -> (f64, bool) {
    let mut ratios: Vec<f64> = default.iter().zip(other).map(|(default, other)| default / other).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let median = Spread::of(&ratios).median;
    let sure = ratios.get(ratios.len() / 5).copied().unwrap_or(0.0);
    (median, median >= LEAST_RATIO && sure >= LEAST_SURE_RATIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_faster_in_almost_all_runs_is_kept() {
        assert_eq!(compared(&[2.0, 2.0, 2.0], &[1.0, 1.0, 1.0]), (2.0, true));
        assert!(!compared(&[1.0, 1.0, 1.0], &[1.0, 0.99, 1.0]).1);
        // Faster by the median, but not in two of five runs.
        assert_eq!(compared(&[2.0, 2.0, 2.0, 1.0, 1.0], &[1.0; 5]), (2.0, false));
        assert!(compared(&[2.0, 2.0, 2.0, 2.0, 1.0], &[1.0; 5]).1);
        assert!(!compared(&[], &[]).1);
    }

    fn trial(seconds: &[f64]) -> Trial {
        Trial { caps: Caps::webgpu_minimum(), mismatch: None, seconds: seconds.to_vec() }
    }

    fn selected(family: &'static str, choice: &'static str, candidates: &[&'static str]) -> Selected {
        let (class, why) = ("class".to_owned(), crate::kernel::Why::Rule("a rule"));
        Selected { family, class, choice, why, candidates: candidates.to_vec() }
    }

    /// An outer choice counts with the best inner choice; both are rows.
    #[test]
    fn outer_choices_count_with_the_best_inner_ones() {
        let trials = [trial(&[4.0; 5]), trial(&[2.0; 5]), trial(&[3.0; 5])];
        let inner = Choices::Among {
            default: selected("inner", "a", &["a", "b"]),
            ways: vec![("a", Choices::Trial(0)), ("b", Choices::Trial(1))],
        };
        let outer = Choices::Among {
            default: selected("outer", "d", &["c", "d"]),
            ways: vec![("c", inner), ("d", Choices::Trial(2))],
        };
        assert_eq!(outer.default(), 2);
        let mut rows = Vec::new();
        assert_eq!(outer.compare(&trials, &mut rows), Some(1));
        let text: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {} {} {} {}", row.family, row.default, row.fastest, row.ratio, row.kept))
            .collect();
        assert_eq!(text, ["inner a b 2 true", "outer d c 1.5 true"]);
    }
}
