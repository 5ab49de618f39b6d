// Depthwise convolution, each channel by itself: an item is RUN neighbouring outputs along the
// width of one channel, or of four, so that what they share of x is loaded once. WIDTH_TAPS taps
// along the width are next to each other and unrolled. Takes `run`, `width_taps`, `width_stride`.
const RUN: u32 = ${run}u;
const WIDTH_TAPS: u32 = ${width_taps}u;

struct Params {
    image: vec4<u32>,     // depth, height and width of x, Values of a pixel
    output: vec4<u32>,    // depth, height and width of the output, runs of a line
    kernel: vec4<u32>,    // taps along depth and height, times WIDTH_TAPS along the width
    stride: vec4<u32>,    // along depth, height and width
    dilation: vec4<u32>,  // along depth, height and width
    pads: vec4<u32>,      // before depth, height and width
    items: u32,
    per_group: u32,
    alpha: f32,           // arguments of the activation
    beta: f32,
}
${params} params: Params;

//# include "lib/epilogue.wgsl"

@group(0) @binding(0) var<storage, read> x: array<Value>;       // [n, depth, height, width, pixel]
@group(0) @binding(1) var<storage, read> weight: array<Value>;  // [taps, pixel]

fn load_x(line: u32, width: u32, channel: u32) -> Value {
    let inside = width < params.image.z;
    return select(Value(), x[select(0u, (line + width) * params.image.w + channel, inside)], inside);
}

fn compute(item: u32) {
    let runs = item / params.image.w;
    let channel = item - runs * params.image.w;
    let lines = runs / params.output.w;
    let first_output = (runs - lines * params.output.w) * RUN;
    let planes = lines / params.output.y;
    let images = planes / params.output.x;
    let first = vec3<u32>(planes - images * params.output.x, lines - planes * params.output.y, first_output) * params.stride.xyz - params.pads.xyz;
//# for r in range(run)
    var sum_${r} = Value();
//# endfor
    var tap = channel; // index in the weight
    for (var depth_tap = 0u; depth_tap < params.kernel.x; depth_tap++) {
        let depth = first.x + depth_tap * params.dilation.x;
        for (var height_tap = 0u; height_tap < params.kernel.y; height_tap++) {
            let height = first.y + height_tap * params.dilation.y;
            let inside = depth < params.image.x && height < params.image.y;
            let line = ((images * params.image.x + depth) * params.image.y + height) * params.image.z;
            for (var width_tap = 0u; width_tap < params.kernel.z; width_tap++) {
                if inside {
                    let width = first.z + width_tap * params.dilation.z;
//# for i in range((run - 1) * width_stride + width_taps)
                    let x_${i} = load_x(line, width + ${i}u, channel);
//# endfor
//# for t in range(width_taps)
                    let w_${t} = weight[tap + ${t}u * params.image.w];
//# for r in range(run)
                    sum_${r} = fma(x_${r * width_stride + t}, w_${t}, sum_${r});
//# endfor
//# endfor
                }
                tap += WIDTH_TAPS * params.image.w;
            }
        }
    }
    // A loop of unknown length: unrolled, the stores would take most of the time to compile.
    let first_index = (lines * params.output.z + first_output) * params.image.w + channel;
    let count = min(RUN, params.output.z - first_output);
    for (var r = 0u; r < count; r++) {
        var sum = sum_0;
//# for r in range(1, run)
        if r == ${r}u { sum = sum_${r}; }
//# endfor
        finish_output(first_index + r * params.image.w, channel, sum, 0u, sum);
    }
}

//# include "lib/items.wgsl"
