// Rotary position embedding. One invocation computes one element.

const WIDTH: u32 = ${width}u; // invocations

struct Params {
    elements: u32,
    row_elements: u32, // heads * head_dim
    head_dim: u32,
    rotary_dim: u32,
    table_rows: u32,
    row_groups: u32,   // workgroups in x
}

@group(0) @binding(0) var<storage, read> input: array<f32>;        // [rows, heads, head_dim]
@group(0) @binding(1) var<storage, read> table: array<f32>;        // [table_rows, rotary_dim]
@group(0) @binding(2) var<storage, read> positions: array<u32>;    // [rows]
@group(0) @binding(3) var<storage, read_write> output: array<f32>; // [rows, heads, head_dim]
${params} params: Params;

//# include "lib/rope.wgsl"

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = (group.y * params.row_groups + group.x) * WIDTH + lane;
    if at >= params.elements { return; }
    let dim = at % params.head_dim;
    output[at] = rotated(at - dim, dim, positions[at / params.row_elements]);
}
