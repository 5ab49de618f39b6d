//! Cases of [`Conv`]: all kernels around their tiles, all dtypes, epilogues, groups, pads.

use super::super::cases::{Case, Random};
use super::super::{ResidualPlace, UnaryFn, Window};
use super::Conv;
use crate::tensor::DType;

/// A convolution of `[n, c, spatial..]` to `o` channels, weights scaled so that sums stay near 1.
fn case(conv: Conv, dtype: DType, x: &[usize], o: usize) -> Case {
    let (n, channels, spatial) = (x[0], x[1] / conv.groups, &x[2..]);
    let taps: usize = conv.window.kernel.iter().product();
    let mut random = Random::new((x.iter().product::<usize>() * 1009 + o * 31 + taps) as u64);
    let weight = [&[o, channels], &conv.window.kernel[..]].concat();
    let scale = 1.5 / ((channels * taps) as f64).sqrt();
    let mut inputs = vec![random.f32(x), random.tensor(dtype, weight, scale)];
    for _ in 0..usize::from(conv.bias) + usize::from(conv.slope) {
        inputs.push(random.f32([o]));
    }
    if conv.residual.is_some() {
        let windows = conv.window.output(&conv, spatial).expect("cases fit");
        inputs.push(random.f32([&[n, o], &windows[..]].concat()));
    }
    Case::new(format!("{} {x:?} to {o} by {:?}", dtype.name(), conv.window.kernel), conv, inputs)
}

fn f32(conv: Conv, x: &[usize], o: usize) -> Case {
    case(conv, DType::F32, x, o)
}

pub(in super::super) fn cases() -> Vec<Case> {
    let mut cases = shapes();
    cases.extend(windows());
    cases.extend(groups());
    cases.extend(depthwise());
    cases.extend(winograd());
    cases.extend(dtypes());
    cases.extend(epilogues());
    cases.extend(parts());
    cases
}

fn square(size: usize) -> Window {
    Window::new([size, size])
}

/// Channels and positions around the tiles.
fn shapes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (x, o) in [
        ([1, 1, 1, 1], 1),
        ([1, 3, 5, 7], 4),
        ([2, 4, 5, 3], 33),
        ([1, 8, 3, 3], 31),
        ([1, 5, 9, 8], 65),
        ([3, 12, 4, 5], 8),
        ([1, 68, 9, 9], 70),
        ([1, 3, 33, 31], 64),
    ] {
        cases.push(f32(Conv::new(square(3).padding([1, 1])), &x, o));
        cases.push(f32(Conv::new(square(1)), &x, o));
    }
    cases.push(f32(Conv::new(square(3)), &[0, 4, 5, 5], 3));
    // Many large tiles, the last of each dimension partly filled.
    cases.push(f32(Conv::new(square(2)), &[1, 3, 61, 60], 258));
    cases
}

/// Strides, dilations, asymmetric pads, and one to three axes.
fn windows() -> Vec<Case> {
    let mut cases = Vec::new();
    for (window, x) in [
        (square(7).stride([2, 2]).padding([3, 3]), [1, 3, 23, 19]),
        (square(3).stride([2, 2]).padding([1, 1]), [2, 8, 14, 15]),
        (square(1).stride([2, 2]), [1, 16, 7, 8]),
        (square(1).padding([1, 0]), [1, 4, 3, 5]),
        (square(3).dilation([2, 2]).padding([2, 2]), [1, 8, 9, 9]),
        (square(3).dilation([3, 1]), [1, 4, 9, 5]),
        (square(3).dilation([1, 2]), [1, 6, 5, 9]),
        (Window::new([2, 3]).stride([3, 2]).pads([(0, 2), (3, 1)]), [1, 5, 8, 7]),
        (Window::new([5, 1]).padding([2, 0]), [1, 7, 6, 5]),
        (Window::new([1, 4]).pads([(0, 0), (1, 2)]), [2, 4, 3, 8]),
        (square(5).padding([4, 4]), [1, 4, 2, 3]),
    ] {
        cases.push(f32(Conv::new(window), &x, 12));
    }
    for (window, x) in [
        (Window::new([3]).padding([1]), [2, 4, 17]),
        (Window::new([10]).stride([5]), [1, 1, 83]),
        (Window::new([3]).stride([2]).dilation([2]).pads([(4, 0)]), [1, 6, 21]),
        (Window::new([1]), [2, 7, 9]),
    ] {
        cases.push(f32(Conv::new(window), &x, 9));
    }
    for (window, x) in [
        (Window::new([3, 3, 3]).padding([1, 1, 1]), [1, 4, 4, 5, 3]),
        (Window::new([2, 1, 3]).stride([1, 2, 2]).pads([(1, 0), (0, 0), (2, 1)]), [2, 3, 3, 4, 7]),
        (Window::new([1, 1, 1]), [1, 5, 2, 3, 2]),
        (Window::new([2, 2, 2]).stride([2, 2, 2]).dilation([1, 2, 1]), [1, 8, 4, 5, 6]),
    ] {
        cases.push(f32(Conv::new(window), &x, 10));
    }
    cases
}

