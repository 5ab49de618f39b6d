//! Padding and cropping along any axes.

use super::cases::{Case, Random};
use super::image::{indices, is_image, to_last_order};
use super::strided::{self, MAX_AXES};
use super::{ChannelsLast, Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launches, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static PAD: Kernel = Kernel::new("pad", include_str!("../../shaders/pad.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        elements: u32,
        axes: u32,
        dims_low: [u32; 4],
        dims_high: [u32; 4],
        sizes_low: [u32; 4],
        sizes_high: [u32; 4],
        before_low: [u32; 4],
        before_high: [u32; 4],
        fill: u32,
    }
);

/// What lies outside of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum PadMode {
    /// One value, rounded to the tensor's dtype.
    Constant(#[serde(with = "super::float")] f32),
    /// The tensor mirrored at its first and last element, which are not repeated.
    Reflect,
    /// The nearest element (torch's "replicate").
    Edge,
    /// The tensor again and again (torch's "circular").
    Wrap,
}

/// Adds elements before and after each axis; a negative number takes elements away (Pad of ONNX,
/// torch.nn.functional.pad). Any dtype of two or four bytes, rank 8 at most.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// Elements added before and after each axis, all axes in their order.
    pub pads: Vec<(isize, isize)>,
    /// What the added elements are.
    pub mode: PadMode,
}

impl Pad {
    /// Adds zeros.
    ///
    /// # Panics
    /// When a number is 2^63 or more.
    pub fn zeros(pads: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let signed = |pad: usize| isize::try_from(pad).expect("padding is smaller than memory");
        let pads = pads.into_iter().map(|(before, after)| (signed(before), signed(after))).collect();
        Self { pads, mode: PadMode::Constant(0.0) }
    }

    /// Size of an axis after padding.
    fn output(&self, op: &dyn Op, axis: usize, input: &Spec) -> Result<usize> {
        let (size, (before, after)) = (input.shape.dims()[axis], self.pads[axis]);
        let fail = |what: &str| {
            let message = format!("padding axis {axis} of {input} by ({before}, {after}) {what}");
            Err(Error::op(op.name(), message))
        };
        let sum = before.checked_add(after).and_then(|pads| size.checked_add_signed(pads));
        let Some(output) = sum.filter(|_| before.max(after) < 1 << 31) else {
            return fail("leaves less than nothing, or is too large");
        };
        let most = before.max(after).max(0).unsigned_abs();
        match self.mode {
            PadMode::Reflect if most >= size.max(1) => fail("reflects more than there is"),
            PadMode::Edge | PadMode::Wrap if most > 0 && size == 0 => fail("repeats what is not there"),
            _ => Ok(output),
        }
    }

    /// The position in the input for one of the output.
    fn source(&self, axis: usize, position: usize, size: usize) -> Option<usize> {
        let (position, last) = (position as isize - self.pads[axis].0, size as isize - 1);
        let position = match self.mode {
            PadMode::Constant(_) => position,
            PadMode::Reflect => last - (last - position.abs()).abs(),
            PadMode::Edge => position.clamp(0, last),
            PadMode::Wrap => position.rem_euclid(last + 1),
        };
        usize::try_from(position).ok().filter(|&position| position < size)
    }
}

impl PadMode {
    const fn wgsl(self) -> &'static str {
        match self {
            Self::Constant(_) => "constant",
            Self::Reflect => "reflect",
            Self::Edge => "edge",
            Self::Wrap => "wrap",
        }
    }

    /// The bytes of an element that is added.
    fn fill(self, dtype: DType) -> Vec<u8> {
        let value = if let Self::Constant(value) = self { f64::from(value) } else { 0.0 };
        Tensor::from_f64(dtype, [1], &[value]).bytes().to_vec()
    }
}

/// An axis as the kernel walks it.
#[derive(Debug, Clone, Copy)]
struct Axis {
    output: usize,
    input: usize,
    before: isize,
}

