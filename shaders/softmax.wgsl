// Softmax over the last axis, or its logarithm.

struct Params { rows: u32, rows_per_group: u32, chunks: u32 }
@group(0) @binding(0) var<storage, read> input: array<Chunk>;         // [rows, chunks]
@group(0) @binding(1) var<storage, read_write> output: array<Chunk>;  // [rows, chunks]
${params} params: Params;

fn compute_row(row: u32) {
    let start = row * params.chunks;
    var highest = chunk_max(input[start]);
    for (var i = first; i < params.chunks; i += stride) { highest = max(highest, chunk_max(input[start + i])); }
    let top = row_max(highest);
    var sum = 0.0;
    for (var i = first; i < params.chunks; i += stride) { sum += chunk_sum(exp(input[start + i] - top)); }
    let total = row_sum(sum);
    //# if logarithm
    let shift = top + log(total);
    for (var i = first; i < params.chunks; i += stride) { output[start + i] = input[start + i] - shift; }
    //# else
    let scale = 1.0 / total;
    for (var i = first; i < params.chunks; i += stride) { output[start + i] = exp(input[start + i] - top) * scale; }
    //# endif
}

//# include "lib/rows.wgsl"
