// Splits the rows of a joint projection into queries, keys and values, turns queries and keys by
// their position, pads the heads to whole vectors, and writes keys and values to the cache. One
// invocation computes one vector of four elements of one head.

const WIDTH: u32 = ${width}u; // invocations

struct Params {
    vectors: u32,      // rows * (heads + 2 * kv_heads) * head_vectors
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    head_vectors: u32, // vectors of four from one head to the next, padding included
    slots: u32,
    context: u32,
    rotary_dim: u32,
    table_rows: u32,
    row_groups: u32,   // workgroups in x
}

@group(0) @binding(0) var<storage, read> input: array<f32>;              // [rows, heads + 2 * kv_heads, head_dim]
//# if pairs != "none"
@group(0) @binding(1) var<storage, read> table: array<f32>;              // [table_rows, rotary_dim]
//# endif
@group(0) @binding(2) var<storage, read> positions: array<u32>;          // [rows]
@group(0) @binding(3) var<storage, read> slots: array<u32>;              // [rows]
@group(0) @binding(4) var<storage, read_write> q: array<vec4<f32>>;      // [rows, heads, head_vectors]
@group(0) @binding(5) var<storage, read_write> keys: array<vec4<f32>>;   // lib/kv.wgsl
@group(0) @binding(6) var<storage, read_write> values: array<vec4<f32>>; // lib/kv.wgsl
${params} params: Params;

//# include "lib/kv.wgsl"
//# if pairs == "none"
fn rotated(base: u32, dim: u32, position: u32) -> f32 { return input[base + dim]; }
//# else
//# include "lib/rope.wgsl"
//# endif

// One element of a head; the padding is zero.
fn element(base: u32, dim: u32, position: u32, turn: bool) -> f32 {
    if dim >= params.head_dim { return 0.0; }
    if turn { return rotated(base, dim, position); }
    return input[base + dim];
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = (group.y * params.row_groups + group.x) * WIDTH + lane;
    if at >= params.vectors { return; }
    let all_heads = params.heads + 2u * params.kv_heads;
    let vector = at % params.head_vectors;
    let row = at / params.head_vectors / all_heads;
    let head = at / params.head_vectors - row * all_heads;
    let position = positions[row];
    let live = slots[row] < params.slots && position < params.context;
    let base = (row * all_heads + head) * params.head_dim;
    let turn = head < params.heads + params.kv_heads;
    var result = vec4<f32>(0.0);
    for (var i = 0u; i < 4u; i++) { result[i] = element(base, vector * 4u + i, position, turn); }
    if head < params.heads {
        q[(row * params.heads + head) * params.head_vectors + vector] = select(vec4<f32>(0.0), result, live);
    } else if live && turn {
        keys[kv_row(slots[row], head - params.heads, position) + vector] = result;
    } else if live {
        values[kv_row(slots[row], head - params.heads - params.kv_heads, position) + vector] = result;
    }
}
