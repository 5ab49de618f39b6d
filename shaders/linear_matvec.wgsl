// Linear layer for 1 to BATCH rows on GPUs: the weight is streamed once for all of them. Lanes
// split the inner dimension; a team makes two weight rows (gated: one of each half) at a time. A
// team is a subgroup, or the workgroup (`form` "workgroup", or "plain" without subgroups).
// Several loads of each weight row are on their way at a time.
const BATCH: u32 = ${batch}u;
const WIDTH: u32 = ${width}u;
const TEAM_ROUNDS: u32 = ${rounds}u; // pairs of weight rows of a workgroup, shared out to its teams
const FOLD: u32 = 32768u;            // workgroups in one dimension of the grid

//# include "lib/linear_operands.wgsl"
//# include "lib/input_norm.wgsl"

//# set block_vectors = 1 if weight_dtype == "f32" else 2
//# set stored = 1 if gated else 2
//# if form != "subgroup"
// Sums of each lane, or of each subgroup, of which none has fewer than four lanes.
const PARTIALS: u32 = ${"WIDTH" if form == "plain" else "WIDTH / 4u"};
var<workgroup> partial: array<f32, ${batch * (3 if norm else 2)}u * (PARTIALS + 1u)>;

fn total(index: u32, count: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < count; i++) { sum += partial[index * (PARTIALS + 1u) + i]; }
    return sum;
}
//# endif

// A lane among those of its team, and where a workgroup is a team: the place of its sums among
// `count`, and whether it is the one that puts them there.
struct Lane { index: u32, lanes: u32, place: u32, count: u32, puts: bool }

// Computes a pair of weight rows in a part of the inner dimension.
fn compute_pair(first_column: u32, part: u32, lane: Lane) {
//# for c in range(2)
    let weight_${c} = weight_row(first_column + ${c % stored}u, params.${"up_first" if c >= stored else "weight_first"});
//# endfor
//# for b in range(batch)
    let row_${b} = min(${b}u, params.rows - 1u);
    var sum_${b}_0 = 0.0;
    var sum_${b}_1 = 0.0;
//# endfor
//# for b in range(batch if norm else 0)
    squares[${b}] = 0.0;
//# endfor
    let end_block = min((part + 1u) * params.part_blocks, params.blocks);
    var block = part * params.part_blocks + lane.index;
//# for together in ([unroll, 1] if unroll > 1 else [1])
    for (; block + ${together - 1}u * lane.lanes < end_block; block += ${together}u * lane.lanes) {
//# for u in range(together)
        let block_${u}_0 = weight[weight_0 + block + ${u}u * lane.lanes];
        let block_${u}_1 = ${"up_weight" if gated else "weight"}[weight_1 + block + ${u}u * lane.lanes];
//# endfor
//# for u in range(together)
//# for v in range(block_vectors)
        let w_${u}_${v}_0 = unpack_block(block_${u}_0, ${v}u);
        let w_${u}_${v}_1 = unpack_block(block_${u}_1, ${v}u);
//# for b in range(batch)
        let x_${u}_${v}_${b} = take_x(${b}u, row_${b}, (block + ${u}u * lane.lanes) * BLOCK_VECTORS + ${v}u);
        sum_${b}_0 = add_dot(sum_${b}_0, x_${u}_${v}_${b}, w_${u}_${v}_0);
        sum_${b}_1 = add_dot(sum_${b}_1, x_${u}_${v}_${b}, w_${u}_${v}_1);
//# endfor
//# endfor
//# endfor
    }
//# endfor
//# for b in range(batch)
    let total_${b}_0 = ${"sum_" ~ b ~ "_0" if form == "plain" else "subgroupAdd(sum_" ~ b ~ "_0)"};
    let total_${b}_1 = ${"sum_" ~ b ~ "_1" if form == "plain" else "subgroupAdd(sum_" ~ b ~ "_1)"};
//# endfor
//# for b in range(batch if norm else 0)
    let square_${b} = ${"squares[" ~ b ~ "]" if form == "plain" else "subgroupAdd(squares[" ~ b ~ "])"};
//# endfor
//# if form == "subgroup"
    if lane.puts {
//# for b in range(batch)
        let scale_${b} = ${"norm_scale(square_" ~ b ~ ")" if norm else "1.0"};
//# for c in range(stored)
        store_part(part, ${b}u, first_column + ${c}u, scale_${b} * total_${b}_${c}, scale_${b} * total_${b}_1);
//# endfor
//# endfor
    }
//# else
    if lane.puts {
//# for b in range(batch)
        partial[${b * 2}u * (PARTIALS + 1u) + lane.place] = total_${b}_0;
        partial[${b * 2 + 1}u * (PARTIALS + 1u) + lane.place] = total_${b}_1;
//# endfor
//# for b in range(batch if norm else 0)
        partial[${batch * 2 + b}u * (PARTIALS + 1u) + lane.place] = square_${b};
//# endfor
    }
    workgroupBarrier();
    if lane.index < ${batch * stored}u {
        let row = lane.index / ${stored}u;
        let c = lane.index % ${stored}u;
        let scale = ${"norm_scale(total(" ~ batch * 2 ~ "u + row, lane.count))" if norm else "1.0"};
        let sums = scale * vec2<f32>(total(row * 2u + c, lane.count), total(row * 2u + 1u, lane.count));
        store_part(part, row, first_column + c, sums.x, sums.y);
    }
    workgroupBarrier();
//# endif
}

//# set rows_per_group = rounds * stored
//# set subgroup_builtins = "@builtin(subgroup_invocation_id) member: u32, @builtin(subgroup_size) members: u32, @builtin(subgroup_id) team: u32, @builtin(num_subgroups) teams: u32,"
@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    ${"" if form == "plain" else subgroup_builtins}
) {
    let first_column = (group.y * FOLD + group.x) * ${rows_per_group}u;
//# if form == "plain"
    let lane = Lane(index, WIDTH, index, WIDTH, true);
//# elif form == "workgroup"
    let lane = Lane(index, WIDTH, team, teams, member == 0u);
//# else
    let lane = Lane(member, members, 0u, 1u, member == 0u);
//# endif
    for (var round = ${"team" if form == "subgroup" else "0u"}; round < TEAM_ROUNDS; round += ${"teams" if form == "subgroup" else "1u"}) {
        compute_pair(first_column + round * ${stored}u, group.z, lane);
    }
}
