//! The kernels that find what a device can do at best, each with its data and what it must give.

use crate::gpu::{Buffer, Dispatch, Gpu, Program};
use crate::kernel::{Caps, DeviceKind, Kernel, Launch, Operand, Spread as Share, params};
use crate::ops::cases::Random;
use crate::tensor::Tolerance;
use crate::{Error, Result};
use half::f16;
use std::sync::Arc;

static MULTIPLY_ADD: Kernel =
    Kernel::new("multiply_add", include_str!("../../shaders/bench/multiply_add.wgsl"));
static EXPONENTIAL: Kernel = Kernel::new("exponential", include_str!("../../shaders/bench/exponential.wgsl"));
static COPY: Kernel = Kernel::new("copy", include_str!("../../shaders/bench/copy.wgsl"));
static READ: Kernel = Kernel::new("read", include_str!("../../shaders/bench/read.wgsl"));
static WORKGROUP_READ: Kernel =
    Kernel::new("workgroup_read", include_str!("../../shaders/bench/workgroup_read.wgsl"));
static BARRIER: Kernel = Kernel::new("barrier", include_str!("../../shaders/bench/barrier.wgsl"));
static INCREMENT: Kernel = Kernel::new("increment", include_str!("../../shaders/bench/increment.wgsl"));
static MATRIX_MULTIPLY: Kernel =
    Kernel::new("matrix_multiply", include_str!("../../shaders/bench/matrix_multiply.wgsl"));

params!(
    struct Rounds {
        rounds: u32,
    }
);

params!(
    struct CopyParams {
        items: u32,
        per_group: u32,
    }
);

params!(
    struct ReadParams {
        items: u32,
        per_group: u32,
        rounds: u32,
        stride: u32,
    }
);

/// Multiply-adds of an invocation, in all chains together.
const MULTIPLY_ADDS: u32 = 16_384;

/// Rounds of the other probes that stay in registers and workgroup memory.
const ROUNDS: u32 = 256;

/// Vectors of the sum that an item of the reading probe takes.
const VECTORS_OF_A_SUM: u32 = 64;

/// Bytes that random data repeats after.
const BLOCK: usize = 1 << 20;

/// Contents of a buffer: a block of bytes over and over.
pub(super) struct Fill {
    block: Vec<u8>,
    bytes: u64,
}

impl Fill {
    fn once(block: Vec<u8>) -> Self {
        Self { bytes: block.len() as u64, block }
    }

    fn f32(values: &[f32]) -> Self {
        Self::once(bytemuck::cast_slice(values).to_vec())
    }

    fn upload(&self, gpu: &Gpu) -> Result<Arc<Buffer>> {
        let buffer = gpu.buffer("random data", self.bytes)?;
        let block = self.block.len() as u64;
        gpu.upload(&buffer, self.bytes, block, |_, length| {
            Ok(self.block.repeat(usize::try_from(length / block).expect("a part of a buffer")))
        })?;
        gpu.flush()?;
        Ok(buffer)
    }
}

/// A kernel whose rate follows from its time.
pub(super) struct Probe {
    /// The dispatch; its bindings are the inputs, then the output.
    pub(super) launch: Launch,
    inputs: Vec<Fill>,
    output_bytes: u64,
    /// What a dispatch does, in the unit of its rate.
    pub(super) amount: f64,
    /// The first of its outputs.
    expected: Vec<f64>,
    tolerance: Tolerance,
}

impl Probe {
    /// Uploads the data, runs the kernel once and compares what it gives.
    ///
    /// # Errors
    /// [`Error::Device`] with a wrong value, or what the device says.
    pub(super) fn prepare(&self, gpu: &Gpu) -> Result<Program> {
        let output = gpu.buffer("output", self.output_bytes)?;
        let mut buffers =
            self.inputs.iter().map(|fill| Ok((fill.upload(gpu)?, fill.bytes))).collect::<Result<Vec<_>>>()?;
        buffers.push((output.clone(), self.output_bytes));
        let program = gpu.prepare(&[Dispatch { launch: &self.launch, buffers }])?;
        let bytes = self.expected.len() as u64 * 4;
        let readback = gpu.readback(bytes)?;
        let got = gpu.run(&program, &[(&output, 0, bytes)], &readback, &|| false)?;
        let got = got.as_chunks().0.iter().map(|value| f64::from(f32::from_le_bytes(*value)));
        match got
            .zip(&self.expected)
            .enumerate()
            .find(|(_, (got, want))| !self.tolerance.allows(*got, **want))
        {
            None => Ok(program),
            Some((index, (got, want))) => Err(Error::Device {
                what: format!("the measurement `{}`", self.launch.kernel),
                message: format!("value {index}: expected {want}, got {got}"),
            }),
        }
    }
}

