// Linear layer for many rows on GPUs: 256 invocations compute a tile of outputs from tiles of x
// and of the weight in workgroup memory, both with four elements of the inner dimension a
// vector. Gated: one half of the tile's weight rows are the gate's, the other half up's.
const TILE_ROWS: u32 = ${tile_rows}u;
const TILE_WEIGHTS: u32 = ${tile_weights}u; // weight rows
const DEPTH: u32 = ${depth}u;               // vectors along the inner dimension
const PITCH: u32 = DEPTH + 1u;              // odd, so that eight lanes hit all banks
const FOLD: u32 = 32768u;                   // row tiles in one dimension of the grid

//# include "lib/linear_operands.wgsl"

//# set block_vectors = 1 if weight_dtype == "f32" else 2
var<workgroup> x_tile: array<vec4<f32>, TILE_ROWS * PITCH>;
var<workgroup> weight_tile: array<vec4<f32>, TILE_WEIGHTS * PITCH>;

//# set row_count = tile_rows // 16
//# set column_count = tile_weights // 16
//# set stored = column_count // 2 if gated else column_count
fn load_block(tile_row: u32, first_column: u32, block: u32) -> WeightBlock {
//# if gated
    if tile_row >= ${stored * 16}u {
        return up_weight[weight_row(first_column + tile_row - ${stored * 16}u, params.up_first) + block];
    }
//# endif
    return weight[weight_row(first_column + tile_row, params.weight_first) + block];
}

fn load_tiles(first_row: u32, first_column: u32, first_vector: u32, lane: u32) {
    let vectors = params.blocks * BLOCK_VECTORS;
    for (var i = lane; i < TILE_ROWS * DEPTH; i += 256u) {
        let vector = first_vector + i % DEPTH;
        var loaded = vec4<f32>();
        if vector < vectors { loaded = load_x(min(first_row + i / DEPTH, params.rows - 1u), vector); }
        x_tile[i / DEPTH * PITCH + i % DEPTH] = loaded;
    }
    const BLOCKS = DEPTH / BLOCK_VECTORS;
    for (var i = lane; i < TILE_WEIGHTS * BLOCKS; i += 256u) {
        let block = first_vector / BLOCK_VECTORS + i % BLOCKS;
        var loaded = WeightBlock();
        if block < params.blocks { loaded = load_block(i / BLOCKS, first_column, block); }
        let at = i / BLOCKS * PITCH + i % BLOCKS * BLOCK_VECTORS;
//# for v in range(block_vectors)
        weight_tile[at + ${v}u] = unpack_block(loaded, ${v}u);
//# endfor
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = (group.z * FOLD + group.y) * TILE_ROWS;
    let first_column = group.x * ${stored * 16}u;
    let tile_row = lane / 16u;
    let tile_column = lane % 16u;
//# for r in range(row_count)
//# for c in range(column_count)
    var sum_${r}_${c} = 0.0;
//# endfor
//# endfor
    for (var first_vector = 0u; first_vector < params.blocks * BLOCK_VECTORS; first_vector += DEPTH) {
        load_tiles(first_row, first_column, first_vector, lane);
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
//# for c in range(column_count)
            let w_${c} = weight_tile[(tile_column + ${c * 16}u) * PITCH + k];
//# endfor
//# for r in range(row_count)
            let x_${r} = x_tile[(tile_row + ${r * 16}u) * PITCH + k];
//# for c in range(column_count)
            sum_${r}_${c} = add_dot(sum_${r}_${c}, x_${r}, w_${c});
//# endfor
//# endfor
        }
        workgroupBarrier();
    }
//# for r in range(row_count)
//# for c in range(stored)
    store_output(first_row + tile_row + ${r * 16}u, first_column + tile_column + ${c * 16}u, sum_${r}_${c}, sum_${r}_${(c + stored) % column_count});
//# endfor
//# endfor
}
