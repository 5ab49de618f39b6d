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
    // Four pixels at a time are merged with those before (Chan et al. 1979): one pass, exact also
    // where the mean is large.
    var mean = Value();
    var squares = Value();
    var i = 0u;
    for (; i + 4u <= length; i += 4u) {
        let at = start + i * params.pixel;
        let a = x[at];
        let b = x[at + params.pixel];
        let c = x[at + 2u * params.pixel];
        let d = x[at + 3u * params.pixel];
        let middle = ((a + b) + (c + d)) * 0.25;
        let e = a - middle;
        let f = b - middle;
        let g = c - middle;
        let h = d - middle;
        let difference = middle - mean;
        let part = 4.0 / f32(i + 4u);
        squares += (e * e + f * f) + (g * g + h * h) + difference * difference * (part * f32(i));
        mean += difference * part;
    }
    for (; i < length; i++) {
        let difference = x[start + i * params.pixel] - mean;
        let part = 1.0 / f32(i + 1u);
        squares += difference * difference * (part * f32(i));
        mean += difference * part;
    }
    let to = parts * 2u * params.pixel + channel;
    statistics[to] = mean;
    statistics[to + params.pixel] = squares;
}

//# include "lib/items.wgsl"
