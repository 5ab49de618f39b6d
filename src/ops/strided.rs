//! Reading a tensor along any axes: what transpose, slice, expand and broadcasting have in common.
//!
//! Element [i, j, ...] of the output is element offset + i strides[0] + j strides[1] + ... of
//! the input. Strides are in elements, 0 where the input is repeated, negative where reversed.

use crate::kernel::{Caps, Kernel, Launch, Spread, count, params};
use crate::tensor::{DType, Shape, Spec, Tensor};

static TRANSPOSE_BLOCKS: Kernel =
    Kernel::new("transpose_blocks", include_str!("../../shaders/transpose_blocks.wgsl"));
static STRIDED: Kernel = Kernel::new("strided", include_str!("../../shaders/strided.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        elements: u32,
        axes: u32,
        dims_low: [u32; 4],
        dims_high: [u32; 4],
        strides_low: [u32; 4],
        strides_high: [u32; 4],
        offset: u32,
        columns: u32,
    }
);

params!(
    struct BlockParams {
        items: u32,
        per_group: u32,
        axes: u32,
        inner: u32,
        blocks: [u32; 4],
        dims_low: [u32; 4],
        dims_high: [u32; 4],
        strides_low: [u32; 4],
        strides_high: [u32; 4],
        offset: u32,
        shift: u32,
    }
);

/// Dtypes that data movement takes: all that lie on a device.
pub(super) const DTYPES: &[DType] = &[DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32];

/// Most axes that a kernel can walk.
pub(super) const MAX_AXES: usize = 8;

/// One axis of an output, with the strides of its `N` inputs along it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis<const N: usize> {
    pub(super) size: usize,
    pub(super) strides: [isize; N],
}

/// The axes, innermost first, without those of size 1, and with neighbours merged where all
/// inputs walk over them as over one.
pub(super) fn merged_axes<const N: usize>(dims: &[usize], strides: [&[isize]; N]) -> Vec<Axis<N>> {
    let mut axes: Vec<Axis<N>> = Vec::new();
    for axis in (0..dims.len()).rev().filter(|&axis| dims[axis] != 1) {
        let next = Axis { size: dims[axis], strides: strides.map(|strides| strides[axis]) };
        match axes.last_mut() {
            Some(last) if (0..N).all(|i| next.strides[i] == last.strides[i] * last.size as isize) => {
                last.size *= next.size;
            }
            _ => axes.push(next),
        }
    }
    axes
}

/// One number of each axis as the two vectors of a kernel's parameters.
pub(super) fn axis_values<const N: usize>(
    axes: &[Axis<N>],
    value: impl Fn(&Axis<N>) -> u32,
) -> [[u32; 4]; 2] {
    let mut values = [[0; 4]; 2];
    for (i, axis) in axes.iter().enumerate() {
        values[i / 4][i % 4] = value(axis);
    }
    values
}

/// Strides that repeat a tensor of shape `from` to shape `to` by NumPy's rules.
pub(super) fn broadcast_strides(from: &Shape, to: &Shape) -> Vec<isize> {
    let mut strides = vec![0; to.rank() - from.rank()];
    let own = from.dims().iter().zip(from.strides());
    strides.extend(own.map(|(&dim, stride)| if dim == 1 { 0 } else { stride as isize }));
    strides
}

/// The dispatch that fills `output` from `input`, of the same dtype (two or four bytes).
pub(super) fn launch(caps: &Caps, output: &Spec, strides: &[isize], offset: usize) -> Launch {
    let mut axes = merged_axes(output.shape.dims(), [strides]);
    if let Some(inner) = in_blocks(&axes, offset) {
        return launch_blocks(caps, output, &axes, inner, offset);
    }
    let quads = in_quads(&mut axes, offset);
    let dims = axis_values(&axes, |axis| count(axis.size));
    // Negative strides wrap, and so does the kernel's arithmetic.
    let strides = axis_values(&axes, |axis| axis.strides[0] as u32);
    let spread = Spread::new(output.elements().div_ceil(4), caps);
    let params = Params {
        items: spread.items,
        per_group: spread.per_group,
        elements: count(output.elements()),
        axes: count(axes.len()),
        dims_low: dims[0],
        dims_high: dims[1],
        strides_low: strides[0],
        strides_high: strides[1],
        offset: count(if quads { offset / 4 } else { offset }),
        columns: if quads { dims[0][0] } else { spread.items },
    };
    let launch = spread.launch(&STRIDED).variant("bytes", count(output.dtype.size())).variant("quads", quads);
    launch.params(params).bind_all(1, 1)
}

/// The axis that is the innermost of the input, where it is another than the output's and both
/// can be moved in blocks of whole vectors.
fn in_blocks(axes: &[Axis<1>], offset: usize) -> Option<usize> {
    let inner = axes.iter().position(|axis| axis.strides[0] == 1).filter(|&inner| inner > 0)?;
    let lies_whole = |(i, axis): (usize, &Axis<1>)| i == inner || axis.strides[0] % 4 == 0;
    let whole = [axes[0].size, axes[inner].size, offset].iter().all(|n| n.is_multiple_of(4));
    (whole && axes.iter().enumerate().all(lies_whole)).then_some(inner)
}

