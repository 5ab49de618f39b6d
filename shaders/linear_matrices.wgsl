// Linear layer with an f16 weight for many rows by matrix units, in tiles of outputs: x is rounded
// to f16, sums are f32. What the next step multiplies is on its way to registers while the tiles
// in workgroup memory are multiplied; sums return through workgroup memory. Several workgroups may
// each take a part of the inner dimension (`params.part_blocks`).
enable f16;
${"" if emulated else "enable wgpu_cooperative_matrix;"}
const FOLD: u32 = 32768u; // row tiles in one dimension of the grid

//# include "lib/linear_operands.wgsl"
//# include "lib/matrix_tile.wgsl"

//# set lanes = subgroup * row_teams * column_teams
//# set x_loads = (tile_rows * depth + lanes - 1) // lanes
//# set weight_loads = (tile_columns * depth + lanes - 1) // lanes
//# set column_count = tile_columns // column_teams // side
//# set stored = column_count // 2 if gated else column_count
const SPAN: u32 = TEAM_COLUMNS;
const STORED: u32 = ${stored}u * SIDE; // outputs in a row of a subgroup

//# include "lib/linear_fetch.wgsl"

// Finishes the outputs of the matrix of sums at `stage[first..]`; gated: those of up follow.
fn store_matrix(part: u32, first_row: u32, first_column: u32, first: u32, member: u32) {
    for (var i = member; i < MATRIX; i += SUBGROUP) {
        store_part(part, first_row + i / SIDE, first_column + i % SIDE, stage[first + i], stage[first + ${"MATRIX + " if gated else ""}i]);
    }
}

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) member: u32,
    @builtin(subgroup_id) team: u32,
) {
    let part = group.z % part_count();
    let first_row = (group.z / part_count() * FOLD + group.y) * TILE_ROWS;
    let first_column = group.x * STORED * COLUMN_TEAMS;
    let first_block = part * params.part_blocks;
    let end_block = min(first_block + params.part_blocks, params.blocks);
    let left_first = team / COLUMN_TEAMS * TEAM_ROWS * PITCH;
    let right_first = team % COLUMN_TEAMS * TEAM_COLUMNS * PITCH;
//# for r in range(tile_rows // row_teams // side)
//# for c in range(column_count)
    var sum_${r}_${c} = Sum();
//# endfor
//# endfor
//# for l in range(x_loads)
    var x_${l} = fetch_x(lane + ${l}u * WIDTH, first_row, first_block, end_block);
//# endfor
//# for l in range(weight_loads)
    var weight_${l} = fetch_weight(lane + ${l}u * WIDTH, first_column, first_block, end_block);
//# endfor
    for (var block = first_block; block < end_block; block += BLOCKS) {
//# for l in range(x_loads)
        put_left(lane + ${l}u * WIDTH, vec4<f16>(x_${l}));
//# endfor
//# for l in range(weight_loads)
        put_right(lane + ${l}u * WIDTH, weight_${l});
//# endfor
        workgroupBarrier();
//# for l in range(x_loads)
        x_${l} = fetch_x(lane + ${l}u * WIDTH, first_row, block + BLOCKS, end_block);
//# endfor
//# for l in range(weight_loads)
        weight_${l} = fetch_weight(lane + ${l}u * WIDTH, first_column, block + BLOCKS, end_block);
//# endfor
//# include "lib/matrix_step.wgsl"
        workgroupBarrier();
    }
    let team_row = first_row + team / COLUMN_TEAMS * TEAM_ROWS;
    let team_column = first_column + team % COLUMN_TEAMS * STORED;
    let stage_at = team * ${2 if gated else 1}u * MATRIX;
    let stage_up = stage_at + MATRIX;
//# for r in range(tile_rows // row_teams // side)
//# for c in range(stored)
    let whole_${r}_${c} = sum_${r}_${c};
    ${"store_sum(whole_" ~ r ~ "_" ~ c ~ ", stage_at, member)" if emulated else "coopStoreT(whole_" ~ r ~ "_" ~ c ~ ", &stage[stage_at], SIDE)"};
//# if gated
    let up_${r}_${c} = sum_${r}_${c + stored};
    ${"store_sum(up_" ~ r ~ "_" ~ c ~ ", stage_up, member)" if emulated else "coopStoreT(up_" ~ r ~ "_" ~ c ~ ", &stage[stage_up], SIDE)"};
//# endif
    workgroupBarrier();
    store_matrix(part, team_row + ${r * side}u, team_column + ${c * side}u, stage_at, member);
    workgroupBarrier();
//# endfor
//# endfor
}
