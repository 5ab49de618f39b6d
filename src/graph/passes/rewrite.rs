//! The machinery of rewriting: patterns look at a node and those before it, and say by what
//! they are replaced.
//!
//! A sweep visits every node once, in order, so that a pattern sees what earlier ones made. It
//! need not check what it leaves out: a rewrite is only done if what is left out is read by
//! nothing else, and if the new node gives exactly what the old one did.

use crate::Result;
use crate::graph::{Graph, Node, Source, ValueId};
use crate::ops::{Binary, BinaryFn, Op, Preparation, Unary, UnaryFn};
use crate::tensor::{DType, Spec, Tensor};
use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// A pattern: what a node, the last of those that it is made of, becomes.
pub(super) type Pattern = fn(&Nodes<'_>, &Node) -> Option<Rewrite>;

/// What a node becomes.
#[derive(Debug)]
pub(super) enum Rewrite {
    /// Nothing: its output is this value.
    Value(ValueId),
    /// Another node with the same output.
    Node(Fused),
    /// Nothing: the maker of `value`, which is read by views in front of the node only, becomes
    /// `op`, and the output is the node's input.
    Earlier {
        /// The value.
        value: ValueId,
        /// What its maker becomes.
        op: Arc<dyn Op>,
    },
}

/// A node that takes the place of others.
#[derive(Debug)]
pub(super) struct Fused {
    op: Arc<dyn Op>,
    inputs: Vec<Input>,
    name: Option<String>,
    shared: bool,
}

impl Fused {
    pub(super) fn new(op: impl Op, inputs: Vec<Input>) -> Self {
        Self::of_shared(Arc::new(op), inputs)
    }

    pub(super) fn of_shared(op: Arc<dyn Op>, inputs: Vec<Input>) -> Self {
        Self { op, inputs, name: None, shared: false }
    }

    /// Takes the name of a node, mostly that with the most work.
    #[must_use]
    pub(super) fn named(mut self, node: &Node) -> Self {
        self.name = Some(node.name.clone());
        self
    }

    /// Says that the rewrite pays even where what it leaves out is needed elsewhere.
    #[must_use]
    pub(super) fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    pub(super) fn rewrite(self) -> Option<Rewrite> {
        Some(Rewrite::Node(self))
    }
}

/// An input of a fused node.
#[derive(Debug)]
pub(super) enum Input {
    /// A value of the graph.
    Value(ValueId),
    /// A constant.
    Constant(Tensor),
    /// Prepared of stored values when they are loaded.
    Prepared(Arc<dyn Preparation>, Vec<Self>),
    /// The output of another new node.
    Applied(Arc<dyn Op>, Vec<Self>),
}

impl Input {
    pub(super) fn applied(op: impl Op, inputs: Vec<Self>) -> Self {
        Self::Applied(Arc::new(op), inputs)
    }

    /// A vector of one number.
    pub(super) fn filled(number: f32, length: usize) -> Self {
        Self::Constant(Tensor::from_f32([length], &vec![number; length]))
    }

    /// The values of the graph that it is made of.
    fn values(&self, found: &mut Vec<ValueId>) {
        match self {
            Self::Value(id) => found.push(*id),
            Self::Constant(_) => {}
            Self::Prepared(_, inputs) | Self::Applied(_, inputs) => {
                inputs.iter().for_each(|input| input.values(found));
            }
        }
    }

    fn spec(&self, graph: &Graph) -> Option<Spec> {
        let specs =
            |inputs: &[Self]| inputs.iter().map(|input| input.spec(graph)).collect::<Option<Vec<_>>>();
        match self {
            Self::Value(id) => Some(graph.spec(*id).clone()),
            Self::Constant(tensor) => Some(tensor.spec().clone()),
            Self::Prepared(rule, inputs) => rule.infer(&specs(inputs)?).ok(),
            Self::Applied(op, inputs) => op.infer(&specs(inputs)?).ok()?.into_iter().next(),
        }
    }
}

impl From<ValueId> for Input {
    fn from(id: ValueId) -> Self {
        Self::Value(id)
    }
}

/// Values of the graph as inputs.
pub(super) fn inputs<'a>(ids: impl IntoIterator<Item = &'a ValueId>) -> Vec<Input> {
    ids.into_iter().copied().map(Input::Value).collect()
}

