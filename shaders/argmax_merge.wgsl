// Index of the largest element of each row, from one candidate of each part of the row, in order.

struct Params { rows: u32, rows_per_group: u32, parts: u32, cols: u32 }
@group(0) @binding(0) var<storage, read> input: array<f32>;          // [rows, cols]
@group(0) @binding(1) var<storage, read> candidates: array<u32>;     // [rows, parts]
@group(0) @binding(2) var<storage, read_write> output: array<u32>;   // [rows]
${params} params: Params;

fn compute_row(row: u32) {
    var best = lowest();
    var index = NONE;
    for (var i = first; i < params.parts; i += stride) {
        let candidate = candidates[row * params.parts + i];
        let value = input[row * params.cols + candidate];
        if value > best {
            best = value;
            index = candidate;
        }
    }
    index = row_min_index(select(NONE, index, row_max(best) == best));
    if first == 0u { output[row] = select(index, 0u, index == NONE); }
}

//# include "lib/rows.wgsl"
