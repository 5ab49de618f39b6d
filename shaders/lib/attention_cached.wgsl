// Operands of attention: rows of one sequence over the key-value cache (lib/kv.wgsl), row by row
// and head by head. Takes `softcap`. The workgroups lie as [heads, tiles of rows].

struct Params {
    rows: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    head_vectors: u32, // vectors of four from one head to the next, padding included
    slots: u32,
    context: u32,
    window: u32,       // keys that a row sees, at most
    scale: f32,
    softcap: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;      // [rows, heads, head_vectors]
@group(0) @binding(1) var<storage, read> keys: array<vec4<f32>>;   // lib/kv.wgsl
@group(0) @binding(2) var<storage, read> values: array<vec4<f32>>; // lib/kv.wgsl
@group(0) @binding(3) var<storage, read> positions: array<u32>;    // [rows], consecutive
@group(0) @binding(4) var<storage, read> slots: array<u32>;        // [rows], active rows first
@group(0) @binding(5) var<storage, read_write> output: array<f32>; // [rows, heads, head_dim]
${params} params: Params;

//# include "lib/kv.wgsl"
//# include "lib/scores.wgsl"

// What a workgroup computes.
struct Place {
    first_row: u32,
    first_value: u32, // first vector of the values
    head: u32,
    kv_base: u32,
}

fn place_of(group: vec3<u32>, tile: u32) -> Place {
    let first_row = group.y * tile;
    let slot = min(slots[first_row], params.slots - 1u);
    return Place(first_row, 0u, group.x, kv_row(slot, group.x / (params.heads / params.kv_heads), 0u));
}

// Vectors of a head of queries and keys, and of values.
fn head_vectors() -> u32 { return params.head_vectors; }

fn value_vectors() -> u32 { return params.head_vectors; }

// The first key that a row sees and the one after the last.
fn visible_range(place: Place, row: u32) -> vec2<u32> {
    let end = visible_keys(row);
    return select(vec2<u32>(params.context, 0u), vec2<u32>(end - min(end, params.window), end), end > 0u);
}

// Where a row's query, and a key and its value, start; those past the end are the last.
fn query_at(place: Place, row: u32) -> u32 {
    return (min(row, params.rows - 1u) * params.heads + place.head) * params.head_vectors;
}

fn key_at(place: Place, key: u32) -> u32 {
    return place.kv_base + min(key, params.context - 1u) * params.head_vectors;
}

fn value_at(place: Place, key: u32) -> u32 { return key_at(place, key); }

fn load_query(at: u32, vector: u32) -> vec4<f32> { return params.scale * q[at + vector]; }

fn load_key(at: u32, vector: u32) -> vec4<f32> { return keys[at + vector]; }

fn load_value(at: u32, vector: u32) -> vec4<f32> { return values[at + vector]; }

// The score of a key, LOWEST where the row does not see it.
fn score_of(place: Place, row: u32, range: vec2<u32>, key: u32, product: f32) -> f32 {
    return select(LOWEST, capped(product), key >= range.x && key < range.y);
}

fn store(place: Place, row: u32, vector: u32, result: vec4<f32>) {
    if row >= params.rows { return; }
    let at = (row * params.heads + place.head) * params.head_dim;
    for (var i = 0u; i < 4u; i++) {
        let dim = vector * 4u + i;
        if dim < params.head_dim { output[at + dim] = result[i]; }
    }
}
