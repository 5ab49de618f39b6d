//! What belongs into the kernel of an operator on images: batch norms, also written out, slopes
//! and padding; and the channel shuffle.

use super::rewrite::{Fused, Input, Nodes, Pattern, Rewrite, as_op, either, inputs};
use crate::graph::{Node, ValueId};
use crate::ops::{
    BatchNorm, Binary, BinaryFn, Conv, Gather, Pad, PadMode, Pool, PoolFn, Preparation, Reshape,
};
use crate::ops::{Slice, SliceRange, Transpose, Window};
use crate::tensor::DType;
use std::sync::Arc;

pub(super) const PATTERNS: &[Pattern] =
    &[batch_norm, channel_factor, channel_bias, slope, padded_conv, padded_pool, shuffled_channels];

/// A convolution, then a batch norm with stored statistics: it goes into weight and bias.
fn batch_norm(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let norm: &BatchNorm = as_op(node)?;
    let (conv, maker) = nodes.made_by::<Conv>(node.inputs[0])?;
    let &[_, gamma, beta, mean, variance] = node.inputs.as_slice() else { return None };
    let folded = conv.with_batch_norm(norm)?;
    let (weight, bias) = (maker.inputs[1], maker.inputs.get(2));
    let stored = [weight, gamma, beta, mean, variance].iter().chain(bias).all(|id| nodes.is_stored(*id));
    stored.then_some(())?;
    let weight = Input::Prepared(folded.weight, inputs(&[weight, gamma, variance]));
    let bias = Input::Prepared(folded.bias, inputs([gamma, beta, mean, variance].iter().chain(bias)));
    Fused::new(folded.conv, vec![maker.inputs[0].into(), weight, bias]).named(maker).rewrite()
}

/// The rules for weight and bias by which a convolution takes a factor and a summand for each
/// channel, those of a batch norm of mean 0, variance 1 and eps 0; if nothing follows its sums.
fn channel_rules(conv: &Conv) -> Option<[Arc<dyn Preparation>; 2]> {
    let folded = conv.with_batch_norm(&BatchNorm::new(0.0))?;
    Some([folded.weight, folded.bias])
}

/// A convolution, then a stored factor for each channel.
fn channel_factor(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Binary(BinaryFn::Mul) = as_op(node)? else { return None };
    either([node.inputs[0], node.inputs[1]], |sums, factor| {
        let (conv, maker) = nodes.made_by::<Conv>(sums)?;
        let [weight_rule, bias_rule] = channel_rules(conv)?;
        let channels = nodes.dims(sums)[1];
        let gamma = || per_channel(nodes, factor, sums);
        let (zeros, ones) = (|| Input::filled(0.0, channels), || Input::filled(1.0, channels));
        let weight = Input::Prepared(weight_rule, vec![maker.inputs[1].into(), gamma()?, ones()]);
        let mut all = vec![maker.inputs[0].into(), weight];
        if let Some(bias) = maker.inputs.get(2) {
            nodes.is_stored(*bias).then_some(())?;
            let bias = vec![gamma()?, zeros(), zeros(), ones(), (*bias).into()];
            all.push(Input::Prepared(bias_rule, bias));
        }
        Some(Fused::new(conv.clone(), all).named(maker))
    })?
    .rewrite()
}

/// A convolution, then the addition of a stored number for each channel.
fn channel_bias(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Binary(BinaryFn::Add) = as_op(node)? else { return None };
    either([node.inputs[0], node.inputs[1]], |sums, summand| {
        let (conv, maker) = nodes.made_by::<Conv>(sums)?;
        let [_, bias_rule] = channel_rules(conv)?;
        let channels = nodes.dims(sums)[1];
        let beta = per_channel(nodes, summand, sums)?;
        let (zeros, ones) = (|| Input::filled(0.0, channels), || Input::filled(1.0, channels));
        let bias = match maker.inputs.get(2) {
            None => beta,
            Some(bias) => {
                nodes.is_stored(*bias).then_some(())?;
                Input::Prepared(bias_rule, vec![ones(), beta, zeros(), ones(), (*bias).into()])
            }
        };
        let all = vec![maker.inputs[0].into(), maker.inputs[1].into(), bias];
        Some(Fused::new(Conv { bias: true, ..conv.clone() }, all).named(maker))
    })?
    .rewrite()
}

