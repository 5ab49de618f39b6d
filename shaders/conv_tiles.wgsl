// Convolution on GPUs, in tiles of output positions by output channels of a group. An invocation
// loads x for the same rows all the time, and walks through the taps by increments. What the next
// step multiplies is on its way to registers while the tiles in workgroup memory are multiplied.
// Several workgroups may each take a part of the inner dimension (`params.part_blocks`); their
// sums are added up afterwards.
const FOLD: u32 = 32768u; // row tiles, and groups with phases and parts, in one dimension of the grid

//# include "lib/conv_operands.wgsl"
//# include "lib/tile.wgsl"
//# include "lib/conv_fetch.wgsl"

//# set block_vectors = 1 if weight_dtype == "f32" else 2
//# set row_count = tile_rows // row_lanes
//# set channel_count = tile_columns * row_lanes // width
//# set x_loads = tile_rows * depth // width
//# set weight_loads = (tile_columns * depth // block_vectors + width - 1) // width

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let layers = part_groups() * params.phases * params.parts;
    for (var first_row = group.y * TILE_ROWS; first_row < params.pads.w; first_row += FOLD * TILE_ROWS) {
        for (var z = group.z; z < layers; z += FOLD) {
            let part = z % params.parts;
            let layer = z / params.parts;
            compute_tile(first_row, layer % params.phases, layer / params.phases, part, group.x, lane);
        }
    }
}

fn put_weight(index: u32, block: WeightBlock) {
    if index >= TILE_COLUMNS * BLOCKS { return; }
    let at = index / BLOCKS * PITCH + index % BLOCKS * BLOCK_VECTORS;
//# for v in range(block_vectors)
    right_tile[at + ${v}u] = unpack_block(block, ${v}u);
//# endfor
}

fn compute_tile(first_row: u32, phase: u32, group_index: u32, part: u32, channel_tile: u32, lane: u32) {
    let walk = begin_walk(phase);
    let group = params.first_channel / params.dilation.w + group_index;
    var channels = group_channels(group);
    channels.x += channel_tile * TILE_COLUMNS;
    let blocks = walk.taps.x * walk.taps.y * walk.taps.z * params.kernel.w;
    let first_block = part * params.part_blocks;
    let end_block = min(first_block + params.part_blocks, blocks);
//# include "lib/tile_sums.wgsl"
    var step = settle(walk, Step(vec3<u32>(), first_block * BLOCK_VECTORS + lane % DEPTH));
//# for l in range(x_loads)
    let place_${l} = place_row(walk, first_row + (lane + ${l}u * WIDTH) / DEPTH, group);
    var run_${l} = run_at(walk, place_${l}, step.tap);
    var x_${l} = load_x(run_${l}, step.vector);
//# endfor
//# for l in range(weight_loads)
    var weight_${l} = fetch_weight(lane + ${l}u * WIDTH, walk, channels, first_block, end_block);
//# endfor
    for (var block = first_block; block < end_block; block += BLOCKS) {
//# for l in range(x_loads)
        left_tile[(lane + ${l}u * WIDTH) / DEPTH * PITCH + lane % DEPTH] = x_${l};
//# endfor
//# for l in range(weight_loads)
        put_weight(lane + ${l}u * WIDTH, weight_${l});
//# endfor
        workgroupBarrier();
        step.vector += DEPTH;
        if step.vector >= params.kernel.w * BLOCK_VECTORS {
            step = settle(walk, step);
//# for l in range(x_loads)
            run_${l} = run_at(walk, place_${l}, step.tap);
//# endfor
        }
//# for l in range(x_loads)
        x_${l} = load_x(run_${l}, step.vector);
//# endfor
//# for l in range(weight_loads)
        weight_${l} = fetch_weight(lane + ${l}u * WIDTH, walk, channels, block + BLOCKS, end_block);
//# endfor
//# include "lib/tile_step.wgsl"
        workgroupBarrier();
    }
//# for r in range(row_count)
//# for c in range(channel_count)
    store_part(part, walk, first_row + tile_row + ${r * row_lanes}u, channels.x + tile_column + ${c}u * COLUMN_LANES, channels.y, sum_${r}_${c});
//# endfor
//# endfor
}
