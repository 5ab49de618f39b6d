// Convolution with an f16 weight by matrix units, in tiles of output positions by output channels
// of a group: x is rounded to f16, sums are f32. An invocation loads x for the same rows all the
// time, and walks through the taps by increments. What the next step multiplies is on its way to
// registers while the tiles in workgroup memory are multiplied; sums return through workgroup
// memory. Several workgroups may each take a part of the inner dimension (`params.part_blocks`).
enable f16;
${"" if emulated else "enable wgpu_cooperative_matrix;"}
const FOLD: u32 = 32768u; // row tiles, and groups with phases and parts, in one dimension of the grid

//# include "lib/conv_operands.wgsl"
//# include "lib/matrix_tile.wgsl"
//# include "lib/conv_fetch.wgsl"

//# set lanes = subgroup * row_teams * column_teams
//# set x_loads = (tile_rows * depth + lanes - 1) // lanes
//# set weight_loads = (tile_columns * depth + lanes - 1) // lanes
//# set row_count = tile_rows // row_teams // side
//# set column_count = tile_columns // column_teams // side

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) member: u32,
    @builtin(subgroup_id) team: u32,
) {
    let layers = part_groups() * params.phases * params.parts;
    for (var first_row = group.y * TILE_ROWS; first_row < params.pads.w; first_row += FOLD * TILE_ROWS) {
        for (var z = group.z; z < layers; z += FOLD) {
            let part = z % params.parts;
            let layer = z / params.parts;
            compute_tile(first_row, layer % params.phases, layer / params.phases, part, group.x, Lane(lane, member, team));
        }
    }
}

// An invocation in its workgroup and in its subgroup, and the subgroup in the workgroup.
struct Lane { index: u32, member: u32, team: u32 }

// Finishes the outputs of the matrix of sums at `stage[first..]`.
fn store_matrix(part: u32, walk: Walk, first_row: u32, first_channel: u32, end_channel: u32, first: u32, member: u32) {
    for (var i = member; i < MATRIX; i += SUBGROUP) {
        store_part(part, walk, first_row + i / SIDE, first_channel + i % SIDE, end_channel, stage[first + i]);
    }
}

fn compute_tile(first_row: u32, phase: u32, group_index: u32, part: u32, channel_tile: u32, at: Lane) {
    let walk = begin_walk(phase);
    let group = params.first_channel / params.dilation.w + group_index;
    var channels = group_channels(group);
    channels.x += channel_tile * TILE_COLUMNS;
    let blocks = walk.taps.x * walk.taps.y * walk.taps.z * params.kernel.w;
    let first_block = part * params.part_blocks;
    let end_block = min(first_block + params.part_blocks, blocks);
    let lane = at.index;
    let member = at.member;
    let left_first = at.team / COLUMN_TEAMS * TEAM_ROWS * PITCH;
    let right_first = at.team % COLUMN_TEAMS * TEAM_COLUMNS * PITCH;
//# for r in range(row_count)
//# for c in range(column_count)
    var sum_${r}_${c} = Sum();
//# endfor
//# endfor
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
        put_left(lane + ${l}u * WIDTH, vec4<f16>(x_${l}));
//# endfor
//# for l in range(weight_loads)
        put_right(lane + ${l}u * WIDTH, weight_${l});
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
//# include "lib/matrix_step.wgsl"
        workgroupBarrier();
    }
    let team_row = first_row + at.team / COLUMN_TEAMS * TEAM_ROWS;
    let team_channel = channels.x + at.team % COLUMN_TEAMS * TEAM_COLUMNS;
    let stage_at = at.team * MATRIX;
//# for r in range(row_count)
//# for c in range(column_count)
    let whole_${r}_${c} = sum_${r}_${c};
    ${"store_sum(whole_" ~ r ~ "_" ~ c ~ ", stage_at, member)" if emulated else "coopStoreT(whole_" ~ r ~ "_" ~ c ~ ", &stage[stage_at], SIDE)"};
    workgroupBarrier();
    store_matrix(part, walk, team_row + ${r * side}u, team_channel + ${c * side}u, channels.y, stage_at, member);
    workgroupBarrier();
//# endfor
//# endfor
}
