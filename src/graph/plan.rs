//! A plan: the steps of a graph for one device, and the buffers they use. Plain data.

use super::memory::SlotPlanner;
use super::{Graph, Node, Source, ValueId, WeightSource};
use crate::kernel::{Caps, Launch, Layout, Operand, Selected, row_parts, row_pitch};
use crate::ops::{Applied, Preparation};
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What a binding of a step refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BufferRef {
    /// An input of the plan.
    Input(usize),
    /// A weight and its row part.
    Weight(usize, usize),
    /// A state.
    State(usize),
    /// A slot of the pool that the plans of a session share.
    Slot(usize),
    /// An output of the plan.
    Output(usize),
}

/// One dispatch with the buffers it binds.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Index of the node in the graph.
    pub node: usize,
    /// Name of the node.
    pub name: String,
    /// The operator that the node applies.
    pub applied: Arc<Applied>,
    /// The dispatch.
    pub launch: Launch,
    /// Buffers in the order of `launch.bindings`, with the bytes of each that are bound.
    pub buffers: Vec<(BufferRef, u64)>,
    /// What was picked for the node where there was a choice: the same for all its steps.
    pub selected: Arc<[Selected]>,
}

/// A weight or constant that a plan needs resident.
#[derive(Debug, Clone)]
pub struct PlannedWeight {
    /// Name for messages.
    pub name: String,
    /// Dtype and logical shape on the device.
    pub spec: Spec,
    /// How it lies there.
    pub layout: Layout,
    /// Where its data comes from.
    pub data: WeightData,
}

/// Where the data of a [`PlannedWeight`] comes from.
#[derive(Debug, Clone)]
pub enum WeightData {
    /// The model's files.
    File(WeightSource),
    /// A constant of the graph.
    Constant(Arc<Tensor>),
    /// Computed on the host from others.
    Prepared(Arc<dyn Preparation>, Vec<PlannedWeight>),
}

/// A graph after selection and memory planning, for one device.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Dispatches in order.
    pub steps: Vec<Step>,
    /// Inputs with their specs.
    pub inputs: Vec<(String, Spec)>,
    /// Outputs with their specs and places.
    pub outputs: Vec<(String, Spec, BufferRef)>,
    /// Weights and constants.
    pub weights: Vec<PlannedWeight>,
    /// States with their specs.
    pub states: Vec<(String, Spec)>,
    /// Sizes of the slots in bytes.
    pub slots: Vec<u64>,
    /// Most bytes in slots that are needed at the same time: what slots could take at best.
    pub live_bytes: u64,
}

/// Bytes of a buffer that holds `spec` tightly: a multiple of 16, never zero.
pub(crate) fn buffer_bytes(spec: &Spec) -> u64 {
    spec.bytes().next_multiple_of(16).max(16)
}

impl PlannedWeight {
    /// Bytes of each of its buffers on this device.
    pub fn part_bytes(&self, caps: &Caps) -> Vec<u64> {
        match self.layout {
            Layout::Plain => vec![buffer_bytes(&self.spec)],
            Layout::Rows => {
                let (_, cols) = self.spec.shape.rows_and_cols();
                let row_bytes = (row_pitch(cols, self.spec.dtype) * self.spec.dtype.size()) as u64;
                let parts = row_parts(&self.spec, caps);
                parts.iter().map(|part| (part.rows as u64 * row_bytes).max(16)).collect()
            }
        }
    }
}

impl Plan {
    /// Selects kernels and places values for a device.
    ///
    /// # Errors
    /// When an operator cannot run there, with the node's name and the limit.
    pub fn new(graph: &Graph, caps: &Caps) -> Result<Self> {
        let mut planner = Planner::new(graph, caps)?;
        for (index, node) in graph.nodes.iter().enumerate() {
            planner.place_node(index, node)?;
        }
        planner.finish()
    }

