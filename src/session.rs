//! A session: plans on one device over shared resident weights, states and slot buffers.

mod memory;
mod self_check;
mod started;
mod states;

pub use memory::{PlannedMemory, default_budget, physical_memory};
pub use started::StartedRun;

use crate::gpu::{Buffer, Dispatch, Elapsed, Gpu, Program, Readback};
use crate::graph::{BufferRef, Graph, Plan, PlannedWeight, Step, WeightData, WeightSource};
use crate::graph::{buffer_bytes, lower, optimise};
use crate::kernel::{Caps, Launch, Layout, RowPart, row_parts, row_pitch};
use crate::ops::Op;
use crate::profile::{DispatchTime, Dispatched, KernelInfo, NodeInfo, Recorder};
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};
use memory::{Resident, WeightKey};
use self_check::{Checking, Failed};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Where a session reads weights from.
pub trait WeightRows {
    /// Rows of a weight in the dtype of `spec`, each padded with zeros to `pitch` elements.
    ///
    /// # Errors
    /// When the file is broken or does not hold the weight.
    fn rows(&self, source: &WeightSource, spec: &Spec, rows: Range<usize>, pitch: usize) -> Result<Vec<u8>>;
}

/// No weights: for graphs of inputs and constants.
#[derive(Debug, Clone, Copy)]
pub struct NoWeights;

impl WeightRows for NoWeights {
    fn rows(&self, source: &WeightSource, _: &Spec, _: Range<usize>, _: usize) -> Result<Vec<u8>> {
        Err(Error::Request(format!("no weights were given, the graph needs {:?}", source.segments)))
    }
}

/// Progress of an upload: bytes done and in all.
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// A plan of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlanId(usize);

#[derive(Debug)]
struct Prepared {
    program: Program,
    /// Node of each dispatch, and which of the node's dispatches it is.
    steps: Vec<(Arc<NodeInfo>, usize)>,
    inputs: Vec<(String, Spec, Arc<Buffer>)>,
    outputs: Vec<(String, Spec, Arc<Buffer>)>,
    /// Keeps them resident.
    weights: Vec<Arc<Buffer>>,
}

/// Plans with resident weights and state.
#[derive(Debug)]
pub struct Session {
    gpu: Gpu,
    budget: Option<u64>,
    weights: HashMap<WeightKey, Vec<Arc<Buffer>>>,
    states: BTreeMap<String, (Spec, Arc<Buffer>)>,
    pool: Vec<Arc<Buffer>>,
    /// By their ids; none where a plan was removed.
    plans: Vec<Option<Prepared>>,
    readback: Option<Readback>,
    /// Memory that results of started runs came to.
    spare: Vec<Readback>,
}

