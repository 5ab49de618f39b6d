// Sum, maximum or product over the last axis. A minimum is the maximum of negatives, a mean a
// scaled sum: `sign` is applied before, `scale` after. A row may be one of `parts` of a longer row.
//# set init = {"sum": "Chunk(0.0)", "max": "input[start + part] * params.sign", "product": "Chunk(1.0)"}[function]
//# set combined = {"sum": "all + one", "max": "max(all, one)", "product": "all * one"}[function]
//# set one = {"itself": "x", "abs": "abs(x)", "square": "x * x"}[before]
//# set finished = {"itself": "result", "sqrt": "sqrt(result)", "log": "log(result)"}[after]

struct Params { rows: u32, rows_per_group: u32, chunks: u32, parts: u32, part_chunks: u32, sign: f32, scale: f32 }
@group(0) @binding(0) var<storage, read> input: array<Chunk>;       // [rows / parts, chunks]
@group(0) @binding(1) var<storage, read_write> output: array<f32>;  // [rows]
${params} params: Params;

fn compute_row(row: u32) {
    let whole = row / params.parts;
    let start = whole * params.chunks;
    let part = (row - whole * params.parts) * params.part_chunks;
    let end = min(part + params.part_chunks, params.chunks);
    var all = ${init};
    for (var i = part + first; i < end; i += stride) {
        let x = input[start + i] * params.sign;
        let one = ${one};
        all = ${combined};
    }
    let result = row_${function}(chunk_${function}(all)) * params.scale;
    if first == 0u { output[row] = ${finished}; }
}

//# include "lib/rows.wgsl"
