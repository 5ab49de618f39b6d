// Reverses the first elements of each sequence. An item is one element; `time_stride` and
// `batch_stride` are those of the two first axes, in one or the other order.
struct Params {
    items: u32,
    per_group: u32,
    times: u32,
    time_stride: u32,
    batches: u32,
    batch_stride: u32,
}
@group(0) @binding(0) var<storage, read> input: array<u32>;
@group(0) @binding(1) var<storage, read> lengths: array<u32>;       // [batches]
@group(0) @binding(2) var<storage, read_write> output: array<u32>;
${params} params: Params;

fn compute(item: u32) {
    let time = item / params.time_stride % params.times;
    let batch = item / params.batch_stride % params.batches;
    let length = min(lengths[batch], params.times);
    // Differences wrap.
    let source = item + (length - 1u - 2u * time) * params.time_stride;
    output[item] = input[select(item, source, time < length)];
}

//# include "lib/items.wgsl"
