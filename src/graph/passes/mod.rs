//! Rewrite passes. Each keeps the graph's outputs the same, and takes time in proportion to the
//! number of nodes.

mod activations;
mod attention;
mod chains;
mod dead;
mod fold;
mod image;
mod linear;
mod norms;
mod prepare;
mod rewrite;
mod rope;
mod share;
mod simplify;

use super::{Graph, Node, ValueId};
use crate::Result;
use std::collections::HashSet;

type Pass = fn(&mut Graph) -> Result<()>;

/// Passes that know what operators are.
const PATTERNS: [Pass; 5] = [
    fold::fold_constants,
    share::share_equal_nodes,
    fuse,
    // Nodes that fusion made may be equal, or lie next to others that they fuse with.
    share::share_equal_nodes,
    fuse,
];

/// Passes after those, as their patterns know functions of elements one by one.
const LAST: [Pass; 2] = [fuse_chains, dead::remove_dead_code];

/// Applies all passes, and checks the graph after each in debug builds.
///
/// # Errors
/// When a folded node's reference fails, or the graph is not well formed.
pub fn optimise(graph: &mut Graph) -> Result<()> {
    apply(graph, &[&PATTERNS[..], &LAST].concat())
}

fn apply(graph: &mut Graph, passes: &[Pass]) -> Result<()> {
    for pass in passes {
        pass(graph)?;
        if cfg!(debug_assertions) {
            graph.check()?;
        }
    }
    Ok(())
}

/// All patterns; of those that fit a node, the first.
fn fuse(graph: &mut Graph) -> Result<()> {
    let families: [&[rewrite::Pattern]; 7] = [
        simplify::PATTERNS,
        norms::PATTERNS,
        rope::PATTERNS,
        attention::PATTERNS,
        image::PATTERNS,
        linear::PATTERNS,
        // Last: what follows an operator goes into its kernel.
        activations::PATTERNS,
    ];
    rewrite::rewrite(graph, &families.concat())
}

/// Functions of elements that no kernel of another operator took.
fn fuse_chains(graph: &mut Graph) -> Result<()> {
    rewrite::rewrite(graph, chains::PATTERNS)
}

/// Values that a node changes in place: each has a next version.
fn changed_values(nodes: &[Node]) -> HashSet<ValueId> {
    let changes =
        |node: &Node| node.op.aliases().iter().map(|&(_, input)| node.inputs[input]).collect::<Vec<_>>();
    nodes.iter().flat_map(changes).collect()
}

#[cfg(test)]
mod tests {
    //! What tests of patterns share: graphs are computed by the references before and after the passes.

    use super::{LAST, PATTERNS, Pass, apply, dead};
    use crate::graph::{Graph, Source, ValueId};
    use crate::ops::cases::Random;
    use crate::ops::{Binary, BinaryFn, Op, Unary, UnaryFn};
    use crate::tensor::{DType, Spec, Tensor};
    use std::collections::HashMap;
    use std::sync::Arc;

    /// A graph under construction whose steps cannot fail.
    pub(super) struct Builder {
        pub(super) graph: Graph,
        random: Random,
    }

    impl Builder {
        pub(super) fn input(&mut self, dims: impl Into<Vec<usize>>) -> ValueId {
            let name = format!("input {}", self.graph.values().count());
            self.graph.input(name, Spec::f32(dims.into()))
        }

        /// A constant with random values.
        pub(super) fn stored(&mut self, dims: impl Into<Vec<usize>>) -> ValueId {
            let tensor = self.random.f32(dims.into());
            self.constant(tensor)
        }

        pub(super) fn constant(&mut self, tensor: Tensor) -> ValueId {
            let name = format!("constant {}", self.graph.values().count());
            self.graph.constant(name, Arc::new(tensor))
        }

        pub(super) fn number(&mut self, number: f32) -> ValueId {
            self.constant(Tensor::from_f32(vec![], &[number]))
        }

        pub(super) fn add(&mut self, op: impl Op, inputs: &[ValueId]) -> ValueId {
            self.graph.add_one(op, inputs).unwrap()
        }

        pub(super) fn unary(&mut self, function: UnaryFn, x: ValueId) -> ValueId {
            self.add(Unary(function), &[x])
        }

        pub(super) fn binary(&mut self, function: BinaryFn, left: ValueId, right: ValueId) -> ValueId {
            self.add(Binary(function), &[left, right])
        }

        /// A function of a value and a number, in this order.
        pub(super) fn with_number(&mut self, function: BinaryFn, x: ValueId, number: f32) -> ValueId {
            let number = self.number(number);
            self.binary(function, x, number)
        }

        pub(super) fn output(&mut self, value: ValueId) {
            let name = format!("output {}", self.graph.outputs().len());
            self.graph.output(name, value);
        }
    }

    /// The outputs of a graph, by the references.
    fn outputs(graph: &Graph, random: &mut Random) -> Vec<Tensor> {
        let mut tensors: HashMap<ValueId, Tensor> = HashMap::new();
        for (id, value) in graph.values() {
            match &value.source {
                Source::Input if value.spec.dtype == DType::F32 => {
                    tensors.insert(id, random.f32(value.spec.shape.clone()));
                }
                Source::Constant(tensor) => {
                    tensors.insert(id, Tensor::clone(tensor));
                }
                _ => {}
            }
        }
        for node in graph.nodes() {
            let inputs: Vec<Tensor> = node.inputs.iter().map(|id| tensors[id].clone()).collect();
            let outputs = node.op.reference(&inputs).unwrap();
            tensors.extend(node.outputs.iter().copied().zip(outputs));
        }
        graph.outputs().iter().map(|(_, id)| tensors[id].clone()).collect()
    }

    /// Builds a graph, applies the patterns of operators, and compares its outputs with those of before.
    /// Returns it with the names of its operators that are no views.
    #[track_caller]
    pub(super) fn optimised(build: impl FnOnce(&mut Builder)) -> (Graph, Vec<&'static str>) {
        passed(build, &[&PATTERNS[..], &[dead::remove_dead_code]].concat())
    }

    /// The same with all passes.
    #[track_caller]
    pub(super) fn chained(build: impl FnOnce(&mut Builder)) -> (Graph, Vec<&'static str>) {
        passed(build, &[&PATTERNS[..], &LAST].concat())
    }

    #[track_caller]
    fn passed(build: impl FnOnce(&mut Builder), passes: &[Pass]) -> (Graph, Vec<&'static str>) {
        let mut builder = Builder { graph: Graph::new(), random: Random::new(7) };
        build(&mut builder);
        let mut graph = builder.graph;
        let before = outputs(&graph, &mut Random::new(3));
        apply(&mut graph, passes).unwrap();
        graph.check().unwrap();
        let after = outputs(&graph, &mut Random::new(3));
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.spec(), after.spec());
            for (before, after) in before.to_f64().into_iter().zip(after.to_f64()) {
                assert!(
                    (before - after).abs() <= 1e-5 * (1.0 + before.abs()),
                    "{before} became {after}\n{graph}"
                );
            }
        }
        let names =
            graph.nodes().iter().filter(|node| !node.op.is_view()).map(|node| node.op.name()).collect();
        (graph, names)
    }

    /// Checks that these operators are left.
    #[track_caller]
    pub(super) fn assert_becomes(names: &[&str], build: impl FnOnce(&mut Builder)) {
        let (graph, got) = optimised(build);
        assert_eq!(got, names, "\n{graph}");
    }
}