/// Invocations of a workgroup of the probes that stay in registers.
fn width(caps: &Caps) -> u32 {
    if caps.kind == DeviceKind::Software { 64 } else { 256.min(caps.max_workgroup_invocations) }
}

/// Workgroups that keep a whole device busy for a while.
fn groups(caps: &Caps) -> u32 {
    match caps.kind {
        DeviceKind::Software => 64,
        DeviceKind::Integrated | DeviceKind::Virtual => 1024,
        DeviceKind::Discrete => 4096,
    }
}

/// Bytes that are copied or read: more than caches hold.
fn memory_bytes(caps: &Caps) -> u64 {
    let wanted = match caps.kind {
        DeviceKind::Discrete => 256 << 20,
        DeviceKind::Integrated | DeviceKind::Virtual | DeviceKind::Software => 64 << 20,
    };
    let most = caps.max_binding_bytes.min(caps.max_buffer_bytes) / BLOCK as u64 * BLOCK as u64;
    wanted.min(most)
}

/// Numbers from 0 to 1.
fn random(length: usize) -> Vec<f32> {
    let mut random = Random::new(17);
    (0..length).map(|_| random.unit().abs() as f32).collect()
}

/// A probe of so many operations in each of all invocations.
fn in_registers(caps: &Caps, kernel: &Kernel, rounds: u32, each: f64) -> (Launch, f64) {
    let (width, groups) = (width(caps), groups(caps));
    let launch = kernel.launch().variant("width", width).params(Rounds { rounds });
    let launch = launch.bind_all(1, 1).workgroups([groups, 1, 1]);
    (launch, f64::from(width) * f64::from(groups) * each)
}

/// Additions and multiplications of f32 in `chains` independent sums, or of f16 in pairs.
pub(super) fn multiply_add(caps: &Caps, chains: u32, half: bool) -> Probe {
    // Values that neither grow nor settle, but in f16 settle before errors add up.
    let (factor, summand) = if half { (-0.75, 0.3125) } else { (-1.0 + 1.0 / 1024.0, 0.3125) };
    let rounds = MULTIPLY_ADDS / (4 * chains);
    let lanes = if half { 2 } else { 1 };
    let each = f64::from(2 * lanes * 4 * chains * rounds);
    let (launch, amount) = in_registers(caps, &MULTIPLY_ADD, rounds, each);
    let mut input = vec![factor, summand];
    input.extend(random((width(caps) + chains) as usize));
    let chain = |start: f32| {
        let step = |value: f64, _| value * f64::from(factor) + f64::from(summand);
        (0..4 * rounds).fold(f64::from(start), step)
    };
    let sum =
        |lane: usize| input[2 + lane..][..chains as usize].iter().map(|&start| chain(start)).sum::<f64>();
    let expected = (0..8).map(|lane| sum(lane) * f64::from(lanes)).collect();
    Probe {
        launch: launch.variant("value", if half { "vec2<f16>" } else { "f32" }).variant("chains", chains),
        inputs: vec![Fill::f32(&input)],
        output_bytes: u64::from(width(caps) * groups(caps)) * 4,
        amount,
        expected,
        tolerance: Tolerance::new(0.01, if half { 0.02 } else { 0.001 }),
    }
}

/// Exponentials of f32.
pub(super) fn exponential(caps: &Caps) -> Probe {
    let (launch, amount) = in_registers(caps, &EXPONENTIAL, ROUNDS, f64::from(4 * ROUNDS));
    let input = random(width(caps) as usize + 4);
    let chain = |start: f32| (0..ROUNDS).fold(f64::from(start), |value, _| (-value).exp());
    let expected = (0..8).map(|lane| input[lane..][..4].iter().map(|&start| chain(start)).sum()).collect();
    Probe {
        launch,
        inputs: vec![Fill::f32(&input)],
        output_bytes: u64::from(width(caps) * groups(caps)) * 4,
        amount,
        expected,
        tolerance: Tolerance::new(1e-4, 1e-4),
    }
}

