// Maximum and sum of exponentials of parts of long rows. A row here is one of the `parts` of one.

struct Params { rows: u32, rows_per_group: u32, chunks: u32, parts: u32, part_chunks: u32 }
@group(0) @binding(0) var<storage, read> input: array<Chunk>;              // [rows / parts, chunks]
@group(0) @binding(1) var<storage, read_write> of_parts: array<vec2<f32>>;  // maximum, sum [rows]
${params} params: Params;

//# include "lib/online_sum.wgsl"

fn compute_row(row: u32) {
    let whole = row / params.parts;
    let part = (row - whole * params.parts) * params.part_chunks;
    let start = whole * params.chunks;
    sum_exponentials(start + part, start + min(part + params.part_chunks, params.chunks));
    let top = row_max(highest);
    let total = row_sum(sum * exp(highest - top));
    if first == 0u { of_parts[row] = vec2<f32>(top, total); }
}

//# include "lib/rows.wgsl"
