// Batched matrix product on GPUs: 256 invocations compute a tile of outputs from tiles of a and
// of b in workgroup memory, both with four elements of the inner dimension a vector.
const TILE_ROWS: u32 = ${tile_rows}u;
const TILE_COLUMNS: u32 = ${tile_columns}u;
const DEPTH: u32 = 4u;          // vectors along the inner dimension
const PITCH: u32 = DEPTH + 1u;  // odd, so that eight lanes hit all banks
const FOLD: u32 = 32768u;       // batches, and row tiles, in one dimension of the grid

//# include "lib/matmul_operands.wgsl"

var<workgroup> a_tile: array<vec4<f32>, TILE_ROWS * PITCH>;
var<workgroup> b_tile: array<vec4<f32>, TILE_COLUMNS * PITCH>;

// Row and vector of a tile that a lane loads: neighbouring lanes read neighbouring memory.
fn place(index: u32, rows: u32, along_rows: bool) -> vec2<u32> {
    return select(vec2<u32>(index / DEPTH, index % DEPTH), vec2<u32>(index % rows, index / rows), along_rows);
}

fn load_tiles(start: vec2<u32>, first_row: u32, first_column: u32, first_vector: u32, lane: u32) {
    let vectors = (params.k + 3u) / 4u;
    for (var i = lane; i < TILE_ROWS * DEPTH; i += 256u) {
        let at = place(i, TILE_ROWS, params.a_inner != 1u);
        var loaded = vec4<f32>();
        if first_vector + at.y < vectors { loaded = load_a(start.x, first_row + at.x, first_vector + at.y); }
        a_tile[at.x * PITCH + at.y] = loaded;
    }
    for (var i = lane; i < TILE_COLUMNS * DEPTH; i += 256u) {
        let at = place(i, TILE_COLUMNS, params.b_inner != 1u);
        var loaded = vec4<f32>();
        if first_vector + at.y < vectors { loaded = load_b(start.y, first_column + at.x, first_vector + at.y); }
        b_tile[at.x * PITCH + at.y] = loaded;
    }
}

//# set row_count = tile_rows // 16
//# set column_count = tile_columns // 16
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var first_row = group.y * TILE_ROWS; first_row < params.m; first_row += FOLD * TILE_ROWS) {
        for (var batch = group.z; batch < batch_count(); batch += FOLD) {
            compute_tile(batch, first_row, group.x * TILE_COLUMNS, lane);
        }
    }
}

fn compute_tile(batch: u32, first_row: u32, first_column: u32, lane: u32) {
    let start = batch_start(batch);
    let tile_row = lane / 16u;
    let tile_column = lane % 16u;
//# for r in range(row_count)
//# for c in range(column_count)
    var sum_${r}_${c} = 0.0;
//# endfor
//# endfor
    for (var first_vector = 0u; first_vector * 4u < params.k; first_vector += DEPTH) {
        load_tiles(start, first_row, first_column, first_vector, lane);
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
//# for c in range(column_count)
            let b_${c} = b_tile[(tile_column + ${c * 16}u) * PITCH + k];
//# endfor
//# for r in range(row_count)
            let a_${r} = a_tile[(tile_row + ${r * 16}u) * PITCH + k];
//# for c in range(column_count)
            sum_${r}_${c} = add_dot(sum_${r}_${c}, a_${r}, b_${c});
//# endfor
//# endfor
        }
        workgroupBarrier();
    }
//# for r in range(row_count)
//# for c in range(column_count)
    store_output(batch, first_row + tile_row + ${r * 16}u, first_column + tile_column + ${c * 16}u, sum_${r}_${c});
//# endfor
//# endfor
}