/// Bytes read and written by a kernel that copies vectors of four.
pub(super) fn copy(caps: &Caps) -> Probe {
    let (bytes, values) = (memory_bytes(caps), random(BLOCK / 4));
    let share = Share::new(usize::try_from(bytes / 16).expect("vectors of a binding"), caps);
    let params = CopyParams { items: share.items, per_group: share.per_group };
    Probe {
        launch: share.launch(&COPY).params(params).bind_all(1, 1),
        inputs: vec![Fill { bytes, ..Fill::f32(&values) }],
        output_bytes: bytes,
        amount: 2.0 * bytes as f64,
        expected: values[..1024].iter().map(|&value| f64::from(value)).collect(),
        tolerance: Tolerance::EXACT,
    }
}

/// Bytes read by sums of vectors of four, whose lanes take turns in each of several ways.
pub(super) fn reads(caps: &Caps) -> Vec<Probe> {
    let bytes = memory_bytes(caps);
    let items = u32::try_from(bytes / 16).expect("vectors of a binding") / VECTORS_OF_A_SUM;
    // Far strides miss the caches of a processor, and let those of a GPU read whole lines.
    let other = if caps.kind == DeviceKind::Software { 1 } else { items };
    [caps.elementwise_width(), other].map(|stride| read(caps, bytes, items, stride)).into()
}

fn read(caps: &Caps, bytes: u64, items: u32, stride: u32) -> Probe {
    let values = random(BLOCK / 4);
    let exact: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
    let fill = Fill { bytes, ..Fill::f32(&values) };
    sums(caps, fill, "vec4<f32>", (items, stride), &|vector, part| exact[(vector * 4 + part) % exact.len()])
}

/// Bytes of f16 read by sums: sixteen bytes at a time and unpacked, or in vectors of four.
pub(super) fn read_f16(caps: &Caps, packed: bool) -> Probe {
    let (bytes, values) = (memory_bytes(caps), random(BLOCK / 2));
    let values: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
    let (element, halves) = if packed { ("vec4<u32>", 8) } else { ("vec4<f16>", 4) };
    let items = u32::try_from(bytes / (2 * halves as u64)).expect("vectors of a binding") / VECTORS_OF_A_SUM;
    let fill = Fill { bytes, ..Fill::once(bytemuck::cast_slice(&values).to_vec()) };
    let value = |vector: usize, part: usize| {
        let at = |index: usize| values[(vector * halves + index) % values.len()].to_f64();
        if packed { at(part) + at(4 + part) } else { at(part) }
    };
    sums(caps, fill, element, (items, caps.elementwise_width()), &value)
}

/// Bytes read by so many sums of vectors at a stride; `value` is what a vector adds to a part of its sum.
fn sums(
    caps: &Caps,
    fill: Fill,
    element: &'static str,
    (items, stride): (u32, u32),
    value: &dyn Fn(usize, usize) -> f64,
) -> Probe {
    let rounds = VECTORS_OF_A_SUM / 4;
    let share = Share::of_loops(items as usize, rounds as usize, caps);
    let params = ReadParams { items, per_group: share.per_group, rounds, stride };
    let sum = |item: u32, part: usize| {
        let first = (item - item % stride) * VECTORS_OF_A_SUM + item % stride;
        (0..VECTORS_OF_A_SUM).map(|index| value((first + index * stride) as usize, part)).sum()
    };
    let firsts = (0..8).flat_map(|item| (0..4).map(move |part| (item, part)));
    Probe {
        launch: share.launch(&READ).variant("element", element).params(params).bind_all(1, 1),
        expected: firsts.map(|(item, part)| sum(item, part)).collect(),
        output_bytes: u64::from(items) * 16,
        amount: fill.bytes as f64,
        inputs: vec![fill],
        tolerance: Tolerance::new(1e-4, 1e-5),
    }
}

