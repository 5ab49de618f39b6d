// Batch normalisation: (x - mean) / sqrt(variance + eps) * weight + bias, then an activation. An
// item is one element or four neighbouring ones, which belong to one channel or to four
// neighbouring ones. Takes `value` and `channel`: "f32" or "vec4<f32>", elements of an item and
// its channels.
alias Value = ${value};
alias Channel = ${channel};

struct Params {
    items: u32,
    per_group: u32,
    inner: u32,     // Values that follow each other with the same Channel
    channels: u32,  // Channels
    eps: f32,
    alpha: f32,     // arguments of the activation
    beta: f32,
}
@group(0) @binding(0) var<storage, read> x: array<Value>;             // [.., channels, inner]
@group(0) @binding(1) var<storage, read> weight: array<Channel>;      // [channels]
@group(0) @binding(2) var<storage, read> bias: array<Channel>;        // [channels]
@group(0) @binding(3) var<storage, read> mean: array<Channel>;        // [channels]
@group(0) @binding(4) var<storage, read> variance: array<Channel>;    // [channels]
@group(0) @binding(5) var<storage, read_write> output: array<Value>;  // as x
${params} params: Params;

//# include "lib/activate.wgsl"

fn compute(item: u32) {
    let channel = item ${"/ params.inner " if channel == "f32" else ""}% params.channels;
    let scale = inverseSqrt(variance[channel] + params.eps) * weight[channel];
    output[item] = ${"activate" if value == "f32" else "activate_vector"}((x[item] - mean[channel]) * scale + bias[channel]);
}

//# include "lib/items.wgsl"