    /// What was picked where there was a choice, of each node once, in order.
    pub fn selected(&self) -> impl Iterator<Item = &Selected> {
        let firsts = self.steps.chunk_by(|a, b| a.node == b.node).map(|steps| &steps[0]);
        firsts.flat_map(|step| step.selected.iter())
    }

    /// Bytes that the plan's own inputs and outputs take.
    pub fn io_bytes(&self) -> u64 {
        let outputs = self.outputs.iter().filter(|(_, _, place)| matches!(place, BufferRef::Output(_)));
        self.inputs.iter().map(|(_, spec)| buffer_bytes(spec)).sum::<u64>()
            + outputs.map(|(_, spec, _)| buffer_bytes(spec)).sum::<u64>()
    }
}

impl std::fmt::Display for Plan {
    /// One line a dispatch: node, kernel, variant, grid, buffers.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for step in &self.steps {
            let launch = &step.launch;
            let (name, kernel, groups) = (&step.name, launch.kernel, launch.workgroups);
            writeln!(f, "{name}: {kernel} [{}] {groups:?} {:?}", launch.variant_text(), step.buffers)?;
        }
        writeln!(f, "slots {:?}", self.slots)
    }
}

/// The state of planning: where each value lies, and how long it is still needed.
struct Planner<'a> {
    graph: &'a Graph,
    caps: &'a Caps,
    plan: Plan,
    places: HashMap<ValueId, BufferRef>,
    /// Weights and constants in each layout that a reader wants.
    weights: HashMap<(ValueId, Layout), usize>,
    /// Values that only give another value another shape, by that value.
    views: HashMap<ValueId, ValueId>,
    /// By value, or by that of which it is a view: the last node that reads it.
    last_use: HashMap<ValueId, usize>,
    slots: SlotPlanner,
}

impl<'a> Planner<'a> {
    fn new(graph: &'a Graph, caps: &'a Caps) -> Result<Self> {
        let (mut last_use, mut views) = (HashMap::new(), HashMap::new());
        for (index, node) in graph.nodes.iter().enumerate() {
            for id in &node.inputs {
                last_use.insert(views.get(id).copied().unwrap_or(*id), index);
            }
            if is_view(graph, node) {
                let whole = views.get(&node.inputs[0]).copied().unwrap_or(node.inputs[0]);
                views.insert(node.outputs[0], whole);
            }
        }
        let (plan, slots) = (Plan::default(), SlotPlanner::default());
        let mut planner = Self {
            graph,
            caps,
            plan,
            places: HashMap::new(),
            weights: HashMap::new(),
            views,
            last_use,
            slots,
        };
        planner.place_sources()?;
        Ok(planner)
    }

    /// Gives inputs, weights, constants and states their buffers.
    fn place_sources(&mut self) -> Result<()> {
        let layouts = weight_layouts(self.graph)?;
        for (id, value) in self.graph.values() {
            let (name, spec) = (value.name.clone(), value.spec.clone());
            let used = self.last_use.contains_key(&id);
            let place = match &value.source {
                Source::Input => {
                    self.plan.inputs.push((name, spec));
                    BufferRef::Input(self.plan.inputs.len() - 1)
                }
                Source::State => {
                    self.plan.states.push((name, spec));
                    BufferRef::State(self.plan.states.len() - 1)
                }
                Source::Weight(_) | Source::Constant(_) | Source::Prepared(_) if used => {
                    for layout in layouts.get(&id).into_iter().flatten() {
                        self.weights.insert((id, *layout), self.plan.weights.len());
                        self.plan.weights.push(planned_weight(self.graph, id, *layout));
                    }
                    BufferRef::Weight(self.plan.weights.len() - 1, 0)
                }
                _ => continue,
            };
            self.places.insert(id, place);
        }
        Ok(())
    }

