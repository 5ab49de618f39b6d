// Operands of a convolution as a matrix product: rows are output positions, columns are output
// channels of a group, and the inner dimension is a sequence of runs, neighbouring elements of x
// in memory that a tap of the kernel (or all taps along the width, with their channels) meets.
// Takes the variables of lib/weight_block.wgsl, `transposed`, `x_width`: the channels of an element of x, 1 or 4, and
// `points`: whether each row is a pixel of x, all of them in one line.

struct Params {
    image: vec4<u32>,     // depth and height of x, elements of a line of pixels, elements of a pixel
    output: vec4<u32>,    // depth, height and width of the output, its channels
    kernel: vec4<u32>,    // taps along depth, height and width, blocks of the weight for a run
    stride: vec4<u32>,    // along depth, height and width, elements of a run
    dilation: vec4<u32>,  // along depth, height and width, output channels of a group
    pads: vec4<u32>,      // before depth, height and width, rows
    first_channel: u32,   // rows of the weight, output channels or panels of them, that are bound:
    end_channel: u32,     // the first, and the one after the last
    alpha: f32,           // arguments of the activation
    beta: f32,
    phases: u32,          // output positions modulo the stride, see AxisPhase; 1 unless transposed
    parts: u32,           // parts of the inner dimension, whose sums are added up afterwards
    part_blocks: u32,     // blocks of a part
    part_outputs: u32,    // outputs of a part
}
${params} params: Params;

//# include "lib/weight_block.wgsl"
//# include "lib/epilogue.wgsl"

@group(0) @binding(0) var<storage, read> x: array<${"f32" if x_width == 1 else "vec2<u64>" if long_words else "vec4<f32>"}>;  // [n, depth, height, line]
@group(0) @binding(1) var<storage, read> weight: array<WeightBlock>;  // [channels of the part, taps, blocks of a run]

fn phase_count() -> u32 { return params.phases; }

// What all rows of a workgroup have in common.
struct Walk {
    taps: vec3<u32>,      // number of taps along each axis
    steps: vec3<u32>,     // from a tap to the next, in pixels; wraps where negative
    shifts: vec3<u32>,    // transposed: from an output position over the stride to the first tap's pixel
    phases: vec3<u32>,    // transposed: the outputs' positions modulo the stride
    first_block: u32,     // of a row of the weight
}

// Where the first tap of a row lies in x; positions outside of it wrap or are too large.
struct Place {
    image: u32,    // index in the batch
    depth: u32,
    height: u32,
    element: u32,  // in the line
}

// The elements of x that a tap meets.
struct Run {
    line: u32,   // first element of the line
    first: u32,  // first element of the run, in the line; wraps where negative
    end: u32,    // elements of the line from here on do not count
}

// Position along depth, height and width, and index in the batch, of the first of `sizes` rows.
fn position(row: u32, sizes: vec3<u32>) -> vec4<u32> {
    if ${"true" if points else "false"} { return vec4<u32>(0u, 0u, row, 0u); }
    let lines = row / sizes.z;
    let planes = lines / sizes.y;
    let images = planes / sizes.x;
    return vec4<u32>(planes - images * sizes.x, lines - planes * sizes.y, row - lines * sizes.z, images);
}

//# if transposed
// Taps of one axis that reach the output positions p with p % stride == phase: those where
// p + pad - tap * dilation is a multiple of the stride. The weight has them next to each other.
struct AxisPhase { before: u32, taps: u32, shift: u32 }

fn axis_phase(axis: u32, phase: u32) -> AxisPhase {
    let stride = params.stride[axis];
    var found = AxisPhase();
    for (var tap = 0u; tap < params.kernel[axis]; tap++) {
        let of_tap = (tap * params.dilation[axis] + stride - params.pads[axis] % stride) % stride;
        if of_tap < phase { found.before++; }
        if of_tap == phase {
            if found.taps == 0u {
                let distance = i32(phase + params.pads[axis]) - i32(tap * params.dilation[axis]);
                found.shift = bitcast<u32>(distance / i32(stride));
            }
            found.taps++;
        }
    }
    return found;
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    var pair = vec2<u32>(a, b);
    while pair.y != 0u { pair = vec2<u32>(pair.y, pair.x % pair.y); }
    return pair.x;
}

fn begin_walk(phase: u32) -> Walk {
    let phases = position(phase, params.stride.xyz).xyz;
    let depth = axis_phase(0u, phases.x);
    let height = axis_phase(1u, phases.y);
    let width = axis_phase(2u, phases.z);
    var steps: vec3<u32>;
    for (var axis = 0u; axis < 3u; axis++) {
        let dilation = params.dilation[axis];
        steps[axis] = 0u - dilation / greatest_common_divisor(dilation, params.stride[axis]);
    }
    let planes = depth.before * params.kernel.y + depth.taps * height.before;
    return Walk(
        vec3<u32>(depth.taps, height.taps, width.taps),
        steps,
        vec3<u32>(depth.shift, height.shift, width.shift),
        phases,
        (planes * params.kernel.z + depth.taps * height.taps * width.before) * params.kernel.w,
    );
}

