// Local response normalisation across channels: x / (bias + alpha * sum of squares)^beta over
// the channels around each. An item is one element.

struct Params {
    items: u32,
    per_group: u32,
    channels: u32,
    before: u32,    // channels of a window before and after its own
    after: u32,
    alpha: f32,
    exponent: f32,  // -beta
    bias: f32,
}
@group(0) @binding(0) var<storage, read> x: array<f32>;             // [pixels, channels]
@group(0) @binding(1) var<storage, read_write> output: array<f32>;  // as x
${params} params: Params;

fn compute(item: u32) {
    let channel = item % params.channels;
    let first = item - min(params.before, channel);
    let last = item + min(params.after, params.channels - 1u - channel);
    var sum = 0.0;
    for (var i = first; i <= last; i++) { sum += x[i] * x[i]; }
    output[item] = x[item] * pow(params.bias + params.alpha * sum, params.exponent);
}

//# include "lib/items.wgsl"