    fn place_node(&mut self, index: usize, node: &Node) -> Result<()> {
        if self.views.contains_key(&node.outputs[0]) {
            self.places.insert(node.outputs[0], self.places[&node.inputs[0]]);
            self.release_after(index, node);
            return Ok(());
        }
        for (position, id) in node.outputs.iter().enumerate() {
            let place = self.place_output(node, position, *id);
            self.places.insert(*id, place);
        }
        let inputs: Vec<Spec> = node.inputs.iter().map(|id| self.graph.spec(*id).clone()).collect();
        let outputs: Vec<Spec> = node.outputs.iter().map(|id| self.graph.spec(*id).clone()).collect();
        if outputs.iter().any(|spec| spec.elements() > 0) {
            let caps = self.caps.of_op(node.op.name());
            let launches =
                node.op.launch(&caps, &inputs, &outputs).map_err(|error| error.at_node(&node.name))?;
            let scratch: Vec<(usize, u64)> = launches
                .scratch
                .iter()
                .map(|spec| (self.slots.take(buffer_bytes(spec)), buffer_bytes(spec)))
                .collect();
            let applied = Arc::new(Applied::new(node.op.as_ref(), inputs, outputs));
            let selected: Arc<[Selected]> = node.selected.iter().chain(&launches.selected).cloned().collect();
            for launch in launches.steps {
                let buffers = self.bind(node, &launch, &scratch);
                let (name, applied, selected) = (node.name.clone(), applied.clone(), selected.clone());
                let step = Step { node: index, name, applied, launch, buffers, selected };
                self.check_step(&step)?;
                self.plan.steps.push(step);
            }
            for (slot, _) in scratch {
                self.slots.release(slot);
            }
        }
        self.release_after(index, node);
        Ok(())
    }

    /// An alias lies where its input lies; outputs of the plan get buffers of their own.
    fn place_output(&mut self, node: &Node, position: usize, id: ValueId) -> BufferRef {
        if let Some(&(_, input)) = node.op.aliases().iter().find(|(output, _)| *output == position) {
            return self.places[&node.inputs[input]];
        }
        if let Some(index) = self.graph.outputs.iter().position(|(_, output)| *output == id) {
            return BufferRef::Output(index);
        }
        BufferRef::Slot(self.slots.take(buffer_bytes(self.graph.spec(id))))
    }

    fn bind(&self, node: &Node, launch: &Launch, scratch: &[(usize, u64)]) -> Vec<(BufferRef, u64)> {
        let whole = |id: ValueId| (self.places[&id], buffer_bytes(self.graph.spec(id)));
        let input_part = |input: usize, part: usize| {
            let id = node.inputs[input];
            // A view of a weight lies where the weight lies.
            let stored = self.views.get(&id).copied().unwrap_or(id);
            match self.weights.get(&(stored, node.op.layout(input))) {
                Some(&weight) => {
                    (BufferRef::Weight(weight, part), self.plan.weights[weight].part_bytes(self.caps)[part])
                }
                None => whole(id),
            }
        };
        let resolve = |operand: &Operand| match *operand {
            Operand::Input(input) => input_part(input, 0),
            Operand::Output(output) => whole(node.outputs[output]),
            Operand::Scratch(index) => (BufferRef::Slot(scratch[index].0), scratch[index].1),
            Operand::InputPart(input, part) => input_part(input, part),
        };
        launch.bindings.iter().map(resolve).collect()
    }

    /// Checks what wgpu would refuse, or would not: binding sizes and grids.
    fn check_step(&self, step: &Step) -> Result<()> {
        let fail = |message: String| Err(Error::op(step.launch.kernel, message).at_node(&step.name));
        for (place, bytes) in &step.buffers {
            if *bytes > self.caps.max_binding_bytes {
                let limit = self.caps.max_binding_bytes;
                return fail(format!("binds {bytes} bytes ({place:?}), the device's limit is {limit}"));
            }
        }
        if step.launch.workgroups.iter().any(|&count| count > self.caps.max_workgroups || count == 0) {
            let (got, limit) = (step.launch.workgroups, self.caps.max_workgroups);
            return fail(format!("needs {got:?} workgroups, the device has 1 to {limit} in each dimension"));
        }
        Ok(())
    }