pub(super) fn as_op<T: Op>(node: &Node) -> Option<&T> {
    let op: &dyn Any = node.op.as_ref();
    op.downcast_ref()
}

/// What patterns see: the values with the nodes that make them.
#[derive(Debug)]
pub(super) struct Nodes<'g> {
    graph: &'g Graph,
    nodes: &'g [Node],
    makers: &'g [Option<usize>],
    uses: &'g [usize],
}

impl<'g> Nodes<'g> {
    pub(super) fn spec(&self, id: ValueId) -> &'g Spec {
        self.graph.spec(id)
    }

    pub(super) fn dims(&self, id: ValueId) -> &'g [usize] {
        self.spec(id).shape.dims()
    }

    pub(super) fn is_stored(&self, id: ValueId) -> bool {
        self.graph.value(id).is_stored()
    }

    /// Whether exactly one node or output reads a value.
    pub(super) fn is_read_once(&self, id: ValueId) -> bool {
        self.uses[id.0] == 1
    }

    /// Whether nothing but this node reads a value.
    pub(super) fn is_read_only_by(&self, id: ValueId, node: &Node) -> bool {
        self.uses[id.0] == node.inputs.iter().filter(|input| **input == id).count()
    }

    /// The tensor of a constant of a few elements.
    pub(super) fn constant(&self, id: ValueId) -> Option<Tensor> {
        const FEW: usize = 1 << 16;
        (self.spec(id).elements() <= FEW).then(|| self.graph.constant_of(id)).flatten()
    }

    /// A constant of one element.
    pub(super) fn number(&self, id: ValueId) -> Option<f64> {
        let tensor = (self.spec(id).elements() == 1).then(|| self.graph.constant_of(id)).flatten()?;
        tensor.to_f64().first().copied()
    }

    /// The node that makes a value.
    pub(super) fn maker(&self, id: ValueId) -> Option<&'g Node> {
        self.makers[id.0].map(|index| &self.nodes[index])
    }

    /// The operator that makes a value, with its node.
    pub(super) fn made_by<T: Op>(&self, id: ValueId) -> Option<(&'g T, &'g Node)> {
        let node = self.maker(id)?;
        Some((as_op(node)?, node))
    }

    /// The operands of this function of two values.
    pub(super) fn binary(&self, id: ValueId, function: BinaryFn) -> Option<[ValueId; 2]> {
        let (op, node) = self.made_by::<Binary>(id)?;
        (op.0 == function).then(|| [node.inputs[0], node.inputs[1]])
    }

    /// The function of one value, and that value.
    pub(super) fn unary(&self, id: ValueId) -> Option<(UnaryFn, ValueId)> {
        let (op, node) = self.made_by::<Unary>(id)?;
        Some((op.0, node.inputs[0]))
    }

    /// x of x + c or c + x, and the number c; x has the shape of the sum.
    pub(super) fn plus_number(&self, id: ValueId) -> Option<(ValueId, f64)> {
        let operands = self.binary(id, BinaryFn::Add)?;
        either(operands, |x, number| {
            (self.spec(x) == self.spec(id)).then_some(())?;
            Some((x, self.number(number)?))
        })
    }

    /// Input of an operator as an f32 vector: a vector, or a stored value with axes of size 1
    /// before its last.
    pub(super) fn vector(&self, id: ValueId, length: usize) -> Option<Input> {
        let (spec, dims) = (self.spec(id), self.dims(id));
        let row = spec.elements() == length && dims.last() == Some(&length);
        let fits = dims == [length] || (row && self.is_stored(id));
        (fits && spec.dtype == DType::F32).then(|| self.reshaped(id, [length]))
    }

    /// A value under another shape of as many elements: stored values when they are loaded.
    pub(super) fn reshaped(&self, id: ValueId, dims: impl Into<Vec<usize>>) -> Input {
        let dims = dims.into();
        if self.dims(id) == dims {
            Input::Value(id)
        } else if self.is_stored(id) {
            Input::Prepared(Arc::new(super::prepare::Reshaped { dims }), vec![id.into()])
        } else {
            Input::applied(crate::ops::Reshape { dims }, vec![id.into()])
        }
    }
}

