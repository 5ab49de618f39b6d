//! The dispatches of a pool: one, or one for each axis where that is less work.

use super::super::image::three;
use super::PoolFn;
use crate::kernel::{Caps, Kernel, Launch, Launches, Operand, Spread, count, params};
use crate::tensor::Spec;

static POOL: Kernel = Kernel::new("pool", include_str!("../../../shaders/pool.wgsl"));

params!(
    struct Params {
        image: [u32; 4],
        output: [u32; 4],
        taps: [u32; 4],
        stride: [u32; 4],
        dilation: [u32; 4],
        before: [u32; 4],
        counted: [u32; 4],
        items: u32,
        per_group: u32,
    }
);

/// Most elements of a window along one axis: a loop of an invocation walks over them.
pub(in super::super) const MOST_TAPS: usize = 32_768;

/// Elements of a window from which one long sum is slower than several short ones, because the
/// invocations are few.
const MANY_TAPS: usize = 64;

/// Most elements of a window that one dispatch takes.
const MOST_DIRECT: usize = 4_096;

/// The windows along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct AxisWindows {
    /// Size of the image.
    pub(in super::super) image: usize,
    /// Number of windows.
    pub(in super::super) output: usize,
    /// Elements of a window, at most.
    pub(in super::super) taps: usize,
    /// From one window to the next; adaptive windows need this and what follows not.
    pub(in super::super) stride: usize,
    /// From one element of a window to the next.
    pub(in super::super) dilation: usize,
    /// Padding before the image.
    pub(in super::super) before: usize,
    /// End of the elements that an average counts, from the start of the padding.
    pub(in super::super) counted: usize,
}

impl AxisWindows {
    /// Windows of one element each.
    const fn identity(size: usize) -> Self {
        Self { image: size, output: size, taps: 1, stride: 1, dilation: 1, before: 0, counted: size }
    }

    fn is_identity(&self) -> bool {
        Self { counted: self.image, ..*self } == Self::identity(self.image)
    }
}

/// The dispatches of one pool; each takes the windows along all axes.
#[derive(Debug)]
pub(in super::super) struct Passes {
    function: PoolFn,
    adaptive: bool,
    include_pad: bool,
    passes: Vec<[AxisWindows; 3]>,
}

fn work(axes: &[AxisWindows; 3]) -> usize {
    axes.iter().map(|axis| axis.output * axis.taps).product()
}

/// The largest element, and the average, of a box is that of its rows': one pass for each axis.
fn separate(axes: &[AxisWindows; 3]) -> Vec<[AxisWindows; 3]> {
    let mut sizes = axes.map(|axis| axis.image);
    let mut passes = Vec::new();
    for axis in (0..3).rev().filter(|&axis| !axes[axis].is_identity()) {
        let mut pass = sizes.map(AxisWindows::identity);
        pass[axis] = axes[axis];
        sizes[axis] = axes[axis].output;
        passes.push(pass);
    }
    passes
}

impl Passes {
    /// The dispatches for windows along these one to three axes. `adaptive`: windows follow from
    /// the sizes alone. `include_pad`: averages count the padding.
    pub(in super::super) fn new(
        function: PoolFn,
        adaptive: bool,
        include_pad: bool,
        axes: &[AxisWindows],
    ) -> Self {
        let axes = three(axes, AxisWindows::identity(1));
        let taps: usize = axes.iter().map(|axis| axis.taps).product();
        let (direct, separate) = (work(&axes), separate(&axes));
        let apart: usize = separate.iter().map(work).sum();
        let less = apart * 2 <= if taps > MANY_TAPS { direct * 3 } else { direct };
        let passes = if separate.len() > 1 && (less || taps > MOST_DIRECT) { separate } else { vec![axes] };
        Self { function, adaptive, include_pad, passes }
    }

    /// The dispatches on images `[n, spatial.., channels]`.
    pub(in super::super) fn launches(&self, caps: &Caps, n: usize, channels: usize) -> Launches {
        let last = self.passes.len() - 1;
        let mut launches = Launches::default();
        for (i, axes) in self.passes.iter().enumerate() {
            let from = if i == 0 { Operand::Input(0) } else { Operand::Scratch(i - 1) };
            let to = if i == last { Operand::Output(0) } else { Operand::Scratch(i) };
            launches.steps.push(self.launch(caps, axes, n, channels).bind([from, to]));
            if i != last {
                let [depth, height, width] = axes.map(|axis| axis.output);
                launches.scratch.push(Spec::f32([n, depth, height, width, channels]));
            }
        }
        launches
    }

    fn launch(&self, caps: &Caps, axes: &[AxisWindows; 3], n: usize, channels: usize) -> Launch {
        let vectors = channels.is_multiple_of(4);
        let pixel = if vectors { channels / 4 } else { channels };
        let outputs: usize = axes.iter().map(|axis| axis.output).product();
        let [depth, height, width] = axes.map(|axis| axis.taps);
        let spread = Spread::of_loops(n * outputs * pixel, depth * (1 + height * (1 + width)), caps);
        let four = |value: fn(&AxisWindows) -> usize, last: usize| {
            let [depth, height, width] = axes.map(|axis| count(value(&axis)));
            [depth, height, width, count(last)]
        };
        let params = Params {
            image: four(|axis| axis.image, pixel),
            output: four(|axis| axis.output, 0),
            taps: four(|axis| axis.taps, usize::from(self.include_pad)),
            stride: four(|axis| axis.stride, 0),
            dilation: four(|axis| axis.dilation, 0),
            before: four(|axis| axis.before, 0),
            counted: four(|axis| axis.counted, 0),
            items: spread.items,
            per_group: spread.per_group,
        };
        spread
            .launch(&POOL)
            .variant("value", if vectors { "vec4<f32>" } else { "f32" })
            .variant("average", self.function == PoolFn::Average)
            .variant("adaptive", self.adaptive)
            .variant("dilated", axes.iter().any(|axis| axis.dilation > 1))
            .variant("volumes", axes[0].output > 1)
            .params(params)
            .work((n * channels * work(axes)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(image: usize, output: usize, taps: usize, stride: usize) -> AxisWindows {
        AxisWindows { image, output, taps, stride, ..AxisWindows::identity(image) }
    }

    #[test]
    fn large_windows_are_taken_axis_by_axis() {
        let passes = |axes: &[AxisWindows]| Passes::new(PoolFn::Max, false, false, axes).passes.len();
        assert_eq!(passes(&[axis(112, 56, 3, 2), axis(112, 56, 3, 2)]), 1);
        assert_eq!(passes(&[axis(13, 13, 5, 1), axis(13, 13, 5, 1)]), 2);
        assert_eq!(passes(&[axis(7, 1, 7, 1), axis(7, 1, 7, 1)]), 1);
        assert_eq!(passes(&[axis(112, 1, 112, 1), axis(112, 1, 112, 1)]), 2);
        assert_eq!(passes(&[axis(30_000, 1, 30_000, 1)]), 1);
        assert_eq!(passes(&[AxisWindows::identity(5), AxisWindows::identity(7)]), 1);
        assert_eq!(passes(&[axis(20, 4, 20, 1), axis(20, 4, 20, 1), axis(20, 4, 20, 1)]), 3);
    }
}