/// Groups of few and of many channels, and with a window that is no square.
fn groups() -> Vec<Case> {
    let mut cases = Vec::new();
    for (groups, channels, o) in
        [(2, 8, 6), (3, 9, 6), (4, 16, 16), (8, 32, 64), (2, 16, 96), (2, 6, 70), (5, 5, 15), (4, 12, 52)]
    {
        let window = Window::new([3, 2]).stride([1, 2]).dilation([2, 1]).pads([(1, 2), (0, 1)]);
        cases.push(f32(Conv::new(window).groups(groups), &[2, channels, 7, 6], o));
        cases.push(f32(Conv::new(square(1)).groups(groups), &[1, channels, 5, 5], o));
    }
    cases.push(f32(Conv::new(Window::new([3])).groups(4), &[1, 8, 40], 8));
    cases
}

/// As many groups as channels: runs along the width cut at its end, all windows.
fn depthwise() -> Vec<Case> {
    let mut cases = Vec::new();
    for (window, x) in [
        (square(3).padding([1, 1]), vec![2, 8, 7, 9]),
        (square(3).padding([1, 1]), vec![1, 36, 5, 4]),
        (square(3).padding([1, 1]).stride([2, 2]), vec![1, 32, 9, 10]),
        (square(3).padding([1, 1]).stride([2, 2]), vec![1, 5, 8, 7]),
        (square(3).pads([(2, 0), (0, 1)]), vec![4, 128, 9, 17]),
        (square(3).pads([(0, 1), (1, 0)]).stride([2, 2]), vec![4, 128, 18, 33]),
        (square(5).padding([2, 2]), vec![1, 7, 6, 13]),
        (square(5).pads([(1, 2), (1, 2)]).stride([2, 2]), vec![1, 12, 11, 11]),
        (square(7).padding([3, 3]), vec![1, 4, 9, 8]),
        (square(9).padding([4, 4]), vec![1, 4, 9, 8]),
        (square(3).dilation([2, 3]).padding([2, 3]), vec![1, 6, 9, 9]),
        (Window::new([2, 3]).stride([1, 3]).pads([(0, 1), (2, 0)]), vec![1, 8, 5, 11]),
        (Window::new([3]).padding([1]), vec![2, 12, 17]),
        (Window::new([4]).dilation([3]), vec![1, 3, 21]),
        (Window::new([3, 3, 3]).padding([1, 1, 1]), vec![1, 4, 3, 5, 6]),
        (square(1), vec![1, 8, 3, 5]),
    ] {
        let channels = x[1];
        let conv = Conv { bias: true, ..Conv::new(window) }.groups(channels);
        cases.push(f32(conv.clone(), &x, channels));
        if channels % 3 == 0 {
            cases.push(case(conv, DType::F16, &x, channels));
        }
    }
    cases
}

