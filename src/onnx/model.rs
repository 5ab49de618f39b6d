//! A model that is ready to run.

use super::definition::DeclaredDim;
use super::element::{ElementType, OnnxTensor};
use super::file::{OnnxFile, OnnxLimits};
use super::importer::Importer;
use super::kept::Keeping;
use super::trace::{Data, Signature, Trace, Traces};
use crate::gpu::Gpu;
use crate::session::Session;
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Name, type and dimensions of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxValueInfo {
    /// Its name.
    pub name: String,
    /// Its type, if the file says it.
    pub element: Option<ElementType>,
    /// Its dimensions, if the file says how many.
    pub dims: Option<Vec<DeclaredDim>>,
}

/// How a model is loaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnnxOptions {
    /// Bounds on what the file may ask for.
    pub limits: OnnxLimits,
    /// Most bytes on the device, if there is a bound.
    pub budget: Option<u64>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) session: Session,
    pub(super) traces: Traces,
}

/// An ONNX model on a device. Weights are uploaded once; what is computed for each set of input
/// shapes is planned at its first run and kept as long as it is among those used last.
#[derive(Debug)]
pub struct OnnxModel {
    pub(super) file: OnnxFile,
    pub(super) state: Mutex<State>,
}

impl OnnxModel {
    /// Loads a model on the device that [`Gpu::new`] chooses.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Unsupported`] that says what is wrong with the file, or
    /// [`Error::NoAdapter`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, &Gpu::new()?, &OnnxOptions::default())
    }

    /// Loads a model on a device.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Unsupported`] that says what is wrong with the file.
    pub fn load_with(path: impl AsRef<Path>, gpu: &Gpu, options: &OnnxOptions) -> Result<Self> {
        Ok(Self::new(OnnxFile::open(path.as_ref(), options.limits)?, gpu, options))
    }

    /// Reads a model from memory; it cannot have data in other files.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Unsupported`] that says what is wrong with it.
    pub fn from_bytes(bytes: Vec<u8>, gpu: &Gpu, options: &OnnxOptions) -> Result<Self> {
        Ok(Self::new(OnnxFile::of_bytes(Path::new("model"), bytes, options.limits)?, gpu, options))
    }

    fn new(file: OnnxFile, gpu: &Gpu, options: &OnnxOptions) -> Self {
        let state = State { session: Session::new(gpu, options.budget), traces: Traces::default() };
        Self { file, state: Mutex::new(state) }
    }

    /// The inputs that a run must give; those with initialisers are not among them.
    pub fn inputs(&self) -> Vec<OnnxValueInfo> {
        let graph = &self.file.graph;
        let required = graph.inputs.iter().filter(|input| !graph.initializers.contains_key(&input.name));
        required.map(OnnxValueInfo::of).collect()
    }

    /// The outputs.
    pub fn outputs(&self) -> Vec<OnnxValueInfo> {
        self.file.graph.outputs.iter().map(OnnxValueInfo::of).collect()
    }

    /// Dispatches of everything that was planned so far.
    pub fn dispatches(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let plans = state.traces.all().flat_map(|(_, trace)| trace.plans());
        plans.map(|plan| state.session.dispatches(plan)).sum()
    }

    /// Graphs that were planned so far: those of a run are submitted one after the other.
    pub fn graphs(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.traces.all().map(|(_, trace)| trace.plans().count()).sum()
    }

    /// Computes all outputs, in the file's order.
    ///
    /// # Errors
    /// [`Error::Request`] when an input is missing, unknown or of another type or shape;
    /// [`Error::File`] or [`Error::Unsupported`] when the model cannot be computed for these inputs;
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
        let State { session, traces } = &mut *state;
        self.run_known(session, traces, (&given, &Keeping::default()), cancelled)
    }

    /// Repeats a run that is known, or imports the model for it.
    pub(super) fn run_known(
        &self,
        session: &mut Session,
        traces: &mut Traces,
        (given, keeping): (&BTreeMap<String, OnnxTensor>, &Keeping),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<(String, OnnxTensor)>> {
        let key = (Self::signature(given), keeping.clone());
        if let Some(outputs) = replay(traces.find(&key), given, session, cancelled)? {
            return Ok(outputs);
        }
        let _span = session.gpu().span("import");
        let data = Data { given, slots: HashMap::new() };
        let imported = Importer::new(&self.file, Some(session), data, cancelled).keeping(keeping).run();
        self.file.forget();
        let (trace, data) = imported?;
        let outputs = data.outputs(&trace)?;
        for old in traces.keep(key, trace) {
            session.remove(old.plans());
        }
        Ok(outputs)
    }

    /// The inputs by name, checked.
    pub(super) fn given(&self, inputs: &[(&str, OnnxTensor)]) -> Result<BTreeMap<String, OnnxTensor>> {
        let given: BTreeMap<String, OnnxTensor> =
            inputs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
        self.check_inputs(&given, &BTreeSet::new())?;
        Ok(given)
    }

    pub(super) fn signature(given: &BTreeMap<String, OnnxTensor>) -> Signature {
        given.iter().map(|(name, tensor)| (name.clone(), tensor.element(), tensor.dims().to_vec())).collect()
    }

    /// Compares the inputs given with those that the file declares; those that are kept on the device
    /// may be missing.
    pub(super) fn check_inputs(
        &self,
        given: &BTreeMap<String, OnnxTensor>,
        kept: &BTreeSet<String>,
    ) -> Result<()> {
        let fail = |message: String| Err(Error::Request(message));
        let graph = &self.file.graph;
        if let Some(name) = given.keys().find(|name| graph.inputs.iter().all(|input| input.name != **name)) {
            let names: Vec<&str> = graph.inputs.iter().map(|input| input.name.as_str()).collect();
            return fail(format!("there is no input `{name}`; there are {}", names.join(", ")));
        }
        let mut symbols: HashMap<&str, (usize, &str)> = HashMap::new();
        for input in &graph.inputs {
            let name = input.name.as_str();
            let Some(tensor) = given.get(name) else {
                if graph.initializers.contains_key(name) || kept.contains(name) {
                    continue;
                }
                return fail(format!("input `{name}` is missing"));
            };
            if input.element.is_some_and(|element| element != tensor.element()) {
                let element = input.element.map_or("", ElementType::name);
                return fail(format!("input `{name}` must be {element}, got {tensor}"));
            }
            let Some(dims) = &input.dims else { continue };
            if dims.len() != tensor.dims().len() {
                return fail(format!("input `{name}` must have {} dimensions, got {tensor}", dims.len()));
            }
            for (dim, &size) in dims.iter().zip(tensor.dims()) {
                match dim {
                    DeclaredDim::Size(wanted) if *wanted != size => {
                        let wanted: Vec<String> = dims.iter().map(ToString::to_string).collect();
                        let wanted = wanted.join(", ");
                        return fail(format!(
                            "input `{name}` must have the dimensions [{wanted}], got {tensor}"
                        ));
                    }
                    DeclaredDim::Named(symbol) => {
                        let (wanted, other) = *symbols.entry(symbol).or_insert((size, name));
                        if wanted != size {
                            return fail(format!(
                                "dimension `{symbol}` is {wanted} in input `{other}` and {size} in `{name}`"
                            ));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl OnnxValueInfo {
    fn of(declared: &super::definition::Declared) -> Self {
        Self { name: declared.name.clone(), element: declared.element, dims: declared.dims.clone() }
    }
}

/// Repeats the run among these whose looked-at values come out the same again.
fn replay(
    traces: &[Arc<Trace>],
    given: &BTreeMap<String, OnnxTensor>,
    session: &mut Session,
    cancelled: &dyn Fn() -> bool,
) -> Result<Option<Vec<(String, OnnxTensor)>>> {
    'traces: for trace in traces {
        let mut data = Data { given, slots: HashMap::new() };
        for step in &trace.steps {
            if !data.execute(step, session, cancelled)? {
                continue 'traces;
            }
        }
        return data.outputs(trace).map(Some);
    }
    Ok(None)
}
