// Linear layer for 1 to BATCH rows on GPUs: the weight is streamed once for all of them. Lanes
// split the inner dimension; a team (a subgroup, or the workgroup where there are none) makes
// two weight rows (gated: one of each half) at a time.
const BATCH: u32 = ${batch}u;
const WIDTH: u32 = ${width}u;
const TEAM_ROUNDS: u32 = ${rounds}u; // pairs of weight rows of a workgroup, shared out to its teams
const FOLD: u32 = 32768u;            // workgroups in one dimension of the grid

//# set normed_rows = batch
//# include "lib/linear_operands.wgsl"
//# include "lib/input_norm.wgsl"

//# set block_vectors = 1 if weight_dtype == "f32" else 2
//# set stored = 1 if gated else 2
//# if form == "plain"
var<workgroup> partial: array<f32, ${batch * (3 if norm else 2)}u * (WIDTH + 1u)>;

fn total(index: u32) -> f32 {
    var sum = 0.0;
    for (var lane = 0u; lane < WIDTH; lane++) { sum += partial[index * (WIDTH + 1u) + lane]; }
    return sum;
}
//# endif

// Computes a pair of weight rows by lanes `lane` of `lanes`.
fn compute_pair(first_column: u32, lane: u32, lanes: u32) {
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
    for (var block = lane; block < params.blocks; block += lanes) {
        let block_0 = weight[weight_0 + block];
        let block_1 = ${"up_weight" if gated else "weight"}[weight_1 + block];
//# for v in range(block_vectors)
        let w_${v}_0 = unpack_block(block_0, ${v}u);
        let w_${v}_1 = unpack_block(block_1, ${v}u);
//# for b in range(batch)
        let x_${v}_${b} = take_x(${b}u, row_${b}, block * BLOCK_VECTORS + ${v}u);
        sum_${b}_0 = add_dot(sum_${b}_0, x_${v}_${b}, w_${v}_0);
        sum_${b}_1 = add_dot(sum_${b}_1, x_${v}_${b}, w_${v}_1);
//# endfor
//# endfor
    }
//# if form == "plain"
//# for b in range(batch)
    partial[${b * 2}u * (WIDTH + 1u) + lane] = sum_${b}_0;
    partial[${b * 2 + 1}u * (WIDTH + 1u) + lane] = sum_${b}_1;
//# endfor
//# for b in range(batch if norm else 0)
    partial[${batch * 2 + b}u * (WIDTH + 1u) + lane] = squares[${b}];
//# endfor
    workgroupBarrier();
    if lane < ${batch * stored}u {
        let row = lane / ${stored}u;
        let c = lane % ${stored}u;
        let scale = ${"norm_scale(total(" ~ batch * 2 ~ "u + row))" if norm else "1.0"};
        store_output(row, first_column + c, scale * total(row * 2u + c), scale * total(row * 2u + 1u));
    }
    workgroupBarrier();
//# else
//# for b in range(batch)
    let scale_${b} = ${"norm_scale(subgroupAdd(squares[" ~ b ~ "]))" if norm else "1.0"};
    let total_${b}_0 = scale_${b} * subgroupAdd(sum_${b}_0);
    let total_${b}_1 = scale_${b} * subgroupAdd(sum_${b}_1);
//# endfor
    if lane == 0u {
//# for b in range(batch)
//# for c in range(stored)
        store_output(${b}u, first_column + ${c}u, total_${b}_${c}, total_${b}_1);
//# endfor
//# endfor
    }
//# endif
}

//# set rows_per_group = rounds * stored
@compute @workgroup_size(WIDTH)
//# if form == "plain"
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_column = (group.y * FOLD + group.x) * ${rows_per_group}u;
    for (var round = 0u; round < TEAM_ROUNDS; round++) { compute_pair(first_column + round * ${stored}u, lane, WIDTH); }
}
//# else
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
    @builtin(subgroup_id) team: u32,
    @builtin(num_subgroups) teams: u32,
) {
    let first_column = (group.y * FOLD + group.x) * ${rows_per_group}u;
    for (var round = team; round < TEAM_ROUNDS; round += teams) { compute_pair(first_column + round * ${stored}u, lane, lanes); }
}
//# endif
