// Convolution on GPUs: 256 invocations compute a tile of output positions by output channels of a
// group from tiles of x and of the weight in workgroup memory, both with four elements of the
// inner dimension a vector. An invocation loads x for the same rows all the time, and walks
// through the taps by increments.
const TILE_ROWS: u32 = ${tile_rows}u;
const TILE_CHANNELS: u32 = ${tile_channels}u;
const DEPTH: u32 = ${depth}u;   // vectors along the inner dimension
const PITCH: u32 = DEPTH + 1u;  // odd, so that eight lanes hit all banks
const FOLD: u32 = 32768u;       // row tiles, and groups with phases, in one dimension of the grid

//# include "lib/conv_operands.wgsl"

//# set block_vectors = 1 if weight_dtype == "f32" else 2
//# set row_count = tile_rows // 16
//# set channel_count = tile_channels // 16
//# set loads = tile_rows * depth // 256
var<workgroup> x_tile: array<vec4<f32>, TILE_ROWS * PITCH>;
var<workgroup> weight_tile: array<vec4<f32>, TILE_CHANNELS * PITCH>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let phases = phase_count();
    for (var first_row = group.y * TILE_ROWS; first_row < params.pads.w; first_row += FOLD * TILE_ROWS) {
        for (var z = group.z; z < part_groups() * phases; z += FOLD) { compute_tile(first_row, z % phases, z / phases, group.x, lane); }
    }
}

fn load_weights(walk: Walk, channels: vec2<u32>, first_vector: u32, blocks: u32, lane: u32) {
    const BLOCKS = DEPTH / BLOCK_VECTORS;
    for (var i = lane; i < TILE_CHANNELS * BLOCKS; i += 256u) {
        let block = first_vector / BLOCK_VECTORS + i % BLOCKS;
        var loaded = WeightBlock();
        if block < blocks { loaded = weight[weight_row(walk, channels.x + i / BLOCKS, channels.y) + block]; }
        let at = i / BLOCKS * PITCH + i % BLOCKS * BLOCK_VECTORS;
//# for v in range(block_vectors)
        weight_tile[at + ${v}u] = unpack_block(loaded, ${v}u);
//# endfor
    }
}

// The tap after `tap`.
fn next_tap(walk: Walk, tap: vec3<u32>) -> vec3<u32> {
    var next = vec3<u32>(tap.xy, tap.z + 1u);
    if next.z >= walk.taps.z { next = vec3<u32>(next.x, next.y + 1u, 0u); }
    if next.y >= walk.taps.y { next = vec3<u32>(next.x + 1u, 0u, 0u); }
    return next;
}

fn compute_tile(first_row: u32, phase: u32, group_index: u32, channel_tile: u32, lane: u32) {
    let walk = begin_walk(phase);
    let group = params.first_channel / params.dilation.w + group_index;
    var channels = group_channels(group);
    channels.x += channel_tile * TILE_CHANNELS;
    let run_vectors = params.kernel.w * BLOCK_VECTORS;
    let blocks = walk.taps.x * walk.taps.y * walk.taps.z * params.kernel.w;
    // What this lane loads of x: vector `vector` of the run of the tap `tap`, for its rows.
//# for l in range(loads)
    let place_${l} = place_row(walk, first_row + lane / DEPTH + ${l * 256}u / DEPTH, group);
    var run_${l} = run_of(walk, place_${l}, vec3<u32>());
//# endfor
    var tap = vec3<u32>();
    var vector = lane % DEPTH;
//# for r in range(row_count)
//# for c in range(channel_count)
    var sum_${r}_${c} = 0.0;
//# endfor
//# endfor
    for (var first_vector = 0u; first_vector < blocks * BLOCK_VECTORS; first_vector += DEPTH) {
        if vector >= run_vectors {
            while vector >= run_vectors {
                vector -= run_vectors;
                tap = next_tap(walk, tap);
            }
//# for l in range(loads)
            run_${l} = run_of(walk, place_${l}, tap);
            // Past the last tap there is nothing.
            run_${l}.end = select(run_${l}.end, 0u, tap.x >= walk.taps.x);
//# endfor
        }
//# for l in range(loads)
        x_tile[(lane / DEPTH + ${l * 256}u / DEPTH) * PITCH + lane % DEPTH] = load_x(run_${l}, vector);
//# endfor
        load_weights(walk, channels, first_vector, blocks, lane);
        vector += DEPTH;
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
//# for c in range(channel_count)
            let w_${c} = weight_tile[(lane % 16u + ${c * 16}u) * PITCH + k];
//# endfor
//# for r in range(row_count)
            let x_${r} = x_tile[(lane / 16u + ${r * 16}u) * PITCH + k];
//# for c in range(channel_count)
            sum_${r}_${c} = add_dot(sum_${r}_${c}, x_${r}, w_${c});
//# endfor
//# endfor
        }
        workgroupBarrier();
    }
//# for r in range(row_count)
//# for c in range(channel_count)
    store_output(walk, first_row + lane / 16u + ${r * 16}u, channels.x + lane % 16u + ${c * 16}u, channels.y, sum_${r}_${c});
//# endfor
//# endfor
}
