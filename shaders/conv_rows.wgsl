// Convolution in registers, without workgroup memory: an invocation owns BLOCK_ROWS output
// positions by LANE_CHANNELS output channels. For software adapters, where loads bound the time:
// eight lanes load eight different rows of x for all of them, where subgroups have eight, and the
// weight comes in panels of the channels of a workgroup; and for groups of few channels on every
// device: each lane loads x for the group of its own channels.
const BLOCK_ROWS: u32 = ${block_rows}u;
const WIDTH: u32 = ${width}u;
const LANE_CHANNELS: u32 = ${lane_channels}u;
const PANEL: u32 = WIDTH * LANE_CHANNELS;

//# include "lib/conv_operands.wgsl"

//# set block_vectors = 1 if weight_dtype == "f32" else 2
//# set places = block_rows // 8 if share_x else block_rows
//# set stored_rows = 4
@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let phases = phase_count();
    for (var first_row = group.y * BLOCK_ROWS; first_row < params.pads.w; first_row += grid.y * BLOCK_ROWS) {
        for (var phase = group.z; phase < phases; phase += grid.z) {
//# if own_group
            compute_block(first_row, phase, group.x, lane);
//# else
            for (var panel = group.x; panel < params.end_channel - params.first_channel; panel += grid.x) { compute_block(first_row, phase, panel, lane); }
//# endif
        }
    }
}

fn compute_block(first_row: u32, phase: u32, panel: u32, lane: u32) {
    let walk = begin_walk(phase);
//# if own_group
    let channel = params.first_channel + panel * PANEL + lane * LANE_CHANNELS;
    let end = params.end_channel;
    let group = min(channel, end - 1u) / params.dilation.w;
//# for c in range(lane_channels)
    let weight_${c} = weight_row(walk, channel + ${c}u, end);
//# endfor
//# else
    let group_panels = (params.dilation.w + PANEL - 1u) / PANEL;
    let group = (params.first_channel + panel) / group_panels;
    let channel = group * params.dilation.w + (params.first_channel + panel) % group_panels * PANEL + lane * LANE_CHANNELS;
    let end = (group + 1u) * params.dilation.w;
    let weight_panel = (panel * row_blocks() + walk.first_block) * PANEL + lane * LANE_CHANNELS;
//# endif
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
                    let block_${c} = weight[${"weight_" ~ c ~ " + run_block + block" if own_group else "weight_panel + (run_block + block) * PANEL + " ~ c ~ "u"}];
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
    // Loops of unknown length: unrolled, the stores would take most of the time to compile.
    let end_row = min(first_row + BLOCK_ROWS, params.pads.w);
    for (var row = first_row; row < end_row; row += ${stored_rows}u) {
//# for s in range(stored_rows)
        var sums_${s} = ${"vec4<f32>(sum_" ~ s ~ "_0, sum_" ~ s ~ "_1, sum_" ~ s ~ "_2, sum_" ~ s ~ "_3)" if lane_channels == 4 else "sum_" ~ s ~ "_0"};
//# endfor
//# for first in range(stored_rows, block_rows, stored_rows)
        if row == first_row + ${first}u {
//# for r in range(first, first + stored_rows)
            sums_${r - first} = ${"vec4<f32>(sum_" ~ r ~ "_0, sum_" ~ r ~ "_1, sum_" ~ r ~ "_2, sum_" ~ r ~ "_3)" if lane_channels == 4 else "sum_" ~ r ~ "_0"};
//# endfor
        }
//# endfor
//# for s in range(stored_rows)
//# for c in range(0, lane_channels, 1 if value == "f32" else 4)
        store_output(walk, row + ${s}u, channel + ${c}u, end, ${"sums_" ~ s ~ "[" ~ c ~ "]" if value == "f32" and lane_channels == 4 else "sums_" ~ s});
//# endfor
//# endfor
    }
}