    fn release_after(&mut self, index: usize, node: &Node) {
        let whole = |id: &ValueId| self.views.get(id).copied().unwrap_or(*id);
        let mut ended: Vec<ValueId> = node.inputs.iter().chain(&node.outputs).map(whole).collect();
        ended.retain(|id| node.outputs.iter().all(|output| output != id) || !self.last_use.contains_key(id));
        ended.sort_unstable();
        ended.dedup();
        for id in ended {
            let ends_here = self.last_use.get(&id).is_none_or(|&last| last == index);
            // A value whose next version lives on in the same slot keeps it; so does an output.
            let replaced = node.op.aliases().iter().any(|&(_, input)| whole(&node.inputs[input]) == id);
            let kept = replaced || self.graph.outputs.iter().any(|(_, output)| *output == id);
            if let (true, false, BufferRef::Slot(slot)) = (ends_here, kept, self.places[&id]) {
                self.slots.release(slot);
            }
        }
    }

    fn finish(mut self) -> Result<Plan> {
        for (name, id) in &self.graph.outputs {
            let place = self.places[id];
            if matches!(place, BufferRef::Weight(..)) {
                return Err(Error::op("graph", format!("output `{name}` is a weight or constant")));
            }
            self.plan.outputs.push((name.clone(), self.graph.spec(*id).clone(), place));
        }
        let slots = self.slots.assign();
        let buffers = self.plan.steps.iter_mut().flat_map(|step| &mut step.buffers).map(|(place, _)| place);
        for place in buffers.chain(self.plan.outputs.iter_mut().map(|(_, _, place)| place)) {
            if let BufferRef::Slot(number) = place {
                *number = slots.of[*number];
            }
        }
        (self.plan.slots, self.plan.live_bytes) = (slots.sizes, slots.peak);
        Ok(self.plan)
    }
}

/// Whether a node only gives its input another shape: it needs no dispatch. Not so for outputs of
/// the graph, which have buffers of their own, and for states, which may change before it is read.
fn is_view(graph: &Graph, node: &Node) -> bool {
    node.op.is_view()
        && !graph.outputs.iter().any(|(_, output)| *output == node.outputs[0])
        && !matches!(graph.value(node.inputs[0]).source, Source::State)
}

/// A weight, a constant, or what is prepared of them, with what that takes.
fn planned_weight(graph: &Graph, id: ValueId, layout: Layout) -> PlannedWeight {
    let value = graph.value(id);
    let data = match &value.source {
        Source::Weight(source) => WeightData::File(source.clone()),
        Source::Constant(tensor) => WeightData::Constant(tensor.clone()),
        Source::Prepared(prepared) => {
            let inputs = prepared.inputs.iter().map(|id| planned_weight(graph, *id, Layout::Plain));
            WeightData::Prepared(prepared.rule.clone(), inputs.collect())
        }
        Source::Input | Source::State | Source::Node => unreachable!("only stored values are asked for"),
    };
    PlannedWeight { name: value.name.clone(), spec: value.spec.clone(), layout, data }
}

/// The layouts that the readers of each weight and constant want, sorted.
fn weight_layouts(graph: &Graph) -> Result<HashMap<ValueId, BTreeSet<Layout>>> {
    let mut layouts: HashMap<ValueId, BTreeSet<Layout>> = HashMap::new();
    for node in &graph.nodes {
        for (position, id) in node.inputs.iter().enumerate() {
            let layout = node.op.layout(position);
            if graph.value(*id).is_stored() {
                layouts.entry(*id).or_default().insert(layout);
            } else if layout == Layout::Rows {
                let message = format!("input {position} must be a weight or a constant");
                return Err(Error::op(node.op.name(), message).at_node(&node.name));
            }
        }
    }
    Ok(layouts)
}