/// A stored f32 `[c, 1..]` or `[1, c, 1..]`, or a number, as a vector for the channels of an image.
fn per_channel(nodes: &Nodes<'_>, id: ValueId, image: ValueId) -> Option<Input> {
    let channels = nodes.dims(image)[1];
    if let Some(number) = nodes.number(id) {
        return Some(Input::filled(number as f32, channels));
    }
    let fits = nodes.is_stored(id) && channel_dims(nodes, id, image).is_some();
    (fits && nodes.spec(id).dtype == DType::F32).then(|| nodes.reshaped(id, [channels]))
}

/// `[c, 1..]`, if a value has this shape or `[1, c, 1..]` for an image `[n, c, spatial..]`.
fn channel_dims(nodes: &Nodes<'_>, id: ValueId, image: ValueId) -> Option<Vec<usize>> {
    let mut dims = nodes.dims(image).get(1..)?.to_vec();
    dims.get_mut(1..)?.fill(1);
    let given = nodes.dims(id);
    let given = if given.len() > dims.len() { given.strip_prefix(&[1])? } else { given };
    (given == dims).then_some(dims)
}

/// An operator on images, then a factor for the negative results of each channel.
fn slope(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Binary(BinaryFn::PRelu) = as_op(node)? else { return None };
    let (sum, slope) = (node.inputs[0], node.inputs[1]);
    let dims = channel_dims(nodes, slope, sum)?;
    let maker = nodes.maker(sum)?;
    let (op, position) = maker.op.with_slope()?;
    let mut inputs = inputs(&maker.inputs);
    inputs.insert(position, nodes.reshaped(slope, dims));
    Fused::of_shared(op, inputs).named(maker).rewrite()
}

/// The source of an image that is padded with zeros along its spatial axes, and a window with
/// this padding.
fn padding(nodes: &Nodes<'_>, id: ValueId, window: &Window) -> Option<(ValueId, Window)> {
    let (pad, maker) = nodes.made_by::<Pad>(id)?;
    let (outer, spatial) = pad.pads.split_at_checked(2)?;
    let fits =
        pad.mode == PadMode::Constant(0.0) && outer == [(0, 0); 2] && spatial.len() == window.pads.len();
    let mut window = window.clone();
    for (pads, &(before, after)) in window.pads.iter_mut().zip(spatial) {
        pads.0 += usize::try_from(before).ok()?;
        pads.1 += usize::try_from(after).ok()?;
    }
    fits.then(|| (maker.inputs[0], window))
}

/// Zeros around an image, then a convolution.
fn padded_conv(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let conv: &Conv = as_op(node)?;
    let (image, window) = padding(nodes, node.inputs[0], &conv.window)?;
    let mut inputs = inputs(&node.inputs);
    inputs[0] = image.into();
    Fused::new(Conv { window, ..conv.clone() }, inputs).rewrite()
}

/// Zeros around an image, then an average that has no padding of its own.
fn padded_pool(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let pool: &Pool = as_op(node)?;
    let (image, window) = padding(nodes, node.inputs[0], &pool.window)?;
    let bare = pool.window.pads.iter().all(|&pads| pads == (0, 0)) && !pool.window.ceil_mode;
    let average = bare && pool.function == PoolFn::Average;
    let op = Pool { window, count_include_pad: true, ..pool.clone() };
    average.then(|| Fused::new(op, vec![image.into()]))?.rewrite()
}

