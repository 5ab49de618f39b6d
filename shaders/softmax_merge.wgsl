// Softmax of long rows, or its logarithm, by the maxima and sums of their parts. A row here is one
// of the `parts` of one.

struct Params { rows: u32, rows_per_group: u32, chunks: u32, parts: u32, part_chunks: u32 }
@group(0) @binding(0) var<storage, read> input: array<Chunk>;         // [rows / parts, chunks]
@group(0) @binding(1) var<storage, read> of_parts: array<vec2<f32>>;   // maximum, sum [rows]
@group(0) @binding(2) var<storage, read_write> output: array<Chunk>;  // [rows / parts, chunks]
${params} params: Params;

//# include "lib/write_softmax.wgsl"

fn compute_row(row: u32) {
    let whole = row / params.parts;
    let partials = whole * params.parts;
    var highest = of_parts[partials].x;
    for (var i = first; i < params.parts; i += stride) { highest = max(highest, of_parts[partials + i].x); }
    let top = row_max(highest);
    var sum = 0.0;
    for (var i = first; i < params.parts; i += stride) {
        sum += of_parts[partials + i].y * exp(of_parts[partials + i].x - top);
    }
    let total = row_sum(sum);
    let part = (row - partials) * params.part_chunks;
    let start = whole * params.chunks;
    write_softmax(start + part, start + min(part + params.part_chunks, params.chunks), top, total);
}

//# include "lib/rows.wgsl"
