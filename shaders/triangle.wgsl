// Keeps one triangle of each matrix; the rest is zero. An item is one element.
struct Params { items: u32, per_group: u32, rows: u32, cols: u32, diagonal: i32, upper: u32 }
@group(0) @binding(0) var<storage, read> input: array<u32>;         // [matrices, rows, cols]
@group(0) @binding(1) var<storage, read_write> output: array<u32>;  // [matrices, rows, cols]
${params} params: Params;

fn compute(item: u32) {
    let rows = item / params.cols;
    let distance = i32(item - rows * params.cols) - i32(rows % params.rows) - params.diagonal;
    output[item] = select(0u, input[item], select(distance <= 0, distance >= 0, params.upper == 1u));
}

//# include "lib/items.wgsl"
