// Softmax over the last axis, or its logarithm, in two passes over a row.

struct Params { rows: u32, rows_per_group: u32, chunks: u32 }
@group(0) @binding(0) var<storage, read> input: array<Chunk>;         // [rows, chunks]
@group(0) @binding(1) var<storage, read_write> output: array<Chunk>;  // [rows, chunks]
${params} params: Params;

//# include "lib/online_sum.wgsl"
//# include "lib/write_softmax.wgsl"

fn compute_row(row: u32) {
    let start = row * params.chunks;
    sum_exponentials(start, start + params.chunks);
    let top = row_max(highest);
    let total = row_sum(sum * exp(highest - top));
    write_softmax(start, start + params.chunks, top, total);
}

//# include "lib/rows.wgsl"