/// The first order of two operands in which `pattern` finds something.
pub(super) fn either<T>(
    operands: [ValueId; 2],
    mut pattern: impl FnMut(ValueId, ValueId) -> Option<T>,
) -> Option<T> {
    let [left, right] = operands;
    pattern(left, right).or_else(|| pattern(right, left))
}

/// A name that says the content of a constant: plans of a session share those of one name.
fn content_name(tensor: &Tensor) -> String {
    let hash = |seed: u64| {
        let mut hasher = DefaultHasher::new();
        (seed, tensor.dims(), tensor.bytes()).hash(&mut hasher);
        hasher.finish()
    };
    format!("{} {:016x}{:016x}", tensor.spec(), hash(0), hash(1))
}

/// Replaces nodes as the first pattern says that finds something, again and again.
pub(super) fn rewrite(graph: &mut Graph, patterns: &[Pattern]) -> Result<()> {
    let mut sweep = Sweep::new(graph);
    for index in 0..sweep.nodes.len() {
        sweep.visit(index, patterns)?;
    }
    sweep.finish();
    Ok(())
}

/// Most rewrites of one node in a sweep: each makes it larger, so there are few.
const MOST_REWRITES: usize = 16;

/// Most nodes that one rewrite leaves out.
const MOST_NODES: usize = 64;

struct Sweep<'g> {
    graph: &'g mut Graph,
    /// The graph's nodes, then new ones.
    nodes: Vec<Node>,
    removed: Vec<bool>,
    /// New nodes that come before a node of the graph.
    before: HashMap<usize, Vec<usize>>,
    /// New constants by name.
    constants: HashMap<String, ValueId>,
    /// By value.
    makers: Vec<Option<usize>>,
    uses: Vec<usize>,
    /// Values that are another now.
    forwards: HashMap<ValueId, ValueId>,
    /// Values that a later node changes in place.
    changed: HashSet<ValueId>,
}

impl<'g> Sweep<'g> {
    fn new(graph: &'g mut Graph) -> Self {
        let uses = graph.use_counts();
        let nodes = std::mem::take(&mut graph.nodes);
        let mut makers = vec![None; uses.len()];
        for (index, node) in nodes.iter().enumerate() {
            node.outputs.iter().for_each(|id| makers[id.0] = Some(index));
        }
        let changed = super::changed_values(&nodes);
        let removed = vec![false; nodes.len()];
        let (before, constants, forwards) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { graph, nodes, removed, before, constants, makers, uses, forwards, changed }
    }