fn row_sizes() -> vec3<u32> { return (params.output.xyz + params.stride.xyz - 1u) / params.stride.xyz; }

fn place_of(walk: Walk, at: vec4<u32>) -> vec3<u32> { return at.xyz + walk.shifts; }

fn output_row(walk: Walk, row: u32) -> u32 {
    let at = position(row, row_sizes());
    let out = at.xyz * params.stride.xyz + walk.phases;
    let index = ((at.w * params.output.x + out.x) * params.output.y + out.y) * params.output.z + out.z;
    return select(index, 0xffffffffu, any(out >= params.output.xyz));
}
//# else
fn begin_walk(phase: u32) -> Walk {
    let taps = ${"vec3<u32>(1u)" if points else "params.kernel.xyz"};
    return Walk(taps, params.dilation.xyz, vec3<u32>(), vec3<u32>(), 0u);
}

fn row_sizes() -> vec3<u32> { return params.output.xyz; }

fn place_of(walk: Walk, at: vec4<u32>) -> vec3<u32> { return at.xyz * params.stride.xyz - params.pads.xyz; }

fn output_row(walk: Walk, row: u32) -> u32 { return row; }
//# endif

// Place of a row for a group; rows past the end are the last one.
fn place_row(walk: Walk, row: u32, group: u32) -> Place {
    let at = position(min(row, params.pads.w - 1u), row_sizes());
    let place = place_of(walk, at);
    return Place(at.w, place.x, place.y, place.z * params.image.w + group * params.stride.w);
}

fn run_of(walk: Walk, place: Place, tap: vec3<u32>) -> Run {
    let depth = place.depth + tap.x * walk.steps.x;
    let height = place.height + tap.y * walk.steps.y;
    let first = place.element + tap.z * walk.steps.z * params.image.w;
    let line = ((place.image * params.image.x + depth) * params.image.y + height) * params.image.z;
    let inside = depth < params.image.x && height < params.image.y;
    return Run(line, first, select(0u, min(first + params.stride.w, params.image.z), inside));
}

// Four channels of a run; zeros where it is outside of x, which a vector of a point is not.
fn load_x(run: Run, vector: u32) -> vec4<f32> {
//# if points and x_width == 4
    return ${"bitcast<vec4<f32>>(words_of(x[run.first + vector]))" if long_words else "x[run.first + vector]"};
//# elif x_width == 4
    let element = run.first + vector;
    let inside = element < run.end;
    let at = select(0u, run.line + element, inside);
    return select(vec4<f32>(), ${"bitcast<vec4<f32>>(words_of(x[at]))" if long_words else "x[at]"}, inside);
//# else
    let element = vec4<u32>(run.first + vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let inside = element < vec4<u32>(run.end);
    let at = select(vec4<u32>(), vec4<u32>(run.line) + element, inside);
    return select(vec4<f32>(), vec4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]), inside);
//# endif
}

// Groups that the bound part of the weight has channels of.
fn part_groups() -> u32 {
    return (params.end_channel - 1u) / params.dilation.w - params.first_channel / params.dilation.w + 1u;
}

// Output channels of a group that the bound part of the weight has: the first, and the end.
fn group_channels(group: u32) -> vec2<u32> {
    let first = group * params.dilation.w;
    return vec2<u32>(max(first, params.first_channel), min(first + params.dilation.w, params.end_channel));
}

// Blocks of the weight of an output channel.
fn row_blocks() -> u32 { return params.kernel.x * params.kernel.y * params.kernel.z * params.kernel.w; }

// First block of the weight of an output channel; past the end, of the last one.
fn weight_row(walk: Walk, channel: u32, end: u32) -> u32 {
    return (min(channel, end - 1u) - params.first_channel) * row_blocks() + walk.first_block;
}

// Finishes the outputs of a row from `channel` on in a part, unless they are past the end.
fn store_part(part: u32, walk: Walk, row: u32, channel: u32, end: u32, sum: Value) {
    if row >= params.pads.w || channel >= end { return; }
    let at = output_row(walk, row);
    if at == 0xffffffffu { return; }
    let index = part * params.part_outputs + at * params.output.w + channel;
    finish_output(index / VALUE, channel / VALUE, sum, 0u, sum);
}

fn store_output(walk: Walk, row: u32, channel: u32, end: u32, sum: Value) { store_part(0u, walk, row, channel, end, sum); }

// sum + a . b, in four fused steps.
fn add_dot(sum: f32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}
