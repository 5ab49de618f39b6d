//! Graphs of image operators with channels last: where values are transposed, and that the
//! results stay the same. Compares references, without a GPU.

use std::collections::HashMap;
use std::sync::Arc;
use wginfer::graph::{Graph, Plan, Source, ValueId, lower, optimise};
use wginfer::kernel::Caps;
use wginfer::ops::cases::Random;
use wginfer::ops::{
    Binary, BinaryFn, Concat, Conv, DepthToSpace, Expand, LayerNorm, Op, Pad, PadMode, Reshape, Resize,
    Slice, SliceRange, Transpose, Unary, UnaryFn, Window,
};
use wginfer::tensor::{Spec, Tensor, Tolerance};

/// A graph under construction with random constants.
struct Builder {
    graph: Graph,
    random: Random,
}

impl Builder {
    fn new() -> Self {
        Self { graph: Graph::new(), random: Random::new(7) }
    }

    fn image(&mut self, dims: &[usize]) -> ValueId {
        self.graph.input("x", Spec::f32(dims))
    }

    fn constant(&mut self, dims: &[usize]) -> ValueId {
        let tensor = Arc::new(self.random.f32(dims));
        self.graph.constant(format!("constant {}", self.graph.values().count()), tensor)
    }

    fn add(&mut self, op: impl Op, inputs: &[ValueId]) -> ValueId {
        self.graph.add_one(op, inputs).unwrap()
    }

    /// A convolution with a window of 3 that keeps the size.
    fn conv(&mut self, x: ValueId, outputs: usize) -> ValueId {
        let dims = self.graph.spec(x).shape.dims().to_vec();
        let axes = dims.len() - 2;
        let mut weight = vec![outputs, dims[1]];
        weight.resize(axes + 2, 3);
        let weight = self.constant(&weight);
        self.add(Conv::new(Window::new(vec![3; axes]).padding(vec![1; axes])), &[x, weight])
    }

    fn relu(&mut self, x: ValueId) -> ValueId {
        self.add(Unary(UnaryFn::Relu), &[x])
    }

    fn done(mut self, y: ValueId) -> Graph {
        self.graph.output("y", y);
        self.graph
    }
}

fn software() -> Caps {
    let profiles = Caps::profiles();
    profiles.into_iter().find(|(name, _)| *name == "software").expect("a profile of Caps").1
}

/// The output of a graph by the references of its nodes; inputs are random.
fn computed(graph: &Graph) -> Tensor {
    let mut random = Random::new(9);
    let mut tensors: HashMap<ValueId, Tensor> = HashMap::new();
    for (id, value) in graph.values() {
        match &value.source {
            Source::Input => drop(tensors.insert(id, random.f32(value.spec.shape.clone()))),
            Source::Constant(tensor) => drop(tensors.insert(id, Tensor::clone(tensor))),
            _ => {}
        }
    }
    for node in graph.nodes() {
        let inputs: Vec<Tensor> = node.inputs.iter().map(|id| tensors[id].clone()).collect();
        let outputs = node.op.reference(&inputs).unwrap();
        tensors.extend(node.outputs.iter().copied().zip(outputs));
    }
    tensors[&graph.outputs()[0].1].clone()
}

/// Optimises and lowers a graph, checks that it computes the same, and returns its kernels in order.
fn lowered(mut graph: Graph) -> Vec<&'static str> {
    let want = computed(&graph);
    optimise(&mut graph).unwrap();
    lower(&mut graph, &software()).unwrap();
    graph.check().unwrap();
    let got = computed(&graph);
    let mismatch = Tolerance::of(want.dtype()).mismatch(&got, &want);
    assert!(mismatch.is_none(), "{mismatch:?}\n{graph}");
    let plan = Plan::new(&graph, &software()).unwrap();
    plan.steps.iter().map(|step| step.launch.kernel).collect()
}