    fn view(&self) -> Nodes<'_> {
        Nodes { graph: self.graph, nodes: &self.nodes, makers: &self.makers, uses: &self.uses }
    }

    fn forward(&self, mut id: ValueId) -> ValueId {
        while let Some(next) = self.forwards.get(&id) {
            id = *next;
        }
        id
    }

    fn visit(&mut self, index: usize, patterns: &[Pattern]) -> Result<()> {
        let inputs = self.nodes[index].inputs.iter().map(|id| self.forward(*id)).collect();
        self.nodes[index].inputs = inputs;
        for _ in 0..MOST_REWRITES {
            let node = &self.nodes[index];
            let unread = node.outputs.iter().all(|id| self.uses[id.0] == 0);
            if self.removed[index] || unread || !node.op.aliases().is_empty() || node.outputs.len() != 1 {
                break;
            }
            let found = patterns.iter().find_map(|pattern| {
                let rewrite = pattern(&self.view(), node)?;
                self.is_sound(index, &rewrite).then_some(rewrite)
            });
            match found {
                Some(rewrite) => self.apply(index, rewrite)?,
                None => break,
            }
        }
        Ok(())
    }

    /// Whether the output stays the same, and nothing is computed twice.
    fn is_sound(&self, index: usize, rewrite: &Rewrite) -> bool {
        let node = &self.nodes[index];
        let output = self.graph.spec(node.outputs[0]);
        match rewrite {
            // A state, and what is changed in place, must be copied to be read later.
            Rewrite::Value(id) => {
                let source = &self.graph.value(*id).source;
                let is_output = self.graph.outputs.iter().any(|(_, output)| *output == node.outputs[0]);
                let stays = matches!(source, Source::Node) || !is_output;
                let free = !self.changed.contains(id) && !self.changed.contains(&node.outputs[0]);
                stays && free && !matches!(source, Source::State) && self.graph.spec(*id) == output
            }
            Rewrite::Node(fused) => {
                let specs: Option<Vec<Spec>> =
                    fused.inputs.iter().map(|input| input.spec(self.graph)).collect();
                let inferred = specs.and_then(|specs| fused.op.infer(&specs).ok());
                inferred.is_some_and(|specs| specs == [output.clone()]) && self.may_leave_out(index, fused)
            }
            Rewrite::Earlier { value, op } => {
                let Some(maker) = self.makers[value.0] else { return false };
                let maker = &self.nodes[maker];
                let specs: Vec<Spec> = maker.inputs.iter().map(|id| self.graph.spec(*id).clone()).collect();
                op.infer(&specs).is_ok_and(|specs| specs == [self.graph.spec(*value).clone()])
            }
        }
    }

    /// Whether nothing else reads the values between the inputs of a fused node and its output.
    fn may_leave_out(&self, root: usize, fused: &Fused) -> bool {
        let mut kept = Vec::new();
        fused.inputs.iter().for_each(|input| input.values(&mut kept));
        let direct = &self.nodes[root].inputs;
        if kept.iter().any(|id| self.changed.contains(id) && !direct.contains(id)) {
            return false;
        }
        let mut inner: Vec<usize> = Vec::new();
        let mut waiting = direct.clone();
        while let Some(id) = waiting.pop() {
            let Some(maker) = self.makers[id.0].filter(|_| !kept.contains(&id)) else { continue };
            if inner.contains(&maker) {
                continue;
            }
            if inner.len() == MOST_NODES || !self.nodes[maker].op.aliases().is_empty() {
                return false;
            }
            inner.push(maker);
            waiting.extend(&self.nodes[maker].inputs);
        }
        let readers = || inner.iter().chain([&root]).flat_map(|node| &self.nodes[*node].inputs);
        let is_left_out = |node: &Node| {
            // A view of what is kept costs nothing.
            let is_free = node.op.is_view() && node.inputs.iter().all(|id| kept.contains(id));
            let unread = |id: &ValueId| readers().filter(|read| **read == *id).count() == self.uses[id.0];
            is_free || node.outputs.iter().all(unread)
        };
        fused.shared || inner.iter().all(|node| is_left_out(&self.nodes[*node]))
    }

    fn apply(&mut self, index: usize, rewrite: Rewrite) -> Result<()> {
        match rewrite {
            Rewrite::Value(id) => self.replace_by(index, id),
            Rewrite::Node(fused) => {
                let mut inputs = Vec::with_capacity(fused.inputs.len());
                for input in fused.inputs {
                    inputs.push(self.input(index, input)?);
                }
                inputs.iter().for_each(|id| self.uses[id.0] += 1);
                let node = &mut self.nodes[index];
                node.op = fused.op;
                node.name = fused.name.unwrap_or_else(|| node.name.clone());
                let old = std::mem::replace(&mut node.inputs, inputs);
                old.into_iter().for_each(|id| self.release(id));
            }
            Rewrite::Earlier { value, op } => {
                let maker = self.makers[value.0].expect("it was there when the rewrite was checked");
                self.nodes[maker].op = op;
                self.replace_by(index, self.nodes[index].inputs[0]);
            }
        }
        Ok(())
    }

    /// Removes a node whose output is another value.
    fn replace_by(&mut self, index: usize, id: ValueId) {
        let output = self.nodes[index].outputs[0];
        self.uses[id.0] += std::mem::take(&mut self.uses[output.0]);
        self.forwards.insert(output, id);
        self.remove(index);
    }

    /// The value of an input of the new node at `index`.
    fn input(&mut self, index: usize, input: Input) -> Result<ValueId> {
        let id = match input {
            Input::Value(id) => id,
            Input::Constant(tensor) => {
                let name = content_name(&tensor);
                let graph = &mut *self.graph;
                *self.constants.entry(name.clone()).or_insert_with(|| graph.constant(name, Arc::new(tensor)))
            }
            Input::Prepared(rule, inputs) => {
                let ids = self.inputs(index, inputs)?;
                self.graph.prepared(rule, &ids)?
            }
            Input::Applied(op, inputs) => {
                let ids = self.inputs(index, inputs)?;
                let name = self.nodes[index].name.clone();
                let specs: Vec<Spec> = ids.iter().map(|id| self.graph.spec(*id).clone()).collect();
                let inferred = op.infer(&specs).map_err(|error| error.at_node(&name))?;
                let push = |spec| self.graph.push(name.clone(), spec, Source::Node);
                let outputs: Vec<ValueId> = inferred.into_iter().map(push).collect();
                self.grow();
                let new = self.nodes.len();
                outputs.iter().for_each(|id| self.makers[id.0] = Some(new));
                ids.iter().for_each(|id| self.uses[id.0] += 1);
                let output = outputs[0];
                self.nodes.push(Node { name, op, inputs: ids, outputs, selected: Vec::new() });
                self.removed.push(false);
                self.before.entry(index).or_default().push(new);
                output
            }
        };
        self.grow();
        Ok(id)
    }

    fn inputs(&mut self, index: usize, inputs: Vec<Input>) -> Result<Vec<ValueId>> {
        inputs.into_iter().map(|input| self.input(index, input)).collect()
    }

    /// Makes room for values that were added to the graph.
    fn grow(&mut self) {
        self.makers.resize(self.graph.values.len(), None);
        self.uses.resize(self.graph.values.len(), 0);
    }

    /// Notes that one reader less reads a value; what nothing reads is removed.
    fn release(&mut self, id: ValueId) {
        self.uses[id.0] -= 1;
        let Some(maker) = self.makers[id.0] else { return };
        let node = &self.nodes[maker];
        if node.op.aliases().is_empty() && node.outputs.iter().all(|id| self.uses[id.0] == 0) {
            self.remove(maker);
        }
    }

    fn remove(&mut self, index: usize) {
        if !std::mem::replace(&mut self.removed[index], true) {
            for id in self.nodes[index].inputs.clone() {
                self.release(id);
            }
        }
    }

    fn finish(self) {
        let forwarded: Vec<ValueId> = self.graph.outputs.iter().map(|(_, id)| self.forward(*id)).collect();
        self.graph.outputs.iter_mut().zip(forwarded).for_each(|((_, id), new)| *id = new);
        let count = self.nodes.len() - self.before.values().map(Vec::len).sum::<usize>();
        let mut nodes: Vec<Option<Node>> = self.nodes.into_iter().map(Some).collect();
        for index in 0..count {
            let new = self.before.get(&index).into_iter().flatten().copied();
            for place in new.chain([index]).filter(|place| !self.removed[*place]) {
                self.graph.nodes.extend(nodes[place].take());
            }
        }
    }
}
