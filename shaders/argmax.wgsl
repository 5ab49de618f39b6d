// Index of the largest element of each row, the lowest among equals. NaN are passed over.
// A row may be one of `parts` of a longer row; indices count from that one's start.

struct Params { rows: u32, rows_per_group: u32, chunks: u32, parts: u32, part_chunks: u32 }
@group(0) @binding(0) var<storage, read> input: array<Chunk>;       // [rows / parts, chunks]
@group(0) @binding(1) var<storage, read_write> output: array<u32>;  // [rows]
${params} params: Params;

fn compute_row(row: u32) {
    let whole = row / params.parts;
    let start = whole * params.chunks;
    let part = (row - whole * params.parts) * params.part_chunks;
    let end = min(part + params.part_chunks, params.chunks);
    var best = lowest();
    var best_chunk = NONE;
    for (var i = part + first; i < end; i += stride) {
        let highest = chunk_max(input[start + i]);
        if highest > best {
            best = highest;
            best_chunk = i;
        }
    }
    var index = NONE;
    if row_max(best) == best && best_chunk != NONE {
        index = best_chunk * CHUNK + chunk_find(input[start + best_chunk], best);
    }
    index = row_min_index(index);
    if first == 0u { output[row] = select(index, part * CHUNK, index == NONE); }
}

//# include "lib/rows.wgsl"
