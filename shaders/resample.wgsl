// Resamples 8-bit pixels along one axis: every output is a sum of neighbouring pixels, weighted
// by fixed-point coefficients of 22 fractional bits, and rounded to 8 bits. All integers, so that
// every device gives the same bytes. A pixel is a word of four bytes. An item is a pixel.
struct Params {
    items: u32,
    per_group: u32,
    size: u32,
    inner: u32,
    outputs: u32,
    table_cols: u32,
}
@group(0) @binding(0) var<storage, read> input: array<u32>;           // [outer, size, inner]
@group(0) @binding(1) var<storage, read> table: array<i32>;           // [outputs, table_cols]
@group(0) @binding(2) var<storage, read_write> output: array<u32>;    // [outer, outputs, inner]
${params} params: Params;

const SHIFTS = vec4<u32>(0u, 8u, 16u, 24u);

fn compute(item: u32) {
    let line = item / params.inner;
    // A row of the table: first pixel, number of pixels, start of the sum, coefficients.
    let row = (line % params.outputs) * params.table_cols;
    let first = min(u32(max(table[row], 0)), params.size);
    let taps = min(min(u32(max(table[row + 1u], 0)), params.size - first), params.table_cols - 3u);
    var sum = vec4<i32>(table[row + 2u]);
    var place = ((line / params.outputs) * params.size + first) * params.inner + item % params.inner;
    for (var tap = 0u; tap < taps; tap++) {
        let pixel = vec4<i32>((vec4<u32>(input[place]) >> SHIFTS) & vec4<u32>(0xffu));
        sum += table[row + 3u + tap] * pixel;
        place += params.inner;
    }
    let bytes = vec4<u32>(clamp(sum >> vec4<u32>(22u), vec4<i32>(0), vec4<i32>(255))) << SHIFTS;
    output[item] = bytes.x | bytes.y | bytes.z | bytes.w;
}

//# include "lib/items.wgsl"