/// The kernels without those that compute: only what moves data, or looks like it.
fn moves(kernels: &[&'static str]) -> usize {
    kernels.iter().filter(|kernel| ["strided", "transpose_blocks", "reshape"].contains(kernel)).count()
}

#[test]
fn images_are_transposed_at_the_borders_only() {
    let mut b = Builder::new();
    let x = b.image(&[2, 3, 9, 7]);
    let first = b.conv(x, 8);
    let first = b.relu(first);
    let both = b.add(Concat { axis: 1 }, &[first, first]);
    let second = b.conv(both, 5);
    let y = b.done(second);
    let kernels = lowered(y);
    assert_eq!(kernels.len(), 6, "{kernels:?}");
    assert_eq!((kernels[0], kernels[5], moves(&kernels)), ("strided", "strided", 2), "{kernels:?}");
}

#[test]
fn what_follows_a_convolution_needs_no_transposition() {
    let mut b = Builder::new();
    let x = b.image(&[2, 3, 6, 8]);
    let x = b.conv(x, 8);
    // A gate and a scale of each channel, and a number.
    let gate = b.constant(&[2, 8, 1, 1]);
    let x = b.add(Binary(BinaryFn::Mul), &[x, gate]);
    let scale = b.constant(&[8, 1, 1]);
    let x = b.add(Binary(BinaryFn::PRelu), &[x, scale]);
    let number = b.constant(&[]);
    let x = b.add(Binary(BinaryFn::Sub), &[number, x]);
    let ring = vec![(0, 0), (0, 0), (1, 2), (3, 1)];
    let x = b.add(Pad { pads: ring, mode: PadMode::Reflect }, &[x]);
    let x = b.add(Resize::bilinear([5, 7]), &[x]);
    let x = b.add(DepthToSpace::pixel_shuffle(2), &[x]);
    let ranges = [2, 2, 10, 14].map(SliceRange::full).to_vec();
    let ranges = [&ranges[..1], &[SliceRange::of(1, 2)], &ranges[2..]].concat();
    let x = b.add(Slice { ranges }, &[x]);
    let x = b.add(Expand { dims: vec![2, 3, 10, 14] }, &[x]);
    let x = b.conv(x, 4);
    let y = b.done(x);
    let kernels = lowered(y);
    // Slice, expand and pixel shuffle are copies, besides the two borders and the gate, which is repeated.
    assert_eq!(moves(&kernels), 6, "{kernels:?}");
    assert_eq!((kernels[0], kernels.last()), ("strided", Some(&"transpose_blocks")), "{kernels:?}");
}

/// The block of a ConvNeXt: a convolution, then layers over the channels, which come last there.
#[test]
fn a_models_own_transpositions_meet_those_of_convolutions() {
    let mut b = Builder::new();
    let image = b.image(&[2, 4, 5, 6]);
    let stem = b.conv(image, 8);
    let x = b.conv(stem, 8);
    let x = b.add(Transpose { permutation: vec![0, 2, 3, 1] }, &[x]);
    let (gain, shift) = (b.constant(&[8]), b.constant(&[8]));
    let x = b.add(LayerNorm::new(1e-6, true), &[x, gain, shift]);
    let x = b.add(Transpose { permutation: vec![0, 3, 1, 2] }, &[x]);
    let scale = b.constant(&[8, 1, 1]);
    let x = b.add(Binary(BinaryFn::Mul), &[x, scale]);
    let x = b.add(Binary(BinaryFn::Add), &[x, stem]);
    let x = b.conv(x, 8);
    let y = b.done(x);
    let kernels = lowered(y);
    assert_eq!(moves(&kernels), 2, "{kernels:?}");
}

/// The patches of a vision transformer become rows without being moved, also as an output.
#[test]
fn flattened_patches_are_a_view() {
    for with_more in [false, true] {
        let mut b = Builder::new();
        let image = b.image(&[2, 3, 8, 8]);
        let x = b.conv(image, 8);
        let x = b.add(Reshape { dims: vec![2, 8, 64] }, &[x]);
        let mut x = b.add(Transpose { permutation: vec![0, 2, 1] }, &[x]);
        if with_more {
            let places = b.constant(&[1, 64, 8]);
            x = b.add(Binary(BinaryFn::Add), &[x, places]);
        }
        let y = b.done(x);
        let kernels = lowered(y);
        let last = if with_more { "binary" } else { "reshape" };
        assert_eq!((kernels.len(), kernels[2]), (3, last), "{kernels:?}");
    }
}

/// Of three axes, a transposition of the last two says nothing about images.
#[test]
fn other_transpositions_of_three_axes_change_nothing() {
    let mut b = Builder::new();
    let x = b.image(&[2, 4, 8]);
    let x = b.add(Transpose { permutation: vec![0, 2, 1] }, &[x]);
    let places = b.constant(&[1, 8, 4]);
    let x = b.add(Binary(BinaryFn::Add), &[x, places]);
    let x = b.relu(x);
    let y = b.done(x);
    assert_eq!(lowered(y), ["transpose_blocks", "elementwise"]);
}

/// Convolution, slope and residual are one dispatch.
#[test]
fn slopes_and_residuals_go_into_convolutions() {
    let mut b = Builder::new();
    let image = b.image(&[2, 3, 6, 5]);
    let stem = b.conv(image, 8);
    let x = b.conv(stem, 8);
    let slope = b.constant(&[8, 1, 1]);
    let x = b.add(Binary(BinaryFn::PRelu), &[x, slope]);
    let x = b.add(Binary(BinaryFn::Add), &[stem, x]);
    let y = b.done(x);
    let kernels = lowered(y);
    assert_eq!((kernels.len(), moves(&kernels)), (4, 2), "{kernels:?}");
}

#[test]
fn lines_and_volumes_are_lowered_alike() {
    for dims in [&[2, 3, 11][..], &[1, 2, 4, 5, 3]] {
        let mut b = Builder::new();
        let x = b.image(dims);
        let x = b.conv(x, 4);
        let x = b.add(Resize::nearest(dims[2..].iter().map(|side| side * 2).collect::<Vec<_>>()), &[x]);
        let x = b.add(Concat { axis: 2 }, &[x, x]);
        let x = b.conv(x, 3);
        let y = b.done(x);
        let kernels = lowered(y);
        assert_eq!(moves(&kernels), 2, "{kernels:?}");
    }
}
