// Batched matrix product on GPUs, in tiles of outputs. What the next step multiplies is on its way
// to registers while the tiles in workgroup memory are multiplied. Several workgroups may each take
// a part of the inner dimension (`params.part_vectors`); their sums are added up afterwards.
const FOLD: u32 = 32768u; // batches with parts, and row tiles, in one dimension of the grid

//# include "lib/matmul_operands.wgsl"
//# include "lib/tile.wgsl"

//# set row_count = tile_rows // row_lanes
//# set column_count = tile_columns * row_lanes // width
//# set a_loads = (tile_rows * depth + width - 1) // width
//# set b_loads = (tile_columns * depth + width - 1) // width

// Row and vector of a tile that a lane loads: neighbouring lanes read neighbouring memory.
fn place(index: u32, rows: u32, along_rows: bool) -> vec2<u32> {
    return select(vec2<u32>(index / DEPTH, index % DEPTH), vec2<u32>(index % rows, index / rows), along_rows);
}

// Vector `index` of the tile of a that starts at a row and a vector; zeros from the end on.
fn fetch_a(index: u32, start: u32, first_row: u32, first_vector: u32, end_vector: u32) -> vec4<f32> {
    let at = place(index, TILE_ROWS, params.a_inner != 1u);
    if first_vector + at.y >= end_vector { return vec4<f32>(); }
    return load_a(start, first_row + at.x, first_vector + at.y);
}

// The same of b.
fn fetch_b(index: u32, start: u32, first_column: u32, first_vector: u32, end_vector: u32) -> vec4<f32> {
    let at = place(index, TILE_COLUMNS, params.b_inner != 1u);
    if first_vector + at.y >= end_vector { return vec4<f32>(); }
    return load_b(start, first_column + at.x, first_vector + at.y);
}

fn put_a(index: u32, vector: vec4<f32>) {
    let at = place(index, TILE_ROWS, params.a_inner != 1u);
    if index < TILE_ROWS * DEPTH { left_tile[at.x * PITCH + at.y] = vector; }
}

fn put_b(index: u32, vector: vec4<f32>) {
    let at = place(index, TILE_COLUMNS, params.b_inner != 1u);
    if index < TILE_COLUMNS * DEPTH { right_tile[at.x * PITCH + at.y] = vector; }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var first_row = group.y * TILE_ROWS; first_row < params.m; first_row += FOLD * TILE_ROWS) {
        for (var z = group.z; z < params.batches * params.parts; z += FOLD) {
            compute_tile(z / params.parts, z % params.parts, first_row, group.x * TILE_COLUMNS, lane);
        }
    }
}

fn compute_tile(batch: u32, part: u32, first_row: u32, first_column: u32, lane: u32) {
    let start = batch_start(batch);
    let first_vector = part * params.part_vectors;
    let end_vector = min(first_vector + params.part_vectors, params.vectors);
//# include "lib/tile_sums.wgsl"
//# for l in range(a_loads)
    var a_${l} = fetch_a(lane + ${l}u * WIDTH, start.x, first_row, first_vector, end_vector);
//# endfor
//# for l in range(b_loads)
    var b_${l} = fetch_b(lane + ${l}u * WIDTH, start.y, first_column, first_vector, end_vector);
//# endfor
    for (var vector = first_vector; vector < end_vector; vector += DEPTH) {
//# for l in range(a_loads)
        put_a(lane + ${l}u * WIDTH, a_${l});
//# endfor
//# for l in range(b_loads)
        put_b(lane + ${l}u * WIDTH, b_${l});
//# endfor
        workgroupBarrier();
//# for l in range(a_loads)
        a_${l} = fetch_a(lane + ${l}u * WIDTH, start.x, first_row, vector + DEPTH, end_vector);
//# endfor
//# for l in range(b_loads)
        b_${l} = fetch_b(lane + ${l}u * WIDTH, start.y, first_column, vector + DEPTH, end_vector);
//# endfor
//# include "lib/tile_step.wgsl"
        workgroupBarrier();
    }
//# for r in range(row_count)
//# for c in range(column_count)
    store_part(part, batch, first_row + tile_row + ${r * row_lanes}u, first_column + tile_column + ${c}u * COLUMN_LANES, sum_${r}_${c});
//# endfor
//# endfor
}
