//! An operator on several sets of buffers that take turns, larger together than the caches.

use crate::Result;
use crate::gpu::Gpu;
use crate::graph::Graph;
use crate::kernel::{Caps, DeviceKind, Layout};
use crate::ops::{Op, image};
use crate::session::{PlanId, Session};
use crate::tensor::{Spec, Tensor};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// Seconds that a measured run should take at least, so that the submit hardly counts.
const RUN_SECONDS: f64 = 0.05;

/// Most times that a run goes through all sets of buffers.
const MOST_ROUNDS: f64 = 1000.0;

/// Most sets of buffers that a kernel takes turns with.
const MOST_SETS: u64 = 128;

/// A plan that computes an operator once on each of several sets of buffers.
pub(super) struct Rotation {
    session: Rc<RefCell<Session>>,
    plan: PlanId,
    sets: usize,
}

/// An operator as it is launched: those on images take theirs with the channels last. Their elements
/// stay in the old order, as times do not depend on values.
struct Launched {
    op: Arc<dyn Op>,
    inputs: Vec<Arc<Tensor>>,
}

impl Launched {
    fn new(caps: &Caps, op: &Arc<dyn Op>, inputs: &[Arc<Tensor>]) -> Result<Self> {
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        let mut inputs = inputs.to_vec();
        let Some(form) = op.channels_last(caps, &specs) else { return Ok(Self { op: op.clone(), inputs }) };
        for index in form.images {
            let last = image::to_last(&specs[index].shape);
            inputs[index] = Arc::new(inputs[index].as_ref().clone().reshaped(last));
        }
        for (index, rule) in form.prepared {
            inputs[index] = Arc::new(rule.prepare(&[inputs[index].as_ref().clone()])?);
        }
        Ok(Self { op: form.op, inputs })
    }

    /// The graph of all sets; `form` tells constants and states from those of other forms.
    fn graph(&self, form: usize, sets: usize) -> Result<Graph> {
        let mut graph = Graph::new();
        for set in 0..sets {
            let mut ids = Vec::with_capacity(self.inputs.len());
            for (index, tensor) in self.inputs.iter().enumerate() {
                let name = Self::name(form, set, index);
                ids.push(match self.op.layout(index) {
                    Layout::Rows => graph.constant(name, tensor.clone()),
                    Layout::Plain => graph.state(name, tensor.spec().clone()),
                });
            }
            for (index, output) in graph.add_shared(self.op.clone(), &ids)?.into_iter().enumerate() {
                graph.output(format!("output {index} of set {set}"), output);
            }
        }
        Ok(graph)
    }

    fn name(form: usize, set: usize, index: usize) -> String {
        format!("input {index} of set {set} in form {form}")
    }

    fn write_states(&self, session: &mut Session, form: usize, sets: usize) -> Result<()> {
        for (index, tensor) in self.inputs.iter().enumerate() {
            if self.op.layout(index) == Layout::Plain {
                for set in 0..sets {
                    session.write_state(&Self::name(form, set, index), tensor)?;
                }
                session.gpu().flush()?;
            }
        }
        Ok(())
    }
}

impl Rotation {
    /// The rotation of an operator on a device.
    pub(super) fn new(gpu: &Gpu, op: &Arc<dyn Op>, inputs: &[Tensor]) -> Result<Self> {
        Ok(Self::all(gpu, op, inputs, std::slice::from_ref(gpu.caps()))?.remove(0))
    }

    /// The rotations of an operator on a device with different capabilities, for example other
    /// choices forced. Where they take their inputs in the same form, they share the buffers.
    pub(super) fn all(gpu: &Gpu, op: &Arc<dyn Op>, inputs: &[Tensor], devices: &[Caps]) -> Result<Vec<Self>> {
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        let bytes = op.cost(&specs, &op.infer(&specs)?).bytes();
        let sets = (cached_bytes(gpu) / bytes.max(1) + 1).min(MOST_SETS) as usize;
        let inputs: Vec<Arc<Tensor>> = inputs.iter().cloned().map(Arc::new).collect();
        let session = Rc::new(RefCell::new(Session::new(gpu, None)));
        let mut forms: Vec<Launched> = Vec::new();
        let mut rotations = Vec::with_capacity(devices.len());
        for caps in devices {
            let launched = Launched::new(caps, op, &inputs)?;
            let known = |form: &Launched| {
                form.inputs.iter().zip(&launched.inputs).enumerate().all(|(index, (a, b))| {
                    let equal = Arc::ptr_eq(a, b) || a.spec() == b.spec() && a.bytes() == b.bytes();
                    equal && form.op.layout(index) == launched.op.layout(index)
                })
            };
            let form = forms.iter().position(known).unwrap_or(forms.len());
            let plan = session.borrow_mut().add_for(launched.graph(form, sets)?, caps)?;
            if form == forms.len() {
                launched.write_states(&mut session.borrow_mut(), form, sets)?;
                forms.push(launched);
            }
            rotations.push(Self { session: session.clone(), plan, sets });
        }
        Ok(rotations)
    }

    /// Seconds of the operator, by so many times through all sets.
    pub(super) fn seconds_of_one(&self, rounds: usize) -> Result<f64> {
        let elapsed = self.session.borrow().time(self.plan, rounds)?.best();
        Ok(elapsed.as_secs_f64() / (rounds * self.sets) as f64)
    }

    /// Seconds of once through all sets, after a first time that may compile.
    pub(super) fn first_seconds(&self) -> Result<f64> {
        self.seconds_of_one(1)?;
        Ok(self.seconds_of_one(1)? * self.sets as f64)
    }

    /// The kernels of the operator.
    pub(super) fn kernels(&self) -> Vec<&'static str> {
        let mut kernels = self.session.borrow().kernels(self.plan);
        kernels.truncate(kernels.len() / self.sets);
        kernels
    }
}

/// Times through all sets that a run should take, where once takes so many seconds.
pub(super) fn rounds_for(seconds: f64) -> usize {
    (RUN_SECONDS / seconds).clamp(1.0, MOST_ROUNDS) as usize
}

/// More bytes than the caches of a device hold.
fn cached_bytes(gpu: &Gpu) -> u64 {
    if gpu.caps().kind == DeviceKind::Discrete { 256 << 20 } else { 64 << 20 }
}
