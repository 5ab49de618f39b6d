// Depthwise convolution with a small window: an item is a strip of one channel, or of four, RUN
// outputs wide and several lines high. It goes through the lines of x that the strip meets and adds
// each to the outputs of all lines that it reaches, so that it is loaded once. The loop is as short
// as can be: unrolled, it would not fit the caches for instructions. Takes `run`, `stride`, along
// height and width, and `taps` along both, so that `started` lines of outputs are begun at a time.
const RUN: u32 = ${run}u;
const STRIDE: u32 = ${stride}u;

struct Params {
    image: vec4<u32>,   // height and width of x, Values of a pixel, lines of a strip
    output: vec4<u32>,  // height and width of the output, strips along height and width
    pads: vec4<u32>,    // before height and width
    items: u32,
    per_group: u32,
    alpha: f32,         // arguments of the activation
    beta: f32,
}
${params} params: Params;

//# include "lib/epilogue.wgsl"

@group(0) @binding(0) var<storage, read> x: array<Value>;       // [n, height, width, pixel]
@group(0) @binding(1) var<storage, read> weight: array<Value>;  // [taps, taps, pixel]

//# set started = (taps + stride - 1) // stride
fn load_x(line: u32, inside_line: bool, width: u32, channel: u32) -> Value {
    let inside = inside_line && width < params.image.y;
    return select(Value(), x[select(0u, (line + width) * params.image.z + channel, inside)], inside);
}

fn compute(item: u32) {
    let runs = item / params.image.z;
    let channel = item - runs * params.image.z;
    let strips = runs / params.output.w;
    let image = strips / params.output.z;
    let first_line = (strips - image * params.output.z) * params.image.w;
    let first_output = (runs - strips * params.output.w) * RUN;
    let end_line = min(first_line + params.image.w, params.output.x);
    let count = min(RUN, params.output.y - first_output);
    let height = first_line * STRIDE - params.pads.x;
    let width = first_output * STRIDE - params.pads.y;
//# for t in range(taps * taps)
    let w_${t} = weight[channel + ${t}u * params.image.z];
//# endfor
    // Sums of the line of outputs that the last lines of x have begun, of the one before, ...
//# for l in range(started)
//# for r in range(run)
    var sum_${l}_${r} = Value();
//# endfor
//# endfor
    let lines = (end_line - first_line - 1u) * STRIDE + ${taps}u;
    for (var i = 0u; i < lines; i++) {
        let phase = i % STRIDE;
        let inside = height + i < params.image.x;
        let line = (image * params.image.x + height + i) * params.image.y;
//# for i in range((run - 1) * stride + taps)
        let x_${i} = load_x(line, inside, width + ${i}u, channel);
//# endfor
//# for l in range(started)
//# for t in range(taps)
//# set even = l * stride * taps + t
//# set odd = "w_" ~ (even + taps) if l * stride + 1 < taps else "Value()"
        let tap_${l}_${t} = ${"w_" ~ even if stride == 1 else "select(" ~ odd ~ ", w_" ~ even ~ ", phase == 0u)"};
//# for r in range(run)
        sum_${l}_${r} = fma(x_${r * stride + t}, tap_${l}_${t}, sum_${l}_${r});
//# endfor
//# endfor
//# endfor
        if i + 1u >= ${taps}u && phase == ${(taps - 1) % stride}u {
            let first_index = ((image * params.output.x + first_line + (i + 1u - ${taps}u) / STRIDE) * params.output.y + first_output) * params.image.z + channel;
            for (var r = 0u; r < count; r++) {
                var sum = sum_${started - 1}_0;
//# for r in range(1, run)
                if r == ${r}u { sum = sum_${started - 1}_${r}; }
//# endfor
                finish_output(first_index + r * params.image.z, channel, sum, 0u, sum);
            }
        }
        if phase == STRIDE - 1u {
//# for l in range(started - 1, 0, -1)
//# for r in range(run)
            sum_${l}_${r} = sum_${l - 1}_${r};
//# endfor
//# endfor
//# for r in range(run)
            sum_0_${r} = Value();
//# endfor
        }
    }
}

//# include "lib/items.wgsl"