impl Session {
    /// Starts a session without plans. `budget` bounds the bytes on the device.
    pub fn new(gpu: &Gpu, budget: Option<u64>) -> Self {
        Self {
            gpu: gpu.clone(),
            budget,
            weights: HashMap::new(),
            states: BTreeMap::new(),
            pool: Vec::new(),
            plans: Vec::new(),
            readback: None,
            spare: Vec::new(),
        }
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Makes plans that are added from now on for other capabilities of the same device; row parts
    /// of weights must be the same.
    pub fn use_caps(&mut self, caps: Caps) {
        self.gpu = self.gpu.with_caps(caps);
    }

    /// Bytes that adding these plans would allocate.
    pub fn planned_memory(&self, plans: &[Plan]) -> PlannedMemory {
        let resident = Resident {
            weights: self.weights.keys().collect(),
            states: self.states.keys().map(String::as_str).collect(),
            slots: self.pool.iter().map(|buffer| buffer.bytes()).collect(),
        };
        resident.grow(plans, self.gpu.caps())
    }

    /// Plans graphs, checks their memory against the budget before anything is uploaded, then
    /// uploads what is not yet resident and prepares the dispatches. On failure no plan is added;
    /// weights that were already uploaded stay resident for the next try.
    ///
    /// Kernels that nothing ran before on this adapter and driver are compared with their references
    /// on small cases meanwhile, on a device that does so ([`Gpu::self_checked`]); what fails is
    /// planned with other kernels.
    ///
    /// # Errors
    /// [`Error::Budget`], [`Error::Op`], those of `source`, or what the device says.
    pub fn add(
        &mut self,
        graphs: Vec<Graph>,
        source: &dyn WeightRows,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<PlanId>> {
        let count = graphs.len();
        self.add_ready(graphs, count, source, progress)
    }

    /// [`add`](Self::add), where only the first `ready` graphs are about to run: a software adapter
    /// compiles the shaders of the others when they first run.
    ///
    /// # Errors
    /// Those of [`add`](Self::add).
    pub fn add_ready(
        &mut self,
        graphs: Vec<Graph>,
        ready: usize,
        source: &dyn WeightRows,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<PlanId>> {
        loop {
            let (prepared, failed) = self.try_add(graphs.clone(), ready, source, progress)?;
            // What failed the self-check is never run: the graphs are planned again without it.
            if !self.demote(failed) {
                let first = self.plans.len();
                self.plans.extend(prepared.into_iter().map(Some));
                return Ok((first..self.plans.len()).map(PlanId).collect());
            }
        }
    }

    /// Plans, uploads and prepares graphs; also returns what failed the self-check meanwhile.
    fn try_add(
        &mut self,
        graphs: Vec<Graph>,
        ready: usize,
        source: &dyn WeightRows,
        progress: &mut Progress<'_>,
    ) -> Result<(Vec<Prepared>, Failed)> {
        let span = self.gpu.span("plan").with("graphs", graphs.len());
        let plans = self.plan(graphs)?;
        drop(span);
        let planned = self.planned_memory(&plans);
        if let Some(budget) = self.budget {
            let total = planned.total() + self.gpu.allocated_bytes();
            if total > budget {
                return Err(Error::Budget { what: "the model".into(), needed: total, budget });
            }
        }
        let checking = Checking::start(&self.gpu, &plans);
        let mut done = 0;
        let added = self.prepare_all(&plans, ready, source, &mut |bytes| {
            done += bytes;
            progress(done, planned.weights);
        });
        let failed = checking.finish(&self.gpu);
        Ok((added?, failed))
    }

    /// Optimises and plans graphs for this device, without uploading anything.
    ///
    /// # Errors
    /// [`Error::Op`] when an operator cannot run here.
    pub fn plan(&self, graphs: Vec<Graph>) -> Result<Vec<Plan>> {
        let plan = |mut graph: Graph| {
            optimise(&mut graph)?;
            if let Some(planned) = self.gpu.listed_graphs() {
                planned.add(&graph);
            }
            lower(&mut graph, self.gpu.caps())?;
            Plan::new(&graph, self.gpu.caps())
        };
        graphs.into_iter().map(plan).collect()
    }

    fn prepare_all(
        &mut self,
        plans: &[Plan],
        ready: usize,
        source: &dyn WeightRows,
        uploaded: &mut dyn FnMut(u64),
    ) -> Result<Vec<Prepared>> {
        let gpu = self.gpu.clone();
        let steps = plans[..ready].iter().flat_map(|plan| &plan.steps);
        let launches: Vec<&Launch> = steps.map(|step| &step.launch).collect();
        std::thread::scope(|scope| {
            let compiling = scope.spawn(|| gpu.compile(&launches));
            let uploaded = self.make_resident(plans, source, uploaded);
            let compiled = compiling.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            uploaded.and(compiled)
        })?;
        plans.iter().map(|plan| self.prepare(plan)).collect()
    }

    /// Uploads the weights and makes the states of plans that are not yet there.
    fn make_resident(
        &mut self,
        plans: &[Plan],
        source: &dyn WeightRows,
        uploaded: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let span = self.gpu.span("upload");
        for weight in plans.iter().flat_map(|plan| &plan.weights) {
            let key = WeightKey::of(weight, self.gpu.caps());
            if !self.weights.contains_key(&key) {
                let buffers = self.upload(weight, source, uploaded)?;
                self.weights.insert(key, buffers);
            }
        }
        self.gpu.flush()?;
        drop(span);
        let _span = self.gpu.span("prepare").with("plans", plans.len());
        for (name, spec) in plans.iter().flat_map(|plan| &plan.states) {
            match self.states.get(name) {
                None => {
                    let buffer = self.gpu.buffer(name, buffer_bytes(spec))?;
                    self.states.insert(name.clone(), (spec.clone(), buffer));
                }
                Some((known, _)) if known != spec => {
                    let message = format!("state `{name}` is {known} in one plan and {spec} in another");
                    return Err(Error::op("session", message));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn upload(
        &self,
        weight: &PlannedWeight,
        source: &dyn WeightRows,
        uploaded: &mut dyn FnMut(u64),
    ) -> Result<Vec<Arc<Buffer>>> {
        let (rows, cols) = weight.spec.shape.rows_and_cols();
        let caps = self.gpu.caps();
        let (pitch, parts) = match weight.layout {
            Layout::Plain => (cols, vec![RowPart { start: 0, rows }]),
            Layout::Rows => (row_pitch(cols, weight.spec.dtype), row_parts(&weight.spec, caps)),
        };
        let row_bytes = (pitch * weight.spec.dtype.size()).max(1) as u64;
        let prepared = match &weight.data {
            WeightData::File(_) => None,
            WeightData::Constant(_) | WeightData::Prepared(..) => Some(host_tensor(weight, source)?),
        };
        let mut buffers = Vec::with_capacity(parts.len());
        for (part, bytes) in parts.into_iter().zip(weight.part_bytes(caps)) {
            let buffer = self.gpu.buffer(&weight.name, bytes)?;
            let total = part.rows as u64 * row_bytes;
            // Rows whose bytes are no multiple of 4 are uploaded in groups that are.
            let granularity = row_bytes * (4 / gcd(row_bytes, 4));
            self.gpu.upload(&buffer, total, granularity, |offset, length| {
                let first = part.start + usize::try_from(offset / row_bytes).expect("rows fit in memory");
                let count = usize::try_from(length / row_bytes).expect("rows fit in memory");
                let piece = match (&weight.data, &prepared) {
                    (WeightData::File(file), _) => {
                        source.rows(file, &weight.spec, first..first + count, pitch)?
                    }
                    (_, Some(tensor)) => padded_rows(tensor, first..first + count, pitch),
                    (_, None) => unreachable!("made above"),
                };
                uploaded(piece.len() as u64);
                Ok(piece)
            })?;
            buffers.push(buffer);
        }
        Ok(buffers)
    }

    /// Makes a plan's buffers and bind groups. Slots come from the pool, largest first.
    fn prepare(&mut self, plan: &Plan) -> Result<Prepared> {
        let make = |name: &str, spec: &Spec| self.gpu.buffer(name, buffer_bytes(spec));
        let inputs: Vec<(String, Spec, Arc<Buffer>)> = plan
            .inputs
            .iter()
            .map(|(name, spec)| Ok((name.clone(), spec.clone(), make(name, spec)?)))
            .collect::<Result<_>>()?;
        let own_outputs: Vec<Option<Arc<Buffer>>> = plan
            .outputs
            .iter()
            .map(|(name, spec, place)| {
                matches!(place, BufferRef::Output(_)).then(|| make(name, spec)).transpose()
            })
            .collect::<Result<_>>()?;
        let slots = self.take_slots(plan)?;
        let weights: Vec<&Vec<Arc<Buffer>>> = plan
            .weights
            .iter()
            .map(|weight| &self.weights[&WeightKey::of(weight, self.gpu.caps())])
            .collect();
        let resolve = |place: BufferRef| match place {
            BufferRef::Input(index) => inputs[index].2.clone(),
            BufferRef::Weight(index, part) => weights[index][part].clone(),
            BufferRef::State(index) => self.states[&plan.states[index].0].1.clone(),
            BufferRef::Slot(index) => slots[index].clone(),
            BufferRef::Output(index) => {
                own_outputs[index].clone().expect("an output place is the output's own")
            }
        };
        let dispatches: Vec<Dispatch<'_>> = plan
            .steps
            .iter()
            .map(|step| Dispatch {
                launch: &step.launch,
                buffers: step.buffers.iter().map(|&(place, bytes)| (resolve(place), bytes)).collect(),
            })
            .collect();
        let program = self.gpu.prepare(&dispatches)?;
        let outputs = plan
            .outputs
            .iter()
            .map(|(name, spec, place)| (name.clone(), spec.clone(), resolve(*place)))
            .collect();
        let steps =
            plan.steps.chunk_by(|before, next| before.node == next.node).flat_map(node_steps).collect();
        let weights = weights.into_iter().flatten().cloned().collect();
        Ok(Prepared { program, steps, inputs, outputs, weights })
    }

    /// Buffers for a plan's slots: its largest slot gets the pool's first buffer, and so on.
    /// A pool buffer that is too small is replaced; earlier plans keep theirs.
    fn take_slots(&mut self, plan: &Plan) -> Result<Vec<Arc<Buffer>>> {
        let mut order: Vec<usize> = (0..plan.slots.len()).collect();
        order.sort_by_key(|&slot| std::cmp::Reverse(plan.slots[slot]));
        let mut taken = vec![None; plan.slots.len()];
        for (position, slot) in order.into_iter().enumerate() {
            let bytes = plan.slots[slot];
            if self.pool.get(position).is_none_or(|buffer| buffer.bytes() < bytes) {
                let buffer = self.gpu.buffer("slot", bytes)?;
                match self.pool.get_mut(position) {
                    Some(smaller) => *smaller = buffer,
                    None => self.pool.push(buffer),
                }
            }
            taken[slot] = Some(self.pool[position].clone());
        }
        Ok(taken.into_iter().map(|buffer| buffer.expect("every slot was visited")).collect())
    }

    /// Number of dispatches of a plan.
    ///
    /// # Panics
    /// When the plan was removed, here as in the other methods that take one.
    pub fn dispatches(&self, plan: PlanId) -> usize {
        self.prepared(plan).program.len()
    }

    /// Frees the buffers of plans, and weights and constants that no other plan uses; states stay.
    pub fn remove(&mut self, plans: impl IntoIterator<Item = PlanId>) {
        for plan in plans {
            self.plans[plan.0] = None;
        }
        let used = self.plans.iter().flatten().flat_map(|plan| &plan.weights).map(Arc::as_ptr);
        let used: HashSet<*const Buffer> = used.collect();
        self.weights.retain(|_, parts| parts.iter().any(|part| used.contains(&Arc::as_ptr(part))));
    }

    fn prepared(&self, plan: PlanId) -> &Prepared {
        self.plans[plan.0].as_ref().expect("a plan that was not removed")
    }

    /// Runs a plan: writes the inputs, computes, and returns the named outputs.
    /// `cancelled` is asked between the submits of long work.
    ///
    /// # Errors
    /// [`Error::Request`] for a wrong name or size, [`Error::Cancelled`], [`Error::DeviceLost`].
    pub fn run(
        &mut self,
        plan: PlanId,
        inputs: &[(&str, &[u8])],
        outputs: &[&str],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<Tensor>> {
        self.write_inputs(plan, inputs)?;
        let prepared = self.plans[plan.0].as_ref().expect("a plan that was not removed");
        let (wanted, reads) = prepared.wanted(outputs)?;
        let total = reads.iter().map(|(_, _, bytes)| bytes).sum();
        if self.readback.as_ref().is_none_or(|readback| readback.bytes() < total) {
            self.readback = Some(self.gpu.readback(total)?);
        }
        let readback = self.readback.as_ref().expect("made above");
        let bytes = match self.gpu.recorder() {
            None => self.gpu.run(&prepared.program, &reads, readback, cancelled)?,
            Some(recorder) => {
                let span = recorder.span("run").with("dispatches", prepared.program.len());
                let times = self.gpu.run_timed(&prepared.program, cancelled)?;
                recorder.add_dispatches(prepared.steps.iter().zip(times));
                drop(span);
                let _span = recorder.span("read results").with("bytes", total);
                self.gpu.run(&Program::default(), &reads, readback, cancelled)?
            }
        };
        Ok(split_tensors(&wanted, &bytes))
    }

    /// Runs a plan on the inputs of the last run and returns what was dispatched when, since the
    /// start of the first; see [`Gpu::run_timed`].
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or what the device says.
    pub fn profile(&self, plan: PlanId) -> Result<Vec<Dispatched>> {
        let prepared = self.prepared(plan);
        let times = self.gpu.run_timed(&prepared.program, &|| false)?;
        let Some(DispatchTime { begin, .. }) = times.first().copied() else { return Ok(Vec::new()) };
        let recorder = Recorder::since(begin);
        recorder.add_dispatches(prepared.steps.iter().zip(times));
        Ok(recorder.profile().dispatches)
    }

    /// Runs a plan `times` times over on the inputs of the last run, in one submit, and says how
    /// long that took (see [`Gpu::time`]).
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or what the device says.
    pub fn time(&self, plan: PlanId, times: usize) -> Result<Elapsed> {
        self.gpu.time(&self.prepared(plan).program, times)
    }

    /// The kernels of a plan's dispatches, in order.
    pub fn kernels(&self, plan: PlanId) -> Vec<&'static str> {
        self.prepared(plan).steps.iter().map(|(node, index)| node.kernels[*index].kernel).collect()
    }

    /// Sets a state from the host.
    ///
    /// # Errors
    /// [`Error::Request`] for a wrong name or spec.
    pub fn write_state(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let (spec, buffer) = self.state(name)?;
        if spec != tensor.spec() {
            return Err(Error::Request(format!("state `{name}` is {spec}, got {}", tensor.spec())));
        }
        let mut bytes = tensor.bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.gpu.write(buffer, 0, &bytes)
    }

    /// Sets one slot (index of the first dimension) of a state to zero.
    ///
    /// # Errors
    /// [`Error::Request`] for a wrong name.
    pub fn clear_state_slot(&mut self, name: &str, slot: usize) -> Result<()> {
        let (spec, buffer) = self.state(name)?;
        let slots = spec.shape.dims().first().copied().unwrap_or(1).max(1);
        let bytes = spec.bytes() / slots as u64;
        self.gpu.clear(buffer, slot as u64 * bytes, bytes)
    }

    fn state(&self, name: &str) -> Result<(&Spec, &Buffer)> {
        let found = self.states.get(name).map(|(spec, buffer)| (spec, buffer.as_ref()));
        found.ok_or_else(|| Error::Request(format!("there is no state `{name}`")))
    }
}

/// What records say of the dispatches of one node.
fn node_steps(steps: &[Step]) -> impl Iterator<Item = (Arc<NodeInfo>, usize)> {
    let kernel = |step: &Step| KernelInfo { kernel: step.launch.kernel, variant: step.launch.variant_text() };
    let Step { name, applied, selected, .. } = &steps[0];
    let (name, applied, selected) = (name.clone(), applied.clone(), selected.clone());
    let node = Arc::new(NodeInfo { name, applied, selected, kernels: steps.iter().map(kernel).collect() });
    (0..steps.len()).map(move |index| (node.clone(), index))
}

fn find<'a, T>(list: &'a [(String, Spec, T)], name: &str, what: &str) -> Result<&'a (String, Spec, T)> {
    list.iter().find(|(known, _, _)| known == name).ok_or_else(|| {
        let names: Vec<&str> = list.iter().map(|(known, _, _)| known.as_str()).collect();
        Error::Request(format!("there is no {what} `{name}`; there are {}", names.join(", ")))
    })
}

fn split_tensors(wanted: &[Spec], bytes: &[u8]) -> Vec<Tensor> {
    let mut offset = 0;
    wanted
        .iter()
        .map(|spec| {
            let length = usize::try_from(spec.bytes()).expect("results fit in memory");
            let tensor = Tensor::from_bytes(spec.clone(), bytes[offset..offset + length].to_vec());
            offset += length.next_multiple_of(4);
            tensor
        })
        .collect()
}

/// A weight's values on the host: read, known, or prepared of such.
fn host_tensor(weight: &PlannedWeight, source: &dyn WeightRows) -> Result<Arc<Tensor>> {
    match &weight.data {
        WeightData::Constant(tensor) => Ok(tensor.clone()),
        WeightData::File(file) => {
            let (rows, cols) = weight.spec.shape.rows_and_cols();
            let bytes = source.rows(file, &weight.spec, 0..rows, cols)?;
            Ok(Arc::new(Tensor::from_bytes(weight.spec.clone(), bytes)))
        }
        WeightData::Prepared(rule, inputs) => {
            let inputs: Vec<Tensor> = inputs
                .iter()
                .map(|input| host_tensor(input, source).map(Arc::unwrap_or_clone))
                .collect::<Result<_>>()?;
            Ok(Arc::new(rule.prepare(&inputs)?))
        }
    }
}

fn padded_rows(tensor: &Tensor, rows: Range<usize>, pitch: usize) -> Vec<u8> {
    let (_, cols) = tensor.spec().shape.rows_and_cols();
    let size = tensor.dtype().size();
    let mut bytes = vec![0; rows.len() * pitch * size];
    if cols > 0 {
        let source =
            tensor.bytes()[rows.start * cols * size..rows.end * cols * size].chunks_exact(cols * size);
        for (row, target) in source.zip(bytes.chunks_exact_mut(pitch * size)) {
            target[..cols * size].copy_from_slice(row);
        }
    }
    bytes
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Optimises and plans a graph for a device, without one.
///
/// # Errors
/// [`Error::Op`] when an operator cannot run there.
pub fn plan_graph(mut graph: Graph, caps: &Caps) -> Result<Plan> {
    optimise(&mut graph)?;
    lower(&mut graph, caps)?;
    Plan::new(&graph, caps)
}

/// Runs one operator on host tensors: what tests and the doctor compare with `reference`. States
/// (see [`Graph::of_op`]) start with the tensor given.
///
/// # Errors
/// What `infer`, `launch` or the device say.
pub fn run_op(gpu: &Gpu, op: Arc<dyn Op>, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let graph = Graph::of_op(op.clone(), inputs)?;
    let names: Vec<String> = graph.outputs().iter().map(|(name, _)| name.clone()).collect();
    let mut session = Session::new(gpu, None);
    let plan = session.add_as_is(graph)?;
    let mut given = Vec::new();
    for (index, tensor) in inputs.iter().enumerate() {
        let name = format!("input {index}");
        if op.aliases().iter().any(|&(_, input)| input == index) {
            session.write_state(&name, tensor)?;
        } else if op.layout(index) == Layout::Plain {
            given.push((name, tensor.bytes()));
        }
    }
    let given: Vec<(&str, &[u8])> = given.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    session.run(plan, &given, &wanted, &|| false)
}

impl Session {
    /// Adds a graph without weights from files, each node as it stands: nothing is fused, and
    /// nothing left out that no output needs.
    pub(crate) fn add_as_is(&mut self, graph: Graph) -> Result<PlanId> {
        let caps = self.gpu.caps().clone();
        self.add_for(graph, &caps)
    }

    /// The same, planned for the device with other capabilities: with other choices forced.
    pub(crate) fn add_for(&mut self, mut graph: Graph, caps: &Caps) -> Result<PlanId> {
        graph.check()?;
        lower(&mut graph, caps)?;
        let plan = Plan::new(&graph, caps)?;
        let prepared = self.prepare_all(&[plan], 1, &NoWeights, &mut |_| {})?;
        self.plans.extend(prepared.into_iter().map(Some));
        Ok(PlanId(self.plans.len() - 1))
    }
}