/// The axes, innermost first, without those of size 1; neighbours that are not padded are one.
fn merged_axes(pads: &[(isize, isize)], input: &Spec) -> Vec<Axis> {
    let mut axes: Vec<Axis> = Vec::new();
    let mut after_whole = false;
    for (&size, &(before, after)) in input.shape.dims().iter().zip(pads).rev() {
        let whole = (before, after) == (0, 0);
        if whole && size == 1 {
            continue;
        }
        let output = size.checked_add_signed(before + after).expect("infer checked the sizes");
        match axes.last_mut().filter(|_| whole && after_whole) {
            Some(last) => (last.output, last.input) = (last.output * size, last.input * size),
            None => axes.push(Axis { output, input: size, before }),
        }
        after_whole = whole;
    }
    axes
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", strided::DTYPES)?;
        let rank = input.shape.rank();
        if rank != self.pads.len() || rank > MAX_AXES {
            let (axes, most) = (self.pads.len(), MAX_AXES);
            let message = format!("takes rank {most} at most and padding of all axes, got {axes} of {input}");
            return Err(Error::op(self.name(), message));
        }
        let dims = (0..rank).map(|axis| self.output(self, axis, input)).collect::<Result<Vec<_>>>()?;
        Ok(vec![Spec::new(input.dtype, dims)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let (input, elements) = (&inputs[0], outputs[0].elements());
        let mut axes = merged_axes(&self.pads, input);
        let quads = axes.first().is_some_and(|axis| axis.before == 0 && axis.input == axis.output)
            && axes[0].input.is_multiple_of(4);
        if quads {
            (axes[0].input, axes[0].output) = (axes[0].input / 4, axes[0].output / 4);
        }
        let values = |value: fn(&Axis) -> u32| {
            let mut values = [[0; 4]; 2];
            axes.iter().enumerate().for_each(|(i, axis)| values[i / 4][i % 4] = value(axis));
            values
        };
        let dims = values(|axis| count(axis.output));
        let sizes = values(|axis| count(axis.input));
        // Negative numbers wrap, and so does the kernel's arithmetic.
        let before = values(|axis| axis.before as u32);
        let fill = self.mode.fill(input.dtype);
        let spread = Spread::new(elements.div_ceil(4), caps);
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            elements: count(elements),
            axes: count(axes.len()),
            dims_low: dims[0],
            dims_high: dims[1],
            sizes_low: sizes[0],
            sizes_high: sizes[1],
            before_low: before[0],
            before_high: before[1],
            fill: u32::from_le_bytes(std::array::from_fn(|byte| fill[byte % fill.len()])),
        };
        let launch = spread
            .launch(&PAD)
            .variant("bytes", count(input.dtype.size()))
            .variant("quads", quads)
            .variant("mode", self.mode.wgsl());
        Ok(launch.params(params).bind_all(1, 1).into())
    }

    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let last = Self { pads: to_last_order(&self.pads), mode: self.mode };
        is_image(&inputs[0]).then(|| ChannelsLast::following(last, [0]))
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let input = &inputs[0];
        let output = self.infer(&[input.spec().clone()])?.remove(0);
        let (dims, strides) = (input.dims(), input.spec().shape.strides());
        let (size, fill) = (input.dtype().size(), self.mode.fill(input.dtype()));
        let mut bytes = Vec::new();
        for index in indices(output.shape.dims()) {
            let along = |axis: usize| Some(self.source(axis, index[axis], dims[axis])? * strides[axis]);
            let place: Option<usize> = (0..dims.len()).map(along).sum();
            bytes.extend(place.map_or(&fill[..], |place| &input.bytes()[place * size..][..size]));
        }
        Ok(vec![Tensor::from_bytes(output, bytes)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(70);
    type Pads<'a> = &'a [(isize, isize)];
    let shapes: [(&[usize], Pads<'_>); 10] = [
        (&[1], &[(0, 0)]),
        (&[7], &[(3, 6)]),
        (&[5, 9], &[(4, 0), (-2, 3)]),
        (&[6, 8], &[(2, 1), (0, 0)]),
        (&[2, 3, 5, 7], &[(0, 0), (0, 0), (1, 2), (3, 0)]),
        (&[2, 5, 7, 3], &[(0, 0), (4, 1), (0, 2), (0, 0)]),
        (&[2, 5, 7, 12], &[(0, 0), (2, 2), (-1, -3), (0, 0)]),
        (&[3, 17, 16, 3], &[(-1, 0), (16, 16), (1, -5), (2, 2)]),
        (&[2, 3, 3, 4, 2, 5], &[(1, 0), (0, 0), (2, 2), (0, 3), (1, 1), (4, 4)]),
        (&[2, 2, 2, 2, 2, 2, 2, 2], &[(1, 0), (0, 1), (1, 1), (-1, 1), (1, 1), (1, 1), (0, 1), (1, 1)]),
    ];
    let mut cases = Vec::new();
    for (dims, pads) in shapes {
        for mode in [PadMode::Constant(-2.5), PadMode::Reflect, PadMode::Edge, PadMode::Wrap] {
            for dtype in [DType::F32, DType::F16, DType::I32] {
                let name = format!("{dims:?} {mode:?} {pads:?} {dtype}");
                let op = Pad { pads: pads.to_vec(), mode };
                cases.push(Case::new(name, op, vec![random.tensor(dtype, dims, 99.0)]));
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(pads: (isize, isize), mode: PadMode) -> Vec<f32> {
        let op = Pad { pads: vec![pads], mode };
        op.reference(&[Tensor::from_f32([4], &[1.0, 2.0, 3.0, 4.0])]).unwrap()[0].to_f32()
    }

    /// Values that torch.nn.functional.pad gives, where it takes these numbers.
    #[test]
    fn modes_follow_torch() {
        assert_eq!(padded((2, 1), PadMode::Constant(9.0)), [9.0, 9.0, 1.0, 2.0, 3.0, 4.0, 9.0]);
        assert_eq!(padded((-1, 2), PadMode::Constant(0.5)), [2.0, 3.0, 4.0, 0.5, 0.5]);
        assert_eq!(padded((3, 2), PadMode::Reflect), [4.0, 3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 2.0]);
        assert_eq!(padded((-2, 1), PadMode::Reflect), [3.0, 4.0, 3.0]);
        assert_eq!(padded((2, -3), PadMode::Edge), [1.0, 1.0, 1.0]);
        assert_eq!(padded((2, 1), PadMode::Wrap), [3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 1.0]);
        assert_eq!(padded((5, -3), PadMode::Wrap), [4.0, 1.0, 2.0, 3.0, 4.0, 1.0]);
        assert_eq!(padded((-5, 7), PadMode::Constant(0.0)), [0.0; 6]);
    }

    #[test]
    fn padding_that_does_not_fit_is_refused() {
        let infer = |dims: &[usize], pads: &[(isize, isize)], mode| {
            Pad { pads: pads.to_vec(), mode }.infer(&[Spec::f32(dims)])
        };
        assert!(infer(&[4], &[(3, 3)], PadMode::Reflect).is_ok());
        let error = infer(&[4], &[(0, 4)], PadMode::Reflect).unwrap_err().to_string();
        assert!(error.contains("axis 0 of f32[4] by (0, 4) reflects more"), "{error}");
        assert!(infer(&[4], &[(-2, -3)], PadMode::Constant(0.0)).is_err());
        assert!(infer(&[4, 4], &[(1, 1)], PadMode::Edge).is_err());
        assert!(infer(&[0], &[(0, 1)], PadMode::Edge).is_err());
        assert!(infer(&[0], &[(0, 1)], PadMode::Constant(0.0)).is_ok());
        assert!(infer(&[4], &[(isize::MAX, 1)], PadMode::Edge).is_err());
        assert!(infer(&[4], &[(isize::MIN, isize::MIN)], PadMode::Edge).is_err());
    }
}
