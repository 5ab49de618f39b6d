//! Weights of convolutions as the rows of a matrix product.

use super::super::{Preparation, Window};
use crate::kernel::{Caps, Form};
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};

/// Fewer output channels of a group than this leave most lanes of a panel idle.
const FEW_OUTPUTS: usize = 12;

/// Output channels of a panel, whose weights a workgroup of `conv_rows` reads one after the other.
pub(super) const PANEL: usize = 32;

/// Packs a weight into rows: one for each output channel, in it runs of the elements that meet
/// neighbouring elements of x with its channels last, each padded with zeros to 16 bytes. In
/// panels, the blocks of 16 bytes of [`PANEL`] channels of a group take turns.
///
/// A run is a tap with the channels of a group, or, where taps along the width meet neighbouring
/// pixels, all of these with their channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct PackRuns {
    /// The graph's weight `[o, c / groups, kernel..]`, transposed `[c, o / groups, kernel..]`.
    weight: Spec,
    groups: usize,
    transposed: bool,
    /// Whether a run has all taps along the width.
    lines: bool,
    /// Whether a row of the packed weight is a panel.
    panels: bool,
    /// Taps in the order of the rows.
    taps: Vec<usize>,
}

impl PackRuns {
    /// Makes the rule for a weight with a window over its spatial axes.
    pub(in super::super) fn new(weight: Spec, transposed: bool, groups: usize, window: &Window) -> Self {
        let width = window.kernel.len() - 1;
        let lines = !transposed && (window.kernel[width] == 1 || window.dilation[width] == 1 && groups == 1);
        let taps =
            if transposed { taps_by_phase(&window.over_three()) } else { (0..window.taps()).collect() };
        Self { weight, groups, transposed, lines, panels: false, taps }
    }

    /// The form that the matrix product on this device wants.
    #[must_use]
    pub(in super::super) fn for_device(self, caps: &Caps) -> Self {
        Self { panels: caps.form() == Form::Software && !self.few_outputs(), ..self }
    }

    /// Whether a group has so few output channels that lanes take those of several groups.
    pub(super) fn few_outputs(&self) -> bool {
        self.groups > 1 && self.group_outputs() < FEW_OUTPUTS
    }

    /// Output channels of a group.
    pub(super) fn group_outputs(&self) -> usize {
        self.outputs() / self.groups
    }

    /// Whether a row of the packed weight is a panel.
    pub(super) fn panels(&self) -> bool {
        self.panels
    }

    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    pub(super) fn transposed(&self) -> bool {
        self.transposed
    }

    pub(super) fn weight(&self) -> &Spec {
        &self.weight
    }

    /// Whether a run has all taps along the width.
    pub(super) fn lines(&self) -> bool {
        self.lines
    }

    /// Input channels of a group.
    pub(super) fn channels(&self) -> usize {
        let dims = self.weight.shape.dims();
        if self.transposed { dims[0] / self.groups } else { dims[1] }
    }

    /// Output channels of all groups.
    pub(super) fn outputs(&self) -> usize {
        let dims = self.weight.shape.dims();
        if self.transposed { dims[1] * self.groups } else { dims[0] }
    }

    fn run_taps(&self) -> usize {
        if self.lines { *self.weight.shape.dims().last().unwrap_or(&1) } else { 1 }
    }

    /// Elements of a run without its padding.
    pub(super) fn run(&self) -> usize {
        self.run_taps() * self.channels()
    }

    /// Blocks of 16 bytes of a run.
    pub(super) fn run_blocks(&self) -> usize {
        self.run().div_ceil(self.block())
    }

    /// Elements of a block.
    fn block(&self) -> usize {
        16 / self.weight.dtype.size()
    }

    /// The packed weight: rows, and elements of a row. One run needs no padding of its own.
    pub(super) fn packed(&self) -> Spec {
        let runs = self.taps.len() / self.run_taps();
        let padded = runs * self.run_blocks() * self.block();
        let dims = if self.panels {
            [self.groups * self.group_outputs().div_ceil(PANEL), PANEL * padded]
        } else {
            [self.outputs(), if runs == 1 { self.run() } else { padded }]
        };
        Spec::new(self.weight.dtype, dims)
    }

    /// Place of an element of the row of an output channel in the packed weight of so many columns.
    fn place(&self, cols: usize, output: usize, element: usize) -> usize {
        if !self.panels {
            return output * cols + element;
        }
        let (block, outputs) = (self.block(), self.group_outputs());
        let panel = output / outputs * outputs.div_ceil(PANEL) + output % outputs / PANEL;
        let lane = output % outputs % PANEL;
        panel * cols + (element / block * PANEL + lane) * block + element % block
    }

    /// For each element of the graph's weight that of the packed one.
    fn places(&self) -> impl Iterator<Item = usize> {
        let (run_taps, channels, taps) = (self.run_taps(), self.channels(), self.taps.len());
        let padded = self.run_blocks() * self.block();
        let mut order = vec![0; taps];
        self.taps.iter().enumerate().for_each(|(place, &tap)| order[tap] = place);
        let second = self.weight.shape.dims()[1];
        let transposed = self.transposed;
        // Once, not for each of millions of elements.
        let (_, cols) = self.packed().shape.rows_and_cols();
        (0..self.weight.elements()).map(move |index| {
            let (first_index, second_index, tap) =
                (index / taps / second, index / taps % second, index % taps);
            let (output, channel) = if transposed {
                (first_index / channels * second + second_index, first_index % channels)
            } else {
                (first_index, second_index)
            };
            let place = order[tap];
            self.place(cols, output, place / run_taps * padded + place % run_taps * channels + channel)
        })
    }

    /// The graph's weight of a packed one.
    pub(super) fn unpack(&self, packed: &Tensor) -> Tensor {
        let size = packed.dtype().size();
        let bytes = self.places().flat_map(|place| &packed.bytes()[place * size..][..size]).copied();
        Tensor::from_bytes(self.weight.clone(), bytes.collect())
    }
}

impl Preparation for PackRuns {
    fn infer(&self, inputs: &[Spec]) -> Result<Spec> {
        match inputs {
            [weight] if *weight == self.weight => Ok(self.packed()),
            _ => {
                let message = format!("the rule that packs a weight takes {}, got {inputs:?}", self.weight);
                Err(Error::op("conv", message))
            }
        }
    }

    fn prepare(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        let packed = self.infer(&specs)?;
        let size = packed.dtype.size();
        let mut bytes = vec![0; packed.elements() * size];
        for (place, element) in self.places().zip(inputs[0].bytes().chunks_exact(size)) {
            bytes[place * size..][..size].copy_from_slice(element);
        }
        Ok(Tensor::from_bytes(packed, bytes))
    }
}

/// The taps of a transposed convolution, ordered by the outputs that they reach: by the phase
/// along depth, height and width (the output's position modulo the stride), within it by tap.
fn taps_by_phase(window: &Window) -> Vec<usize> {
    let phase = |axis: usize, tap: usize| {
        let stride = window.stride[axis];
        (tap * window.dilation[axis] + stride - window.pads[axis].0 % stride) % stride
    };
    let [depth, height, width] = [0, 1, 2].map(|axis| window.kernel[axis]);
    let mut taps: Vec<usize> = (0..depth * height * width).collect();
    taps.sort_by_key(|&tap| {
        let at = [tap / width / height, tap / width % height, tap % width];
        [0, 1, 2].map(|axis| phase(axis, at[axis]))
    });
    taps
}
