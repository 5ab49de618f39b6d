// Attention of a prompt chunk of one sequence over the key-value cache, softmax(scale * q k^T) v,
// computed online in tiles (Dao et al. 2022, FlashAttention): a workgroup owns TILE rows of one
// head and walks over tiles of TILE keys; tiles that no row sees are not visited. 64 invocations
// lie as 8 x 8; each owns 4 rows by 4 keys of the scores, and 4 rows by one vector of every slice
// of the sums. Queries, keys and values pass through workgroup memory in slices of 8 vectors.
// Exponentials are to the base two: the host multiplies the scale by log2(e).

const TILE: u32 = 32u;
const PITCH: u32 = 9u;     // vectors from one staged row to the next; odd against bank conflicts
const LOWEST: f32 = -1e30; // below every score; finite, so that differences are numbers

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

var<workgroup> left: array<vec4<f32>, TILE * PITCH>;  // a slice of the queries
var<workgroup> right: array<vec4<f32>, TILE * PITCH>; // a slice of the keys or values
// Weights by row; vector i of a row holds those of the keys i, i + 8, i + 16, i + 24.
var<workgroup> weights: array<vec4<f32>, TILE * PITCH>;
var<workgroup> exchange: array<f32, TILE * 8u>;       // one number of each invocation and row

fn stage_queries(lane: u32, first_row: u32, head: u32, slice: u32) {
    let vector = slice * 8u + lane % 8u;
    for (var row = lane / 8u; row < TILE; row += 8u) {
        let at = (min(first_row + row, params.rows - 1u) * params.heads + head) * params.head_vectors;
        let loaded = q[at + min(vector, params.head_vectors - 1u)] * params.scale;
        left[row * PITCH + lane % 8u] = select(vec4<f32>(0.0), loaded, vector < params.head_vectors);
    }
}

// Where this invocation's vector of a slice lies in the key-value cache, for one key.
fn kv_at(kv_base: u32, key: u32, vector: u32) -> u32 {
    return kv_base + min(key, params.context - 1u) * params.head_vectors + min(vector, params.head_vectors - 1u);
}

fn stage_keys(lane: u32, kv_base: u32, first_key: u32, slice: u32) {
    let vector = slice * 8u + lane % 8u;
    for (var key = lane / 8u; key < TILE; key += 8u) {
        right[key * PITCH + lane % 8u] = keys[kv_at(kv_base, first_key + key, vector)];
    }
}

fn stage_values(lane: u32, kv_base: u32, first_key: u32, slice: u32) {
    let vector = slice * 8u + lane % 8u;
    for (var key = lane / 8u; key < TILE; key += 8u) {
        right[key * PITCH + lane % 8u] = values[kv_at(kv_base, first_key + key, vector)];
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = lane % 8u;
    let own_row = lane / 8u * 4u; // first of this invocation's rows in the tile
    let head = group.x;
    let first_row = group.y * TILE;
    let slot = min(slots[first_row], params.slots - 1u);
    let kv_base = kv_row(slot, head / (params.heads / params.kv_heads), 0u);

    var begin = params.context;
    var end = 0u;
    for (var row = 0u; row < TILE; row++) {
        let visible = visible_keys(first_row + row);
        begin = select(begin, min(begin, visible - min(visible, params.window)), visible > 0u);
        end = max(end, visible);
    }
    //# for row in range(4)
    let end_${row} = visible_keys(first_row + own_row + ${row}u);
    let begin_${row} = end_${row} - min(end_${row}, params.window);
    var highest_${row} = LOWEST;
    var weight_${row} = 0.0; // over this invocation's keys
    //# for slice in range(slices)
    var sum_${row}_${slice} = vec4<f32>(0.0);
    //# endfor
    //# endfor

    for (var first_key = begin; first_key < end; first_key += TILE) {
        //# for row in range(4)
        var score_${row} = vec4<f32>(0.0);
        //# endfor
        for (var slice = 0u; slice * 8u < params.head_vectors; slice++) {
            stage_queries(lane, first_row, head, slice);
            stage_keys(lane, kv_base, first_key, slice);
            workgroupBarrier();
            for (var i = 0u; i < 8u; i++) {
                //# for key in range(4)
                let key_${key} = right[(column + ${8 * key}u) * PITCH + i];
                //# endfor
                //# for row in range(4)
                let q_${row} = left[(own_row + ${row}u) * PITCH + i];
                score_${row} += vec4<f32>(dot(q_${row}, key_0), dot(q_${row}, key_1), dot(q_${row}, key_2), dot(q_${row}, key_3));
                //# endfor
            }
            workgroupBarrier();
        }
        let key = first_key + column + vec4<u32>(0u, 8u, 16u, 24u);
        //# for row in range(4)
        let seen_${row} = (key >= vec4<u32>(begin_${row})) & (key < vec4<u32>(end_${row}));
        let masked_${row} = select(vec4<f32>(LOWEST), vec4<f32>(capped(score_${row}.x), capped(score_${row}.y),
            capped(score_${row}.z), capped(score_${row}.w)), seen_${row});
        exchange[(own_row + ${row}u) * 8u + column] =
            max(max(masked_${row}.x, masked_${row}.y), max(masked_${row}.z, masked_${row}.w));
        //# endfor
        workgroupBarrier();
        //# for row in range(4)
        var peak_${row} = highest_${row};
        for (var i = 0u; i < 8u; i++) { peak_${row} = max(peak_${row}, exchange[(own_row + ${row}u) * 8u + i]); }
        let decay_${row} = exp2(highest_${row} - peak_${row});
        let p_${row} = select(vec4<f32>(0.0), exp2(masked_${row} - peak_${row}), seen_${row});
        highest_${row} = peak_${row};
        weight_${row} = weight_${row} * decay_${row} + dot(p_${row}, vec4<f32>(1.0));
        weights[(own_row + ${row}u) * PITCH + column] = p_${row};
        //# for slice in range(slices)
        sum_${row}_${slice} *= decay_${row};
        //# endfor
        //# endfor
        //# for slice in range(slices)
        stage_values(lane, kv_base, first_key, ${slice}u);
        workgroupBarrier();
        for (var i = 0u; i < 8u; i++) {
            //# for key in range(4)
            let value_${key} = right[(i + ${8 * key}u) * PITCH + column];
            //# endfor
            //# for row in range(4)
            let w_${row} = weights[(own_row + ${row}u) * PITCH + i];
            sum_${row}_${slice} += w_${row}.x * value_0 + w_${row}.y * value_1 + w_${row}.z * value_2 + w_${row}.w * value_3;
            //# endfor
        }
        workgroupBarrier();
        //# endfor
    }

    //# for row in range(4)
    exchange[(own_row + ${row}u) * 8u + column] = weight_${row};
    //# endfor
    workgroupBarrier();
    //# for row in range(4)
    {
        var weight = 0.0;
        for (var i = 0u; i < 8u; i++) { weight += exchange[(own_row + ${row}u) * 8u + i]; }
        let inverse = select(0.0, 1.0 / weight, weight > 0.0);
        //# for slice in range(slices)
        store(first_row + own_row + ${row}u, head, ${8 * slice}u + column, sum_${row}_${slice} * inverse);
        //# endfor
    }
    //# endfor
}

fn store(row: u32, head: u32, vector: u32, result: vec4<f32>) {
    if row >= params.rows { return; }
    let at = (row * params.heads + head) * params.head_dim;
    for (var i = 0u; i < 4u; i++) {
        let dim = vector * 4u + i;
        if dim < params.head_dim { output[at + dim] = result[i]; }
    }
}
