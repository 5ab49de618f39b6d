// Vectors of x and blocks of a weight on their way to tiles of DEPTH vectors along the inner
// dimension of a convolution. Needs lib/conv_operands.wgsl.
const BLOCKS: u32 = DEPTH / BLOCK_VECTORS; // blocks along the inner dimension of a tile

// Block `index` of the tile of the weight; zeros from the end on.
fn fetch_weight(index: u32, walk: Walk, channels: vec2<u32>, first_block: u32, end_block: u32) -> WeightBlock {
    let block = first_block + index % BLOCKS;
    if block >= end_block { return WeightBlock(); }
    return weight[weight_row(walk, channels.x + index / BLOCKS, channels.y) + block];
}

// The tap after `tap`.
fn next_tap(walk: Walk, tap: vec3<u32>) -> vec3<u32> {
    var next = vec3<u32>(tap.xy, tap.z + 1u);
    if next.z >= walk.taps.z { next = vec3<u32>(next.x, next.y + 1u, 0u); }
    if next.y >= walk.taps.y { next = vec3<u32>(next.x + 1u, 0u, 0u); }
    return next;
}

// Where a lane is on its walk through the runs of x: a tap, and a vector of its run.
struct Step { tap: vec3<u32>, vector: u32 }

// Goes on to the run that has the vector.
fn settle(walk: Walk, step: Step) -> Step {
    let run_vectors = params.kernel.w * BLOCK_VECTORS;
    var settled = step;
    while settled.vector >= run_vectors {
        settled.vector -= run_vectors;
        settled.tap = next_tap(walk, settled.tap);
    }
    return settled;
}

// The run of a tap for a row; past the last tap there is nothing.
fn run_at(walk: Walk, place: Place, tap: vec3<u32>) -> Run {
    var run = run_of(walk, place, tap);
    run.end = select(run.end, 0u, tap.x >= walk.taps.x);
    return run;
}
