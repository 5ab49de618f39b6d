//! Runs one after another, with values that go from each to the next on the device.

use super::definition::DeclaredDim;
use super::element::{OnnxTensor, to_device};
use super::kept::{Keeping, Kept, View};
use super::model::{OnnxModel, State};
use super::trace::Traces;
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

/// Numbers of streams, by which their states are told apart.
static STREAMS: AtomicU64 = AtomicU64::new(0);

/// The states of one stream of runs in the session of a model, and what was planned for them.
#[derive(Debug)]
pub(super) struct Carrier {
    model: Arc<OnnxModel>,
    number: u64,
    states: BTreeSet<String>,
    traces: Traces,
}

impl Carrier {
    pub(super) fn new(model: Arc<OnnxModel>) -> Self {
        let number = STREAMS.fetch_add(1, Ordering::Relaxed);
        Self { model, number, states: BTreeSet::new(), traces: Traces::default() }
    }

    pub(super) fn model(&self) -> &OnnxModel {
        &self.model
    }

    /// The name of a state in the session.
    pub(super) fn state_name(&mut self, name: &str) -> String {
        let name = format!("{}:{name}", self.number);
        self.states.insert(name.clone());
        name
    }

    /// How often the model was imported: for each set of shapes.
    pub(super) fn imports(&self) -> usize {
        self.traces.imports
    }

    /// Dispatches of the runs with these values kept.
    pub(super) fn dispatches(&self, wanted: impl Fn(&Keeping) -> bool) -> usize {
        let state = self.model.state.lock().unwrap_or_else(PoisonError::into_inner);
        let traces = self.traces.all().filter(|(keeping, _)| wanted(keeping));
        let plans = traces.flat_map(|(_, trace)| trace.plans());
        plans.map(|plan| state.session.dispatches(plan)).sum()
    }

    /// Runs the model and returns the outputs that are not kept.
    pub(super) fn run(
        &mut self,
        given: &BTreeMap<String, OnnxTensor>,
        keeping: &Keeping,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<(String, OnnxTensor)>> {
        let mut state = self.model.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.model.run_known(&mut state.session, &mut self.traces, (given, keeping), cancelled)
    }

    /// Works on the session.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.model.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Frees what was planned for runs with these values kept.
    pub(super) fn forget(&mut self, unwanted: impl Fn(&Keeping) -> bool) {
        let mut state = self.model.state.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = self.traces.remove(unwanted);
        state.session.remove(removed.iter().flat_map(|trace| trace.plans()));
    }

    /// Frees a state that no plan uses any more.
    pub(super) fn remove_state(&mut self, name: &str) {
        self.states.remove(name);
        self.with(|state| state.session.remove_state(name));
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.forget(|_| true);
        let states = std::mem::take(&mut self.states);
        self.with(|state| states.iter().for_each(|name| state.session.remove_state(name)));
    }
}

/// A model that runs on one piece of a signal after another: some of its outputs are inputs of the
/// next run, and stay on the device between them.
///
/// ```no_run
/// # fn main() -> wginfer::Result<()> {
/// use std::sync::Arc;
/// use wginfer::onnx::{OnnxModel, OnnxStream, OnnxTensor};
///
/// let model = Arc::new(OnnxModel::load("silero_vad.onnx")?);
/// let mut stream = OnnxStream::new(model, &[("state", "stateN")])?;
/// // The first run says the shape of the state, where the file does not.
/// stream.set("state", OnnxTensor::from_f32([2, 1, 128], &[0.0; 256]))?;
/// let rate = OnnxTensor::from_i64([], &[16_000]);
/// for chunk in [vec![0.0; 576], vec![0.0; 576]] {
///     let input = OnnxTensor::from_f32([1, 576], &chunk);
///     let outputs = stream.run(&[("input", input), ("sr", rate.clone())])?;
///     println!("{:?}", outputs[0].1.to_f32());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct OnnxStream {
    carrier: Carrier,
    keeping: Keeping,
    /// Inputs that are kept, and the outputs that are their next values.
    pairs: Vec<(String, String)>,
}

