//! A converted model that is ready to run.

use super::read::{Loaded, LoadedWeights, read};
use super::{ModelGraph, Output, PortInfo, SavedFiles};
use crate::element::{OnnxTensor, from_device, to_device};
use crate::gpu::Gpu;
use crate::graph::Source;
use crate::session::{PlanId, Session};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How a model is loaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct SavedOptions {
    /// Most bytes on the device, if there is a bound.
    pub budget: Option<u64>,
}

/// A converted model on a device. Weights are uploaded once; each graph is planned at the first run
/// with inputs of its shapes.
#[derive(Debug)]
pub struct SavedModel {
    path: PathBuf,
    graphs: Vec<ModelGraph>,
    weights: LoadedWeights,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    session: Session,
    /// By number of the graph.
    plans: HashMap<usize, PlanId>,
}

/// Inputs by name, for a graph that takes them.
type Given<'a> = (usize, BTreeMap<&'a str, &'a OnnxTensor>);

impl SavedModel {
    /// Loads a model on the device that [`Gpu::new`] chooses. `path` is either of its two files.
    ///
    /// # Errors
    /// [`Error::File`] that says what is wrong with which file, [`Error::Io`], or
    /// [`Error::NoAdapter`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, &Gpu::new()?, SavedOptions::default())
    }

    /// Loads a model on a device.
    ///
    /// # Errors
    /// [`Error::File`] that says what is wrong with which file, or [`Error::Io`].
    pub fn load_with(path: impl AsRef<Path>, gpu: &Gpu, options: SavedOptions) -> Result<Self> {
        let files = SavedFiles::of(path.as_ref())?;
        let Loaded { graphs, weights, .. } = read(&files)?;
        let state = State { session: Session::new(gpu, options.budget), plans: HashMap::new() };
        Ok(Self { path: files.graph, graphs, weights, state: Mutex::new(state) })
    }

    /// The inputs of each graph: a run gives those of one of them.
    pub fn inputs(&self) -> Vec<&[PortInfo]> {
        self.graphs.iter().map(|graph| graph.inputs.as_slice()).collect()
    }

    /// The outputs of each graph.
    pub fn outputs(&self) -> Vec<Vec<&PortInfo>> {
        self.graphs.iter().map(|graph| graph.outputs.iter().map(|(port, _)| port).collect()).collect()
    }

    /// Dispatches of everything that was planned so far.
    pub fn dispatches(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.plans.values().map(|plan| state.session.dispatches(*plan)).sum()
    }

    /// Computes all outputs, in the file's order.
    ///
    /// # Errors
    /// [`Error::Request`] when an input is missing, unknown or of a type or shape that no graph takes;
    /// what the device says.
    pub fn run(&self, inputs: &[(&str, OnnxTensor)]) -> Result<Vec<(String, OnnxTensor)>> {
        self.run_until(inputs, &|| false)
    }

    /// The same; `cancelled` is asked between the submits of long work.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), and [`Error::Cancelled`].
    pub fn run_until(
        &self,
        inputs: &[(&str, OnnxTensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<(String, OnnxTensor)>> {
        let given = self.given(inputs)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.execute(&mut state, &given, cancelled)
    }

    /// The graph for these inputs.
    fn given<'a>(&self, inputs: &'a [(&str, OnnxTensor)]) -> Result<Given<'a>> {
        let given: BTreeMap<&str, &OnnxTensor> =
            inputs.iter().map(|(name, tensor)| (*name, tensor)).collect();
        let takes = |port: &PortInfo, tensor: &OnnxTensor| {
            port.element == tensor.element() && port.dims == tensor.dims()
        };
        let fits = |graph: &ModelGraph| {
            graph.inputs.len() == given.len()
                && graph
                    .inputs
                    .iter()
                    .all(|port| given.get(port.name.as_str()).is_some_and(|t| takes(port, t)))
        };
        if let Some(number) = self.graphs.iter().position(fits) {
            return Ok((number, given));
        }
        let got: Vec<String> = given.iter().map(|(name, tensor)| format!("{name} {tensor}")).collect();
        let wanted: Vec<String> = self.graphs.iter().map(|graph| list(&graph.inputs)).collect();
        Err(Error::Request(format!(
            "{}: the model was converted for the inputs {}; got {}",
            self.path.display(),
            wanted.join(" or "),
            if got.is_empty() { "none".to_owned() } else { got.join(", ") }
        )))
    }

    fn execute(
        &self,
        state: &mut State,
        (number, given): &Given<'_>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<(String, OnnxTensor)>> {
        let ModelGraph { outputs, graph, .. } = &self.graphs[*number];
        let input = |name: &str| given.get(name).copied().ok_or_else(|| missing(name));
        let on_device = |name: &str| {
            let tensor = input(name)?;
            to_device(tensor.tensor(), tensor.element())
                .map_err(|error| Error::Request(format!("input `{name}`: {error}")))
        };
        let mut results: HashMap<&str, Tensor> = HashMap::new();
        if !graph.outputs().is_empty() {
            let plan = self.plan(state, *number)?;
            let names = graph.values().filter(|(_, value)| matches!(value.source, Source::Input));
            let names = names.map(|(_, value)| Ok((value.name.as_str(), on_device(&value.name)?)));
            let tensors: Vec<(&str, Tensor)> = names.collect::<Result<_>>()?;
            let bytes: Vec<(&str, &[u8])> =
                tensors.iter().map(|(name, tensor)| (*name, tensor.bytes())).collect();
            let wanted: Vec<&str> = graph.outputs().iter().map(|(name, _)| name.as_str()).collect();
            let computed = state.session.run(plan, &bytes, &wanted, cancelled)?;
            results.extend(wanted.into_iter().zip(computed));
        }
        let output = |(port, output): &(PortInfo, Output)| {
            let tensor = match output {
                Output::Known(tensor) => Tensor::clone(tensor),
                Output::Input(name) if input(name)?.element() == port.element => {
                    input(name)?.tensor().clone()
                }
                Output::Input(name) => from_device(&on_device(name)?, port.element),
                Output::Graph(name) => {
                    let result = results.get(name.as_str()).ok_or_else(|| missing(name))?;
                    from_device(result, port.element)
                }
            };
            Ok((port.name.clone(), OnnxTensor::of_host(port.element, tensor)))
        };
        outputs.iter().map(output).collect()
    }

    /// The plan of a graph, made at its first run.
    fn plan(&self, state: &mut State, number: usize) -> Result<PlanId> {
        if let Some(plan) = state.plans.get(&number) {
            return Ok(*plan);
        }
        let graph = self.graphs[number].graph.clone();
        let at = |error: Error| match error {
            Error::Op { op, message } => Error::file(&self.path, format!("graph {number}: {op}: {message}")),
            other => other,
        };
        let plans = state.session.add(vec![graph], &self.weights, &mut |_, _| {}).map_err(at)?;
        let plan = plans.first().copied().ok_or_else(|| Error::op("session", "made no plan"))?;
        state.plans.insert(number, plan);
        Ok(plan)
    }
}

fn missing(name: &str) -> Error {
    Error::Request(format!("value `{name}` is missing"))
}

pub(super) fn list(ports: &[PortInfo]) -> String {
    let texts: Vec<String> = ports.iter().map(ToString::to_string).collect();
    format!("({})", texts.join(", "))
}
