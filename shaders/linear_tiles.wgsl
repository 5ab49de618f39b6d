// Linear layer for many rows on GPUs, in tiles of outputs. What the next step multiplies is on
// its way to registers while the tiles in workgroup memory are multiplied. Gated: one half of the
// tile's weight rows are the gate's, the other half up's. Several workgroups may each take a part
// of the inner dimension (`params.part_blocks`); their sums are added up afterwards.
const FOLD: u32 = 32768u; // row tiles in one dimension of the grid

//# include "lib/linear_operands.wgsl"
//# include "lib/tile.wgsl"

//# set block_vectors = 1 if weight_dtype == "f32" else 2
//# set x_loads = (tile_rows * depth + width - 1) // width
//# set weight_loads = (tile_columns * depth // block_vectors + width - 1) // width
//# set row_count = tile_rows // row_lanes
//# set column_count = tile_columns * row_lanes // width
//# set stored = column_count // 2 if gated else column_count
const SPAN: u32 = TILE_COLUMNS;
const STORED: u32 = ${stored}u * COLUMN_LANES; // outputs in a row of the tile

//# include "lib/linear_fetch.wgsl"

fn put_x(index: u32, vector: vec4<f32>) {
    if index < TILE_ROWS * DEPTH { left_tile[index / DEPTH * PITCH + index % DEPTH] = vector; }
}

fn put_weight(index: u32, block: WeightBlock) {
    if index >= TILE_COLUMNS * BLOCKS { return; }
    let at = index / BLOCKS * PITCH + index % BLOCKS * BLOCK_VECTORS;
//# for v in range(block_vectors)
    right_tile[at + ${v}u] = unpack_block(block, ${v}u);
//# endfor
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let part = group.z % part_count();
    let first_row = (group.z / part_count() * FOLD + group.y) * TILE_ROWS;
    let first_column = group.x * STORED;
    let first_block = part * params.part_blocks;
    let end_block = min(first_block + params.part_blocks, params.blocks);
//# include "lib/tile_sums.wgsl"
//# for l in range(x_loads)
    var x_${l} = fetch_x(lane + ${l}u * WIDTH, first_row, first_block, end_block);
//# endfor
//# for l in range(weight_loads)
    var weight_${l} = fetch_weight(lane + ${l}u * WIDTH, first_column, first_block, end_block);
//# endfor
    for (var block = first_block; block < end_block; block += BLOCKS) {
//# for l in range(x_loads)
        put_x(lane + ${l}u * WIDTH, x_${l});
//# endfor
//# for l in range(weight_loads)
        put_weight(lane + ${l}u * WIDTH, weight_${l});
//# endfor
        workgroupBarrier();
//# for l in range(x_loads)
        x_${l} = fetch_x(lane + ${l}u * WIDTH, first_row, block + BLOCKS, end_block);
//# endfor
//# for l in range(weight_loads)
        weight_${l} = fetch_weight(lane + ${l}u * WIDTH, first_column, block + BLOCKS, end_block);
//# endfor
//# include "lib/tile_step.wgsl"
        workgroupBarrier();
    }
//# for r in range(row_count)
//# for c in range(stored)
    store_part(part, first_row + tile_row + ${r * row_lanes}u, first_column + tile_column + ${c}u * COLUMN_LANES, sum_${r}_${c}, sum_${r}_${(c + stored) % column_count});
//# endfor
//# endfor
}
