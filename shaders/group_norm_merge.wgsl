// Mean and scale of each group of channels from the statistics of its channels over parts of the
// pixels (Chan et al. 1979). A row is one group of one image; results are repeated for each of
// its channels, whose weights go into the scale.

struct Params {
    rows: u32,
    rows_per_group: u32,
    groups: u32,          // of an image
    group_channels: u32,
    pixels: u32,          // of an image
    parts: u32,           // of an image
    part: u32,            // pixels of a part; the last may have fewer
    eps: f32,
}
@group(0) @binding(0) var<storage, read> statistics: array<f32>;     // [n, parts, 2, channels]
@group(0) @binding(1) var<storage, read> weight: array<f32>;         // [channels]
@group(0) @binding(2) var<storage, read_write> merged: array<f32>;   // [n, 2, channels]
${params} params: Params;

fn compute_row(row: u32) {
    let image = row / params.groups;
    let channels = params.groups * params.group_channels;
    let first_channel = (row - image * params.groups) * params.group_channels;
    let start = image * params.parts * 2u * channels + first_channel;
    let count = params.parts * params.group_channels;
    // Parts weigh as many pixels as they have, in units of a whole part.
    let last = f32(params.pixels - (params.parts - 1u) * params.part) / f32(params.part);
    let total = f32(params.group_channels) * (f32(params.parts - 1u) + last);
    // Differences from any mean are small where all are large.
    let any = statistics[start];
    var sum = 0.0;
    for (var i = first; i < count; i += stride) {
        let part = i / params.group_channels;
        let at = start + part * 2u * channels + i - part * params.group_channels;
        sum += (statistics[at] - any) * select(1.0, last, part + 1u == params.parts);
    }
    let mean = any + row_sum(sum) / total;
    var squares = 0.0;
    for (var i = first; i < count; i += stride) {
        let part = i / params.group_channels;
        let at = start + part * 2u * channels + i - part * params.group_channels;
        let difference = statistics[at] - mean;
        squares += statistics[at + channels] / f32(params.part) + difference * difference * select(1.0, last, part + 1u == params.parts);
    }
    let scale = inverseSqrt(row_sum(squares) / total + params.eps);
    for (var i = first; i < params.group_channels; i += stride) {
        let channel = first_channel + i;
        merged[image * 2u * channels + channel] = mean;
        merged[(image * 2u + 1u) * channels + channel] = scale * weight[channel];
    }
}

//# include "lib/rows.wgsl"
