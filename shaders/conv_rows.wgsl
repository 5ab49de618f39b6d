// Convolution in registers, without workgroup memory: an invocation owns BLOCK_ROWS output
// positions by LANE_CHANNELS output channels. For software adapters, where loads bound the time:
// eight lanes load eight different rows of x for all of them, where subgroups have eight; and for
// groups of few channels on every device: each lane loads x for the group of its own channels.
const BLOCK_ROWS: u32 = ${block_rows}u;
const WIDTH: u32 = ${width}u;
const LANE_CHANNELS: u32 = ${lane_channels}u;
const FOLD: u32 = 32768u; // row blocks, and groups with phases, in one dimension of the grid

//# include "lib/conv_operands.wgsl"

//# set block_vectors = 1 if weight_dtype == "f32" else 2
//# set places = block_rows // 8 if share_x else block_rows
@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let phases = phase_count();
    let groups = ${"1u" if own_group else "part_groups()"};
    for (var first_row = group.y * BLOCK_ROWS; first_row < params.pads.w; first_row += FOLD * BLOCK_ROWS) {
        for (var z = group.z; z < groups * phases; z += FOLD) { compute_block(first_row, z % phases, z / phases, group.x, lane); }
    }
}

fn compute_block(first_row: u32, phase: u32, group_index: u32, channel_block: u32, lane: u32) {
    let walk = begin_walk(phase);
    let own = (channel_block * WIDTH + lane) * LANE_CHANNELS;
//# if own_group
    let channel = params.first_channel + own;
    let end = params.end_channel;
    let group = min(channel, end - 1u) / params.dilation.w;
//# else
    let group = params.first_channel / params.dilation.w + group_index;
    let channels = group_channels(group);
    let channel = channels.x + own;
    let end = channels.y;
//# endif
//# for c in range(lane_channels)
    let weight_${c} = weight_row(walk, channel + ${c}u, end);
//# endfor
//# for p in range(places)
    let place_${p} = place_row(walk, first_row + ${"lane + " ~ p * 8 if share_x else p}u, group);
//# endfor
//# for r in range(block_rows)
//# for c in range(lane_channels)
    var sum_${r}_${c} = 0.0;
//# endfor
//# endfor
    var run_block = 0u; // of a row of the weight, from its first
    for (var depth = 0u; depth < walk.taps.x; depth++) {
        for (var height = 0u; height < walk.taps.y; height++) {
            for (var width = 0u; width < walk.taps.z; width++) {
//# for p in range(places)
                let run_${p} = run_of(walk, place_${p}, vec3<u32>(depth, height, width));
//# endfor
                for (var block = 0u; block < params.kernel.w; block++) {
//# for c in range(lane_channels)
                    let block_${c} = weight[weight_${c} + run_block + block];
//# endfor
//# for v in range(block_vectors)
//# for p in range(places)
                    let rows_${v}_${p} = load_x(run_${p}, block * BLOCK_VECTORS + ${v}u);
//# endfor
//# for c in range(lane_channels)
                    let w_${v}_${c} = unpack_block(block_${c}, ${v}u);
//# endfor
//# for r in range(block_rows)
                    let x_${v}_${r} = ${"subgroupBroadcast(rows_" ~ v ~ "_" ~ r // 8 ~ ", " ~ r % 8 ~ "u)" if share_x else "rows_" ~ v ~ "_" ~ r};
//# for c in range(lane_channels)
                    sum_${r}_${c} = add_dot(sum_${r}_${c}, x_${v}_${r}, w_${v}_${c});
//# endfor
//# endfor
//# endfor
                }
                run_block += params.kernel.w;
            }
        }
    }
    // A loop of unknown length: unrolled, the stores would take most of the time to compile.
    let end_row = min(first_row + BLOCK_ROWS, params.pads.w);
    for (var row = first_row; row < end_row; row++) {
        var sums = ${"vec4<f32>(sum_0_0, sum_0_1, sum_0_2, sum_0_3)" if lane_channels == 4 else "sum_0_0"};
//# for r in range(1, block_rows)
        if row == first_row + ${r}u { sums = ${"vec4<f32>(sum_" ~ r ~ "_0, sum_" ~ r ~ "_1, sum_" ~ r ~ "_2, sum_" ~ r ~ "_3)" if lane_channels == 4 else "sum_" ~ r ~ "_0"}; }
//# endfor
//# for c in range(0, lane_channels, 1 if value == "f32" else 4)
        store_output(walk, row, channel + ${c}u, end, ${"sums[" ~ c ~ "]" if value == "f32" and lane_channels == 4 else "sums"});
//# endfor
    }
}