impl OnnxStream {
    /// A stream in which each output of `pairs`, the second name, is what the next run takes for
    /// the input before it. Inputs whose shape the file fixes are zero at first; others must be
    /// [`set`](Self::set). Several streams of one model share its weights.
    ///
    /// # Errors
    /// [`Error::Request`] where there is no such input or output.
    pub fn new(model: Arc<OnnxModel>, pairs: &[(&str, &str)]) -> Result<Self> {
        let (inputs, outputs) = (model.inputs(), model.outputs());
        let mut stream =
            Self { carrier: Carrier::new(model), keeping: Keeping::default(), pairs: Vec::new() };
        for &(input, output) in pairs {
            let declared = inputs.iter().find(|known| known.name == input);
            let declared = declared.ok_or_else(|| Error::Request(format!("there is no input `{input}`")))?;
            if outputs.iter().all(|known| known.name != output) {
                return Err(Error::Request(format!("there is no output `{output}`")));
            }
            if stream.pairs.iter().any(|(first, second)| first == input || second == output) {
                return Err(Error::Request(format!("`{input}` or `{output}` is named twice")));
            }
            stream.pairs.push((input.to_owned(), output.to_owned()));
            let sizes = declared.dims.iter().flatten().map(|dim| match dim {
                DeclaredDim::Size(size) => Some(*size),
                _ => None,
            });
            let sizes: Option<Vec<usize>> = sizes.collect();
            if let (Some(dims), Some(element), true) = (sizes, declared.element, declared.dims.is_some()) {
                stream.keep(input, element, dims)?;
            }
        }
        Ok(stream)
    }

    /// Keeps an input of this type and shape.
    fn keep(&mut self, input: &str, element: super::ElementType, dims: Vec<usize>) -> Result<String> {
        let output = self.pairs.iter().find(|(known, _)| known == input).map(|(_, output)| output.clone());
        let output = output.ok_or_else(|| {
            let names: Vec<&str> = self.pairs.iter().map(|(input, _)| input.as_str()).collect();
            Error::Request(format!("input `{input}` is not kept; kept are {}", names.join(", ")))
        })?;
        if dims.is_empty() || dims.contains(&0) {
            return Err(Error::Request(format!("input `{input}` of shape {dims:?} cannot be kept")));
        }
        let state = self.carrier.state_name(input);
        let kept = Kept { state: state.clone(), output, element, dims, view: View::Whole };
        if let Some(before) = self.keeping.values.insert(input.to_owned(), kept.clone())
            && before != kept
        {
            self.carrier.forget(|_| true);
            self.carrier.remove_state(&state);
            self.carrier.state_name(input);
        }
        Ok(state)
    }

    /// Sets the value of a kept input for the next run.
    ///
    /// # Errors
    /// [`Error::Request`] where the input is not kept, or the value does not fit it.
    pub fn set(&mut self, input: &str, value: OnnxTensor) -> Result<()> {
        let declared = self.carrier.model().inputs().into_iter().find(|known| known.name == input);
        if let Some(element) = declared.and_then(|declared| declared.element)
            && element != value.element()
        {
            return Err(Error::Request(format!("input `{input}` must be {element}, got {value}")));
        }
        let tensor = to_device(value.tensor(), value.element())?;
        let state = self.keep(input, value.element(), value.dims().to_vec())?;
        self.carrier.with(|known| known.session.set_state(&state, &tensor))
    }

    /// Sets all kept inputs to zero.
    ///
    /// # Errors
    /// What the device says.
    pub fn reset(&mut self) -> Result<()> {
        let names = self.keeping.values.values().map(|kept| kept.state.as_str());
        self.carrier.with(|state| names.into_iter().try_for_each(|name| state.session.clear_state(name)))
    }

    /// Runs the model on the inputs that are not kept, and returns the outputs that are not kept, in
    /// the file's order.
    ///
    /// # Errors
    /// Those of [`OnnxModel::run`]; what is kept is undefined then until it is set or reset.
    pub fn run(&mut self, inputs: &[(&str, OnnxTensor)]) -> Result<Vec<(String, OnnxTensor)>> {
        if let Some((input, _)) =
            self.pairs.iter().find(|(input, _)| !self.keeping.values.contains_key(input))
        {
            return Err(Error::Request(format!("input `{input}` must be set before the first run")));
        }
        if let Some((name, _)) = inputs.iter().find(|(name, _)| self.keeping.values.contains_key(*name)) {
            return Err(Error::Request(format!("input `{name}` is kept on the device: `set` changes it")));
        }
        let kept = self.keeping.values.keys().cloned().collect();
        let given = inputs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
        self.carrier.model().check_inputs(&given, &kept)?;
        self.carrier.run(&given, &self.keeping, &|| false)
    }

    /// How often the model was imported: once for each set of shapes.
    pub fn imports(&self) -> usize {
        self.carrier.imports()
    }
}
