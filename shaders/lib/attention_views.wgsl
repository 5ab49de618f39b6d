// Operands of attention as strided views, of one tensor or of three. A workgroup takes rows that
// read the same keys: row r is token r % tokens of head r / tokens among those of a key head.
// Takes `vectors` (heads are whole vectors of four), `mask`, `softcap`, and `slices`: values are
// computed in chunks of so many times eight vectors. The workgroups lie as
// [tiles of rows * chunks, FOLD, batches * key heads / FOLD].
const FOLD: u32 = 32768u;

struct Params {
    q: vec4<u32>,      // first place, and from one batch, head and token to the next
    k: vec4<u32>,      // the same, in vectors where heads are such
    v: vec4<u32>,
    output: vec4<u32>, // the same, always in elements
    mask: vec4<u32>,   // from one batch, head, token and key to the next; 0 where it is repeated
    tokens: u32,
    keys: u32,
    kv_heads: u32,
    group_heads: u32,  // heads that share a key head
    pairs: u32,        // batches * key heads
    head_dim: u32,
    value_dim: u32,
    lead: i32,         // token t sees the keys up to t + lead
    window: i32,       // and at most so many
    scale: f32,
    softcap: f32,
}

//# set element = "vec4<f32>" if vectors else "f32"
@group(0) @binding(0) var<storage, read> q: array<${element}>;     // [batches, heads, tokens, head_dim]
@group(0) @binding(1) var<storage, read> k: array<${element}>;     // [batches, kv_heads, keys, head_dim]
@group(0) @binding(2) var<storage, read> v: array<${element}>;     // [batches, kv_heads, keys, value_dim]
@group(0) @binding(3) var<storage, read_write> output: array<f32>; // [batches, heads, tokens, value_dim]
${params} params: Params;

//# include "lib/softcap.wgsl"

// What a workgroup computes: rows, values, and where its operands start.
struct Place {
    first_row: u32,
    rows: u32,        // 0 in workgroups that are too many
    first_value: u32, // first vector of the values
    q: u32,
    k: u32,
    v: u32,
    output: u32,
    mask: u32,
}

fn place_of(group: vec3<u32>, tile: u32) -> Place {
    let pair = group.z * FOLD + group.y;
    let batch = min(pair, params.pairs - 1u) / params.kv_heads;
    let kv_head = min(pair, params.pairs - 1u) % params.kv_heads;
    let head = kv_head * params.group_heads;
    let chunks = (params.value_dim + ${slices * 32 - 1}u) / ${slices * 32}u;
    return Place(
        group.x / chunks * tile,
        select(0u, params.tokens * params.group_heads, pair < params.pairs),
        group.x % chunks * ${slices * 8}u,
        params.q.x + batch * params.q.y + head * params.q.z,
        params.k.x + batch * params.k.y + kv_head * params.k.z,
        params.v.x + batch * params.v.y + kv_head * params.v.z,
        params.output.x + batch * params.output.y + head * params.output.z,
        batch * params.mask.x + head * params.mask.y,
    );
}

// Head, counted from the workgroup's first, and token of a row; rows past the end are the last.
fn query_of(row: u32) -> vec2<u32> {
    let inside = min(row, params.tokens * params.group_heads - 1u);
    return vec2<u32>(inside / params.tokens, inside % params.tokens);
}

// Vectors of a head of queries and keys, and of values.
fn head_vectors() -> u32 { return (params.head_dim + 3u) / 4u; }

fn value_vectors() -> u32 { return (params.value_dim + 3u) / 4u; }

// The first key that a row sees and the one after the last.
fn visible_range(place: Place, row: u32) -> vec2<u32> {
    let end = i32(query_of(row).y) + params.lead + 1;
    let range = clamp(vec2<i32>(end - params.window, end), vec2<i32>(0), vec2<i32>(i32(params.keys)));
    return select(vec2<u32>(params.keys, 0u), vec2<u32>(range), row < place.rows && range.y > 0);
}

// A vector, inside of a head, that starts at `at`; elements past the head's end are zero.
//# for name in ["q", "k", "v"]
fn quad_${name}(at: u32, vector: u32, dims: u32) -> vec4<f32> {
//# if vectors
    return ${name}[at + vector];
//# else
    let dim = vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let i = vec4<u32>(at) + min(dim, vec4<u32>(dims - 1u));
    return select(vec4<f32>(0.0), vec4<f32>(${name}[i.x], ${name}[i.y], ${name}[i.z], ${name}[i.w]), dim < vec4<u32>(dims));
//# endif
}

//# endfor
// Where a row's query, and a key and its value, start; those past the end are the last.
fn query_at(place: Place, row: u32) -> u32 {
    let query = query_of(row);
    return place.q + query.x * params.q.z + query.y * params.q.w;
}

fn key_at(place: Place, key: u32) -> u32 { return place.k + min(key, params.keys - 1u) * params.k.w; }

fn value_at(place: Place, key: u32) -> u32 { return place.v + min(key, params.keys - 1u) * params.v.w; }

fn load_query(at: u32, vector: u32) -> vec4<f32> { return params.scale * quad_q(at, vector, params.head_dim); }

fn load_key(at: u32, vector: u32) -> vec4<f32> { return quad_k(at, vector, params.head_dim); }

fn load_value(at: u32, vector: u32) -> vec4<f32> { return quad_v(at, vector, params.value_dim); }

//# if mask
@group(0) @binding(4) var<storage, read> mask: array<f32>; // broadcast to [batches, heads, tokens, keys]

// With what the mask adds; keys where that is minus infinity are not seen. The lowest finite numbers
// are all raised to one above LOWEST: where a row has no others, its keys count alike.
fn masked(place: Place, row: u32, key: u32, score: f32) -> f32 {
    let query = query_of(row);
    let at = place.mask + query.x * params.mask.y + query.y * params.mask.z;
    let added = mask[at + min(key, params.keys - 1u) * params.mask.w];
    return select(LOWEST, score + max(added, -1e29) * 1.44269504, bitcast<u32>(added) != 0xff800000u);
}
//# else
fn masked(place: Place, row: u32, key: u32, score: f32) -> f32 { return score; }
//# endif

// The score of a key, LOWEST where the row does not see it.
fn score_of(place: Place, row: u32, range: vec2<u32>, key: u32, product: f32) -> f32 {
    return select(LOWEST, masked(place, row, key, capped(product)), key >= range.x && key < range.y);
}

fn store(place: Place, row: u32, vector: u32, result: vec4<f32>) {
    if row >= place.rows { return; }
    let query = query_of(row);
    let at = place.output + query.x * params.output.z + query.y * params.output.w;
    for (var i = 0u; i < 4u; i++) {
        let dim = vector * 4u + i;
        if dim < params.value_dim { output[at + dim] = result[i]; }
    }
}