fn launch_blocks(caps: &Caps, output: &Spec, axes: &[Axis<1>], inner: usize, offset: usize) -> Launch {
    let blocks = [axes[0].size / 4, axes[inner].size / 4];
    // Eight blocks of a tile in a line of the output, or as many as there are.
    let shift = blocks[0].next_power_of_two().trailing_zeros().min(3);
    let tiles = [blocks[0].div_ceil(1 << shift), blocks[1].div_ceil(8 >> shift)];
    let others = output.elements() / (axes[0].size * axes[inner].size);
    let spread = Spread::of_loops(8 * others * tiles[0] * tiles[1], axes.len(), caps);
    let dims = axis_values(axes, |axis| count(axis.size));
    // Negative strides wrap, and so does the kernel's arithmetic.
    let strides = axis_values(axes, |axis| (axis.strides[0] / 4) as u32);
    let launch = spread.launch(&TRANSPOSE_BLOCKS).variant("bytes", count(output.dtype.size()));
    let launch = launch.params(BlockParams {
        items: spread.items,
        per_group: spread.per_group,
        axes: count(axes.len()),
        inner: count(inner),
        blocks: [blocks[0], blocks[1], tiles[1], tiles[0] * tiles[1]].map(count),
        dims_low: dims[0],
        dims_high: dims[1],
        strides_low: strides[0],
        strides_high: strides[1],
        offset: count(offset / 4),
        shift,
    });
    launch.bind_all(1, 1)
}

/// Counts sizes and strides in vectors of four elements, where only whole ones are moved.
fn in_quads(axes: &mut [Axis<1>], offset: usize) -> bool {
    let Some((inner, outer)) = axes.split_first_mut() else { return false };
    let whole = inner.strides == [1] && inner.size.is_multiple_of(4) && offset.is_multiple_of(4);
    if !whole || outer.iter().any(|axis| axis.strides[0] % 4 != 0) {
        return false;
    }
    inner.size /= 4;
    outer.iter_mut().for_each(|axis| axis.strides[0] /= 4);
    true
}

/// The places in the input of all elements of an output, in order.
pub(super) fn places(output: &Shape, strides: &[isize], offset: usize) -> impl Iterator<Item = usize> {
    let (dims, strides) = (output.dims().to_vec(), strides.to_vec());
    (0..output.elements()).map(move |element| {
        let (mut rest, mut place) = (element, offset as isize);
        for axis in (0..dims.len()).rev() {
            place += (rest % dims[axis]) as isize * strides[axis];
            rest /= dims[axis];
        }
        place.try_into().expect("strides stay inside the input")
    })
}

/// The same on the host.
pub(super) fn reference(input: &Tensor, output: &Shape, strides: &[isize], offset: usize) -> Tensor {
    let size = input.dtype().size();
    let bytes = places(output, strides, offset)
        .flat_map(|place| input.bytes()[place * size..][..size].iter().copied())
        .collect();
    Tensor::from_bytes(Spec::new(input.dtype(), output.clone()), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_merge_where_all_inputs_agree() {
        let axes = merged_axes(&[2, 3, 1, 4], [&[12, 4, 7, 1], &[0, 0, 7, 1]]);
        assert_eq!(axes, [Axis { size: 4, strides: [1, 1] }, Axis { size: 6, strides: [4, 0] }]);
        assert_eq!(merged_axes(&[2, 3, 4], [&[12, 4, 1]]), [Axis { size: 24, strides: [1] }]);
        assert_eq!(merged_axes(&[1, 1], [&[1, 1]]), []);
    }

    #[test]
    fn blocks_are_moved_where_both_innermost_axes_are_whole_vectors() {
        let axes = |sizes: [usize; 2], strides: [isize; 2]| {
            [0, 1].map(|i| Axis { size: sizes[i], strides: [strides[i]] })
        };
        assert_eq!(in_blocks(&axes([8, 12], [12, 1]), 0), Some(1));
        assert_eq!(in_blocks(&axes([8, 12], [-16, 1]), 112), Some(1));
        assert_eq!(in_blocks(&axes([8, 12], [0, 1]), 4), Some(1));
        for (sizes, strides, offset) in
            [([6, 12], [12, 1], 0), ([8, 10], [12, 1], 0), ([8, 12], [13, 1], 0), ([8, 12], [12, 1], 2)]
        {
            assert_eq!(in_blocks(&axes(sizes, strides), offset), None, "{sizes:?} {strides:?} {offset}");
        }
        assert_eq!(in_blocks(&axes([8, 12], [1, 8]), 0), None);
    }

    #[test]
    fn whole_vectors_are_moved_where_all_lie_at_multiples_of_four() {
        let axes = |inner, outer| [Axis { size: 8, strides: [inner] }, Axis { size: 3, strides: [outer] }];
        let mut reversed = axes(1, -8);
        assert!(in_quads(&mut reversed, 16));
        assert_eq!(reversed, [Axis { size: 2, strides: [1] }, Axis { size: 3, strides: [-2] }]);
        for (inner, outer, offset) in [(1, 8, 2), (1, 6, 4), (2, 8, 4), (-1, 8, 4), (0, 4, 0)] {
            assert!(!in_quads(&mut axes(inner, outer), offset), "{inner} {outer} {offset}");
        }
        assert!(!in_quads(&mut [], 0));
    }
}
