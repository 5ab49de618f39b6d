// Normalisation by the statistics of an image: (x - mean) * scale + bias, then an activation. An
// item is one channel of a pixel, or four neighbouring ones. Takes `value`.
alias Value = ${value};

struct Params {
    items: u32,
    per_group: u32,
    pixel: u32,  // Values of a pixel
    image: u32,  // Values of an image
    alpha: f32,  // arguments of the activation
    beta: f32,
}
@group(0) @binding(0) var<storage, read> x: array<Value>;             // [n, pixels, pixel]
@group(0) @binding(1) var<storage, read> merged: array<Value>;        // mean and scale [n, 2, pixel]
@group(0) @binding(2) var<storage, read> bias: array<Value>;          // [pixel]
@group(0) @binding(3) var<storage, read_write> output: array<Value>;  // as x
${params} params: Params;

//# include "lib/activate.wgsl"

fn compute(item: u32) {
    let channel = item % params.pixel;
    let mean = item / params.image * 2u * params.pixel + channel;
    let normed = (x[item] - merged[mean]) * merged[mean + params.pixel] + bias[channel];
    output[item] = ${"activate" if value == "f32" else "activate_vector"}(normed);
}

//# include "lib/items.wgsl"