/// The channels of a group out of `[groups, 1, channels / groups, spatial..]`, whose elements are
/// those of an image `[1, channels, spatial..]` with every `groups`-th channel brought together
/// (Zhang et al. 2018, ShuffleNet; Ma et al. 2018 split what is shuffled): a slice with steps.
fn shuffled_channels(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Gather { axis: 0 } = as_op(node)? else { return None };
    let (_, grouped) = nodes.made_by::<Reshape>(node.inputs[0])?;
    let (turn, turned) = nodes.made_by::<Transpose>(grouped.inputs[0])?;
    let (_, flat) = nodes.made_by::<Reshape>(turned.inputs[0])?;
    let (image, output) = (flat.inputs[0], node.outputs[0]);
    let (&[each, groups, pixels], dims) = (nodes.dims(turned.inputs[0]), nodes.dims(image)) else {
        return None;
    };
    let [1, channels, spatial @ ..] = dims else { return None };
    let fits = turn.permutation == [1, 0, 2]
        && each * groups == *channels
        && spatial.iter().product::<usize>() == pixels
        && nodes.dims(node.inputs[0])[0] == groups
        && nodes.dims(output) == [&[1, each], spatial].concat();
    let index = nodes.number(node.inputs[1]).filter(|_| fits)?;
    let index = if index < 0.0 { index + groups as f64 } else { index };
    let start = (0..groups).find(|&group| group as f64 == index)?;
    let mut ranges: Vec<SliceRange> = dims.iter().map(|&size| SliceRange::full(size)).collect();
    ranges[1] = SliceRange { start, count: each, step: groups as isize };
    Fused::new(Slice { ranges }, vec![image.into()]).shared().rewrite()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Builder, assert_becomes, optimised};
    use super::*;
    use crate::ops::{Unary, UnaryFn};
    use crate::tensor::Tensor;

    fn conv(b: &mut Builder, x: ValueId, bias: bool, outputs: usize) -> ValueId {
        let channels = b.graph.spec(x).shape.dims()[1];
        let mut inputs = vec![x, b.stored([outputs, channels, 3, 3])];
        if bias {
            inputs.push(b.stored([outputs]));
        }
        b.add(Conv { bias, ..Conv::new(Window::new([3, 3]).padding([1, 1])) }, &inputs)
    }

    #[test]
    fn a_batch_norm_with_stored_statistics_goes_into_the_convolution() {
        let build = |b: &mut Builder, given: bool| {
            let x = b.input([1, 3, 4, 4]);
            let sums = conv(b, x, true, 2);
            let [gamma, beta, mean] = [(); 3].map(|()| b.stored([2]));
            let mean = if given { b.input([2]) } else { mean };
            let variance = b.constant(Tensor::from_f32([2], &[8.0, 3.0]));
            let normed = b.add(BatchNorm::new(1.0), &[sums, gamma, beta, mean, variance]);
            let y = b.add(Unary(UnaryFn::Relu), &[normed]);
            b.output(y);
        };
        let (graph, names) = optimised(|b| build(b, false));
        assert_eq!(names, ["conv"]);
        let conv: &Conv = as_op(&graph.nodes()[0]).unwrap();
        assert!(conv.bias && conv.activation == UnaryFn::Relu);
        assert_becomes(&["conv", "batch_norm"], |b| build(b, true));
    }

    #[test]
    fn factors_and_summands_of_channels_go_into_the_convolution() {
        for bias in [false, true] {
            for dims in [&[2, 1, 1][..], &[1, 2, 1, 1], &[]] {
                let (_, names) = optimised(|b| {
                    let x = b.input([2, 3, 4, 4]);
                    let sums = conv(b, x, bias, 2);
                    let (factor, summand) = (b.stored(dims), b.stored(dims));
                    let sums = b.binary(BinaryFn::Mul, factor, sums);
                    let sums = b.binary(BinaryFn::Add, sums, summand);
                    let y = b.unary(UnaryFn::Relu, sums);
                    b.output(y);
                });
                assert_eq!(names, ["conv"], "{dims:?}");
            }
        }
        for dims in [&[4, 1][..], &[1, 4], &[2, 4, 1], &[2, 1, 1, 1]] {
            assert_becomes(&["conv", "binary"], |b| {
                let x = b.input([2, 3, 4, 4]);
                let (sums, factor) = (conv(b, x, true, 2), b.stored(dims));
                let y = b.binary(BinaryFn::Mul, sums, factor);
                b.output(y);
            });
        }
        assert_becomes(&["conv", "binary"], |b| {
            let x = b.input([1, 3, 4, 4]);
            let (sums, factor) = (conv(b, x, true, 2), b.input([2, 1, 1]));
            let y = b.binary(BinaryFn::Mul, sums, factor);
            b.output(y);
        });
    }

    #[test]
    fn a_slope_of_each_channel_goes_into_a_convolution() {
        let build = |b: &mut Builder, dims: &[usize]| {
            let x = b.input([1, 3, 5, 5]);
            let (sums, slope) = (conv(b, x, false, 5), b.input(dims));
            let y = b.binary(BinaryFn::PRelu, sums, slope);
            b.output(y);
        };
        for dims in [&[5, 1, 1][..], &[1, 5, 1, 1]] {
            assert_becomes(&["conv"], |b| build(b, dims));
        }
        for dims in [&[5][..], &[1, 1], &[5, 1], &[1, 1, 1], &[5, 5, 1]] {
            assert_becomes(&["conv", "binary"], |b| build(b, dims));
        }
    }

    fn padded(b: &mut Builder, pads: [(isize, isize); 4], mode: PadMode) -> ValueId {
        let x = b.input([1, 3, 4, 5]);
        b.add(Pad { pads: pads.to_vec(), mode }, &[x])
    }

    #[test]
    fn zeros_around_an_image_become_the_padding_of_what_reads_it() {
        const SPATIAL: [(isize, isize); 4] = [(0, 0), (0, 0), (0, 1), (2, 1)];
        let zero = PadMode::Constant(0.0);
        assert_becomes(&["conv"], |b| {
            let x = padded(b, SPATIAL, zero);
            let y = conv(b, x, true, 2);
            b.output(y);
        });
        let others = [
            (SPATIAL, PadMode::Constant(1.0)),
            (SPATIAL, PadMode::Edge),
            ([(0, 0), (1, 1), (1, 1), (1, 1)], zero),
            ([(0, 0), (0, 0), (-1, 0), (1, 1)], zero),
        ];
        for (pads, mode) in others {
            assert_becomes(&["pad", "conv"], |b| {
                let x = padded(b, pads, mode);
                let y = conv(b, x, true, 2);
                b.output(y);
            });
        }
        let pool = |b: &mut Builder, function| {
            let x = padded(b, SPATIAL, zero);
            let y = b.add(Pool::new(function, Window::new([3, 3]).stride([2, 2])), &[x]);
            b.output(y);
        };
        assert_becomes(&["pool"], |b| pool(b, PoolFn::Average));
        // Zeros may be the largest.
        assert_becomes(&["pad", "pool"], |b| pool(b, PoolFn::Max));
    }

    #[test]
    fn a_channel_shuffle_is_two_slices() {
        let build = |b: &mut Builder, permutation: [usize; 3]| {
            let x = b.input([1, 6, 2, 4]);
            let y = b.add(Reshape { dims: vec![3, 2, 8] }, &[x]);
            let y = b.add(Transpose { permutation: permutation.to_vec() }, &[y]);
            let y = b.add(Reshape { dims: vec![2, 1, 3, 2, 4] }, &[y]);
            for index in [0, -1] {
                let index = b.constant(Tensor::from_i32(vec![], &[index]));
                let part = b.add(Gather { axis: 0 }, &[y, index]);
                b.output(part);
            }
        };
        assert_becomes(&["slice", "slice"], |b| build(b, [1, 0, 2]));
        assert_becomes(&["transpose", "gather", "gather"], |b| build(b, [1, 2, 0]));
    }
}