/// Products that are saved: tiles cut at both ends, pads, batches, dtypes, epilogues, parts.
fn winograd() -> Vec<Case> {
    use ResidualPlace::{AfterActivation, BeforeActivation};
    let mut cases = Vec::new();
    for (pads, x, o) in [
        ([(1, 1), (1, 1)], [1, 64, 7, 9], 64),
        ([(1, 1), (1, 1)], [2, 64, 6, 4], 76),
        ([(0, 0), (0, 0)], [1, 60, 3, 12], 64),
        ([(2, 0), (0, 3)], [1, 128, 5, 1], 64),
    ] {
        cases.push(f32(Conv::new(square(3).pads(pads)), &x, o));
    }
    let same = Conv::new(square(3).padding([1, 1]));
    for dtype in [DType::F16, DType::BF16] {
        cases.push(case(same.clone(), dtype, &[1, 64, 5, 6], 64));
    }
    for (bias, slope, activation, residual) in [
        (true, false, UnaryFn::Relu, Some(BeforeActivation)),
        (true, true, UnaryFn::Identity, None),
        (false, false, UnaryFn::Clip { min: -0.5, max: 0.75 }, Some(AfterActivation)),
    ] {
        cases.push(f32(Conv { bias, slope, activation, residual, ..same.clone() }, &[2, 64, 5, 6], 68));
    }
    let mut parts = f32(same, &[1, 64, 3, 3], 64).max_binding_bytes(100_000);
    parts.name += " in parts of 100000 bytes";
    cases.push(parts);
    cases
}

/// f16 and bf16, with runs of whole blocks, whole vectors, and neither.
fn dtypes() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::F16, DType::BF16] {
        for (channels, o) in [(3, 17), (4, 32), (8, 33), (12, 5), (20, 64)] {
            cases.push(case(Conv::new(square(3).padding([1, 1])), dtype, &[1, channels, 6, 7], o));
            cases.push(case(Conv::new(square(1)), dtype, &[1, channels, 6, 7], o));
            let window = square(2).dilation([1, 2]).stride([2, 1]);
            cases.push(case(Conv::new(window), dtype, &[1, channels, 6, 7], o));
        }
        cases.push(case(Conv::new(square(3).padding([1, 1])), dtype, &[1, 36, 7, 9], 70));
        cases.push(case(Conv::new(square(3)).groups(2), dtype, &[1, 24, 5, 5], 32));
        cases.push(case(Conv::new(square(3)).groups(4), dtype, &[1, 24, 5, 5], 16));
    }
    cases
}

/// Bias, slope, activations, and residuals before and after these.
fn epilogues() -> Vec<Case> {
    use ResidualPlace::{AfterActivation, BeforeActivation};
    let mut cases = Vec::new();
    for (bias, slope, activation, residual) in [
        (true, false, UnaryFn::Identity, None),
        (true, false, UnaryFn::Relu6, None),
        (true, false, UnaryFn::Relu, Some(BeforeActivation)),
        (true, false, UnaryFn::Silu, Some(AfterActivation)),
        (false, false, UnaryFn::Gelu, Some(BeforeActivation)),
        (true, true, UnaryFn::Identity, None),
        (false, true, UnaryFn::Identity, Some(AfterActivation)),
        (true, true, UnaryFn::Identity, Some(BeforeActivation)),
    ] {
        for (kernel, o) in [(3, 36), (3, 7), (1, 36), (1, 7)] {
            let conv = Conv { bias, slope, activation, residual, ..Conv::new(square(kernel)) };
            cases.push(f32(conv.clone(), &[2, 12, 6, 5], o));
            if (kernel, o) == (3, 7) {
                cases.push(f32(conv.clone().groups(o), &[2, o, 6, 5], o));
            }
            if (kernel, o) == (3, 36) {
                cases.push(f32(conv.clone().groups(4), &[2, 16, 6, 5], o));
                cases.push(f32(conv.clone().groups(o), &[2, o, 6, 5], o));
                cases.push(f32(conv.groups(3), &[2, 12, 6, 5], o));
            }
        }
    }
    cases
}

/// Weights over the binding limit.
fn parts() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kernel, groups, channels, o, limit) in [
        (1, 1, 40, 300, 15_000),
        (3, 1, 40, 200, 100_000),
        (3, 2, 40, 200, 50_000),
        (3, 25, 100, 200, 15_000),
        (1, 5, 120, 155, 6_000),
    ] {
        let window = square(kernel).padding([kernel / 2, kernel / 2]);
        let conv = Conv { bias: true, ..Conv::new(window) }.groups(groups);
        let mut case = f32(conv, &[1, channels, 3, 3], o).max_binding_bytes(limit);
        case.name += &format!(" in parts of {limit} bytes");
        cases.push(case);
    }
    cases
}