/// Bytes read from workgroup memory.
pub(super) fn workgroup_read(caps: &Caps) -> Probe {
    const VECTORS: usize = 512;
    let (launch, amount) = in_registers(caps, &WORKGROUP_READ, ROUNDS, f64::from(4 * ROUNDS) * 16.0);
    let values = random(VECTORS * 4);
    let sum = |lane: usize, part: usize| {
        let at = |index: usize| (lane + 32 * index) % VECTORS * 4 + part;
        (0..4 * ROUNDS as usize).map(|index| f64::from(values[at(index)])).sum()
    };
    Probe {
        launch,
        inputs: vec![Fill::f32(&values)],
        output_bytes: u64::from(width(caps) * groups(caps)) * 16,
        amount,
        expected: (0..8).flat_map(|lane| (0..4).map(move |part| sum(lane, part))).collect(),
        tolerance: Tolerance::new(1e-3, 1e-4),
    }
}

/// Barriers of one workgroup of 256, each with a load or a store of workgroup memory.
pub(super) fn barrier(caps: &Caps) -> Probe {
    let width = 256.min(caps.max_workgroup_invocations);
    let values = random(width as usize);
    let expected = (0..width).map(|lane| f64::from(values[((lane + ROUNDS) % width) as usize]));
    Probe {
        launch: BARRIER.launch().variant("width", width).params(Rounds { rounds: ROUNDS }).bind_all(1, 1),
        expected: expected.collect(),
        inputs: vec![Fill::f32(&values)],
        output_bytes: u64::from(width) * 4,
        amount: f64::from(2 * ROUNDS),
        tolerance: Tolerance::EXACT,
    }
}

/// Additions and multiplications of matrix units, f16 with f32 sums; none where the device has none,
/// or subgroups of several sizes.
pub(super) fn matrix_multiply(caps: &Caps) -> Option<Probe> {
    let side = caps.cooperative_matrix?;
    if !caps.f16 || caps.subgroup_min != caps.subgroup_max {
        return None;
    }
    let (tile, rounds, groups) = ((side * side) as usize, 4 * ROUNDS, groups(caps));
    let values: Vec<f16> = random(9 * tile).into_iter().map(f16::from_f32).collect();
    let (left, right) = values.split_at(8 * tile);
    let side_length = side as usize;
    let product = |row: usize, column: usize| {
        let term = |k: usize| left[row * side_length + k].to_f64() * right[k * side_length + column].to_f64();
        f64::from(rounds) * (0..side_length).map(term).sum::<f64>()
    };
    let expected = (0..tile).map(|index| product(index / side_length, index % side_length)).collect();
    let bytes = |values: &[f16]| Fill::once(bytemuck::cast_slice(values).to_vec());
    let launch = MATRIX_MULTIPLY.launch().variant("side", side).variant("width", caps.subgroup_max);
    Some(Probe {
        launch: launch.params(Rounds { rounds }).bind_all(2, 1).workgroups([groups, 1, 1]),
        inputs: vec![bytes(left), bytes(right)],
        output_bytes: u64::from(groups) * 8 * tile as u64 * 4,
        amount: 2.0 * 8.0 * f64::from(groups) * f64::from(rounds) * f64::from(side).powi(3),
        expected,
        // Matrix units may cut off what they add.
        tolerance: Tolerance::new(0.0, 0.01),
    })
}

/// Values of the workgroup of [`increment`].
pub(super) const INCREMENTED: u32 = 64;

/// A dispatch that adds 1 to a few values.
pub(super) fn increment() -> Launch {
    INCREMENT.launch().variant("width", INCREMENTED).bind([Operand::Output(0)])
}

/// The launches of all probes on a device, for tests of their shaders.
pub fn probe_launches(caps: &Caps) -> Vec<Launch> {
    let mut probes = vec![
        multiply_add(caps, 8, false),
        exponential(caps),
        copy(caps),
        workgroup_read(caps),
        barrier(caps),
    ];
    probes.extend(reads(caps));
    probes.push(read_f16(caps, true));
    probes.extend(caps.f16.then(|| read_f16(caps, false)));
    probes.extend(caps.f16.then(|| multiply_add(caps, 8, true)));
    probes.extend(matrix_multiply(caps));
    probes.into_iter().map(|probe| probe.launch).chain([increment()]).collect()
}
