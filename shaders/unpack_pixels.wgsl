// Bytes of pixels as numbers: each channel is byte * scale + offset of one byte of the pixel's
// word. An item is four elements of the output.
struct Params {
    items: u32,
    per_group: u32,
    elements: u32,
    channels: u32,
    shifts: vec4<u32>,   // of each channel
    scales: vec4<u32>,   // f32 bits
    offsets: vec4<u32>,  // f32 bits
}
@group(0) @binding(0) var<storage, read> input: array<u32>;                 // [pixels]
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;    // [pixels, channels]
${params} params: Params;

fn compute(item: u32) {
    let scales = bitcast<vec4<f32>>(params.scales);
    let offsets = bitcast<vec4<f32>>(params.offsets);
    var values: vec4<f32>;
    for (var i = 0u; i < 4u; i++) {
        let element = min(item * 4u + i, params.elements - 1u);
        let channel = element % params.channels;
        let byte = (input[element / params.channels] >> params.shifts[channel]) & 0xffu;
        values[i] = f32(byte) * scales[channel] + offsets[channel];
    }
    output[item] = values;
}

//# include "lib/items.wgsl"
