// Normalisation by the statistics of an image: (x - mean) * scale + bias, then an activation. An
// item is one channel of a pixel, or four neighbouring ones. Takes `value`.
alias Value = ${value};

struct Params {
    items: u32,
    per_group: u32,
    columns: u32,  // Values of a pixel
    pixels: u32,   // of an image
    alpha: f32,  // arguments of the activation
    beta: f32,
}
@group(0) @binding(0) var<storage, read> x: array<Value>;             // [n, pixels, pixel]
@group(0) @binding(1) var<storage, read> merged: array<Value>;        // mean and scale [n, 2, pixel]
@group(0) @binding(2) var<storage, read> bias: array<Value>;          // [pixel]
@group(0) @binding(3) var<storage, read_write> output: array<Value>;  // as x
${params} params: Params;

//# include "lib/activate.wgsl"

fn compute(pixel: u32, channel: u32) {
    let item = pixel * params.columns + channel;
    let mean = pixel / params.pixels * 2u * params.columns + channel;
    let normed = (x[item] - merged[mean]) * merged[mean + params.columns] + bias[channel];
    output[item] = ${"activate" if value == "f32" else "activate_vector"}(normed);
}

//# include "lib/columns.wgsl"
