//! What a run of a model did, so that the next run with the same shapes repeats it without
//! building graphs again: plans to run, and values that were looked at on the host.

use super::element::{ElementType, OnnxTensor, from_device, to_device};
use super::kept::Keeping;
use super::value::Place;
use crate::session::{PlanId, Session};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One step of a run.
#[derive(Debug)]
pub(super) enum Step {
    /// Runs a plan.
    Run {
        plan: PlanId,
        /// Names of the plan's inputs, and where their data is.
        inputs: Vec<(String, Place)>,
        /// Names of the plan's outputs, and the slots they go to.
        outputs: Vec<(String, usize)>,
    },
    /// What follows holds only if this value is equal.
    Expect { place: Place, element: ElementType, tensor: Arc<Tensor> },
}

/// An output of the model.
#[derive(Debug, Clone)]
pub(super) enum Output {
    /// Known when the graph was built.
    Known(Arc<Tensor>),
    /// Found there after the run.
    At(Place),
}

/// The steps of a run and where its outputs are.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) steps: Vec<Step>,
    pub(super) outputs: Vec<(String, ElementType, Output)>,
}

impl Trace {
    /// The plans that it runs.
    pub(super) fn plans(&self) -> impl Iterator<Item = PlanId> {
        self.steps.iter().filter_map(|step| match step {
            Step::Run { plan, .. } => Some(*plan),
            Step::Expect { .. } => None,
        })
    }
}

/// Most runs that are kept for one set of input shapes: they differ in values that decide what
/// is computed.
const MOST_RUNS: usize = 16;

/// Most keys whose runs are kept.
const MOST_KEYS: usize = 32;

/// Types and shapes of the inputs of a run.
pub(super) type Signature = Vec<(String, ElementType, Vec<usize>)>;

/// What runs are told apart by: types and shapes of their inputs, and what stays on the device.
pub(super) type RunKey = (Signature, Keeping);

/// The runs that are planned: of the keys that were used last.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// Last used last.
    by_key: Vec<(RunKey, Vec<Arc<Trace>>)>,
    /// How many runs were ever planned.
    pub(super) imports: usize,
}

impl Traces {
    /// The runs of this key.
    pub(super) fn find(&mut self, key: &RunKey) -> &[Arc<Trace>] {
        let Some(place) = self.by_key.iter().position(|(known, _)| known == key) else { return &[] };
        self.by_key[place..].rotate_left(1);
        self.by_key.last().map_or(&[], |(_, traces)| traces)
    }

    /// Keeps a run, and returns those that are no longer kept.
    pub(super) fn keep(&mut self, key: RunKey, trace: Trace) -> Vec<Arc<Trace>> {
        self.imports += 1;
        let trace = Arc::new(trace);
        match self.by_key.iter_mut().find(|(known, _)| *known == key) {
            Some((_, traces)) => traces.push(trace),
            None => self.by_key.push((key, vec![trace])),
        }
        if let Some((_, traces)) = self.by_key.iter_mut().find(|(_, traces)| traces.len() > MOST_RUNS) {
            return vec![traces.remove(0)];
        }
        if self.by_key.len() > MOST_KEYS { self.by_key.remove(0).1 } else { Vec::new() }
    }

    /// All of them with what they keep.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Keeping, &Arc<Trace>)> {
        self.by_key.iter().flat_map(|((_, keeping), traces)| traces.iter().map(move |trace| (keeping, trace)))
    }

    /// Takes out the runs that keep what is unwanted.
    pub(super) fn remove(&mut self, unwanted: impl Fn(&Keeping) -> bool) -> Vec<Arc<Trace>> {
        let removed = self.by_key.extract_if(.., |((_, keeping), _)| unwanted(keeping));
        removed.flat_map(|(_, traces)| traces).collect()
    }
}

/// The data of one run: inputs given and values read back.
#[derive(Debug)]
pub(super) struct Data<'a> {
    pub(super) given: &'a BTreeMap<String, OnnxTensor>,
    /// Tensors in the device's dtypes.
    pub(super) slots: HashMap<usize, Tensor>,
}

impl Data<'_> {
    /// A value on the host, in its dtype for this element type.
    pub(super) fn host(&self, place: &Place, element: ElementType) -> Result<Tensor> {
        match place {
            Place::Input(name) if self.input(name)?.element() == element => {
                Ok(self.input(name)?.tensor().clone())
            }
            _ => Ok(from_device(&self.device(place)?, element)),
        }
    }

    /// A value as it lies on the device.
    pub(super) fn device(&self, place: &Place) -> Result<Tensor> {
        match place {
            Place::Slot(number) => self.slot(*number).cloned(),
            Place::State(name) | Place::Past(name) => Err(Error::Unsupported(format!(
                "the value of `{name}`, which stays on the device, is looked at"
            ))),
            Place::Input(name) => {
                let input = self.input(name)?;
                to_device(input.tensor(), input.element())
                    .map_err(|error| Error::Request(format!("input `{name}`: {error}")))
            }
        }
    }

    fn input(&self, name: &str) -> Result<&OnnxTensor> {
        self.given.get(name).ok_or_else(|| Error::Request(format!("input `{name}` is not given")))
    }

    fn slot(&self, number: usize) -> Result<&Tensor> {
        let missing = || Error::op("onnx", format!("value %{number} was not kept"));
        self.slots.get(&number).ok_or_else(missing)
    }

    /// Executes a step; false when a value is not the expected one.
    pub(super) fn execute(
        &mut self,
        step: &Step,
        session: &mut Session,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<bool> {
        match step {
            Step::Expect { place, element, tensor } => {
                Ok(self.host(place, *element)?.bytes() == tensor.bytes())
            }
            Step::Run { plan, inputs, outputs } => {
                let tensors = inputs.iter().map(|(_, place)| self.device(place));
                let tensors: Vec<Tensor> = tensors.collect::<Result<_>>()?;
                let named = inputs.iter().zip(&tensors);
                let given: Vec<(&str, &[u8])> =
                    named.map(|((name, _), tensor)| (name.as_str(), tensor.bytes())).collect();
                let wanted: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
                let results = session.run(*plan, &given, &wanted, cancelled)?;
                self.slots.extend(outputs.iter().map(|(_, slot)| *slot).zip(results));
                Ok(true)
            }
        }
    }

    /// The model's outputs.
    pub(super) fn outputs(&self, trace: &Trace) -> Result<Vec<(String, OnnxTensor)>> {
        let output = |(name, element, output): &(String, ElementType, Output)| {
            let tensor = match output {
                Output::Known(tensor) => Tensor::clone(tensor),
                Output::At(place) => self.host(place, *element)?,
            };
            Ok((name.clone(), OnnxTensor::of_host(*element, tensor)))
        };
        trace.outputs.iter().map(output).collect()
    }
}
