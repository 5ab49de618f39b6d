// Mean, and sum of squared differences from it, of each channel over each part of an image's
// pixels. An item is one channel, or four neighbouring ones, of one part. Takes `value`.
alias Value = ${value};

struct Params {
    items: u32,
    per_group: u32,
    pixel: u32,   // Values of a pixel
    pixels: u32,  // of an image
    parts: u32,   // of an image
    part: u32,    // pixels of a part; the last may have fewer
}
@group(0) @binding(0) var<storage, read> x: array<Value>;                 // [n, pixels, pixel]
@group(0) @binding(1) var<storage, read_write> statistics: array<Value>;  // [n, parts, 2, pixel]
${params} params: Params;

fn compute(item: u32) {
    let parts = item / params.pixel;
    let channel = item - parts * params.pixel;
    let image = parts / params.parts;
    let first = (parts - image * params.parts) * params.part;
    let length = min(params.part, params.pixels - first);
    let start = (image * params.pixels + first) * params.pixel + channel;
    // Differences from any element are small where the mean is large.
    let any = x[start];
    var sum = Value();
    for (var i = 0u; i < length; i++) { sum += x[start + i * params.pixel] - any; }
    let mean = any + sum / f32(length);
    var squares = Value();
    for (var i = 0u; i < length; i++) {
        let difference = x[start + i * params.pixel] - mean;
        squares += difference * difference;
    }
    let to = parts * 2u * params.pixel + channel;
    statistics[to] = mean;
    statistics[to + params.pixel] = squares;
}

//# include "lib/items.wgsl"
