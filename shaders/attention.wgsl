// Attention of decoder rows over the key-value cache, softmax(scale * q k^T) v, computed online:
// no score is stored. A workgroup computes QUERIES queries that read the same keys: heads of one
// key head in one row, or rows of one sequence in one head. Its invocations form clusters; a
// cluster takes every CLUSTERS-th key, and each of its invocations holds every CLUSTER-th vector
// of the head. The clusters are merged once, at the end, through workgroup memory.
// Exponentials are to the base two: the host multiplies the scale by log2(e).

const WIDTH: u32 = ${width}u;     // invocations
const CLUSTER: u32 = ${cluster}u; // invocations that share a key, a power of two
const CLUSTERS: u32 = WIDTH / CLUSTER;
const VECTORS: u32 = ${vectors}u; // vectors of a head in one invocation
const HEAD: u32 = CLUSTER * VECTORS; // vectors of a head, rounded up
const QUERIES: u32 = ${queries}u;
const KEYS: u32 = ${keys}u;       // keys that a cluster takes in one step, 2 or 4
const LOWEST: f32 = -1e30;        // below every score; finite, so that differences are numbers
alias Scores = vec${keys}<f32>;

struct Params {
    rows: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    head_vectors: u32, // vectors of four from one head to the next, padding included
    slots: u32,
    context: u32,
    window: u32,       // keys that a row sees, at most
    row_step: u32,     // rows from one query of a workgroup to the next: 0 or 1
    head_step: u32,    // heads from one query of a workgroup to the next: 1 or 0
    head_groups: u32,  // workgroups for the heads of one key head
    splits: u32,       // workgroups that share the keys of a query
    scale: f32,
    softcap: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;      // [rows, heads, head_vectors]
@group(0) @binding(1) var<storage, read> keys: array<vec4<f32>>;   // lib/kv.wgsl
@group(0) @binding(2) var<storage, read> values: array<vec4<f32>>; // lib/kv.wgsl
@group(0) @binding(3) var<storage, read> positions: array<u32>;    // [rows]
@group(0) @binding(4) var<storage, read> slots: array<u32>;        // [rows]
${params} params: Params;

//# include "lib/kv.wgsl"

//# if cluster == 1
fn cluster_sum(score: Scores, lane: u32) -> Scores { return score; }
//# elif form == "subgroup"
fn cluster_sum(score: Scores, lane: u32) -> Scores {
    var total = score;
    //# for step in [1, 2, 4]
    if ${step}u < CLUSTER { total += subgroupShuffleXor(total, ${step}u); }
    //# endfor
    return total;
}
//# else
var<workgroup> addends: array<Scores, WIDTH>;

fn cluster_sum(score: Scores, lane: u32) -> Scores {
    addends[lane] = score;
    workgroupBarrier();
    let first = lane - lane % CLUSTER;
    var total = Scores(0.0);
    for (var i = 0u; i < CLUSTER; i++) { total += addends[first + i]; }
    workgroupBarrier();
    return total;
}
//# endif

//# if split
@group(0) @binding(5) var<storage, read_write> output: array<vec4<f32>>; // [splits, rows, heads, head_vectors + 1]

// Unscaled sums; the last vector holds the highest score and the sum of the weights.
fn store(split: u32, row: u32, head: u32, vector: u32, sum: vec4<f32>, highest: f32, weight: f32) {
    let at = ((split * params.rows + row) * params.heads + head) * (params.head_vectors + 1u);
    output[at + vector] = sum;
    if vector == 0u { output[at + params.head_vectors] = vec4<f32>(highest, weight, 0.0, 0.0); }
}
//# else
@group(0) @binding(5) var<storage, read_write> output: array<f32>; // [rows, heads, head_dim]

fn store(split: u32, row: u32, head: u32, vector: u32, sum: vec4<f32>, highest: f32, weight: f32) {
    let result = sum * select(0.0, 1.0 / weight, weight > 0.0);
    let at = (row * params.heads + head) * params.head_dim;
    for (var i = 0u; i < 4u; i++) {
        let dim = vector * 4u + i;
        if dim < params.head_dim { output[at + dim] = result[i]; }
    }
}
//# endif

fn capped(score: Scores) -> Scores {
    //# if softcap
    // The host divides the scale by the cap; tanh is clamped as some drivers' overflows.
    return params.softcap * tanh(clamp(score, Scores(-15.0), Scores(15.0)));
    //# else
    return score;
    //# endif
}

fn highest_of(score: Scores) -> f32 {
    return max(max(score[0], score[1]), max(score[${keys - 2}], score[${keys - 1}]));
}

// Keys that a row may see: its own and those before it; none where the row is inactive.
fn visible_keys(row: u32) -> u32 {
    let at = min(row, params.rows - 1u);
    let is_active = row < params.rows && slots[at] < params.slots;
    return select(0u, min(positions[at], params.context - 1u) + 1u, is_active);
}

var<workgroup> stats: array<vec2<f32>, CLUSTERS * QUERIES>;
var<workgroup> sums: array<vec4<f32>, WIDTH * VECTORS>;

// The highest score and the sum of weights over the clusters.
fn merged_stats(first: u32) -> vec2<f32> {
    var highest = LOWEST;
    for (var i = 0u; i < CLUSTERS; i++) { highest = max(highest, stats[first + i].x); }
    var weight = 0.0;
    for (var i = 0u; i < CLUSTERS; i++) { weight += stats[first + i].y * exp2(stats[first + i].x - highest); }
    return vec2<f32>(highest, weight);
}

fn store_merged(lane: u32, split: u32, row: u32, head: u32, all: vec2<f32>) {
    for (var vector = lane; vector < params.head_vectors; vector += WIDTH) {
        var sum = vec4<f32>(0.0);
        for (var i = 0u; i < CLUSTERS; i++) { sum += sums[i * HEAD + vector]; }
        store(split, row, head, vector, sum, all.x, all.y);
    }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let cluster = lane / CLUSTER;
    let part = lane % CLUSTER;
    let heads_per_kv = params.heads / params.kv_heads;
    let kv_head = group.x / params.head_groups;
    let first_head = (group.x % params.head_groups) * max(params.head_step * QUERIES, 1u);
    let first_row = group.y * max(params.row_step * QUERIES, 1u);
    let slot = min(slots[min(first_row, params.rows - 1u)], params.slots - 1u);
    let kv_base = kv_row(slot, kv_head, 0u);

    var begin = params.context;
    var end = 0u;
    //# for query in range(queries)
    let row_${query} = first_row + ${query}u * params.row_step;
    let head_${query} = first_head + ${query}u * params.head_step;
    let end_${query} = visible_keys(row_${query});
    let begin_${query} = end_${query} - min(end_${query}, params.window);
    begin = select(begin, min(begin, begin_${query}), end_${query} > 0u);
    end = max(end, end_${query});
    //# endfor
    // Each split takes an equal share of the keys that are there, not of the capacity.
    let share = (end - min(begin, end) + params.splits - 1u) / params.splits;
    begin = begin + group.z * share;
    end = min(end, begin + share);

    //# for vector in range(vectors)
    let offset_${vector} = min(part + ${vector * cluster}u, params.head_vectors - 1u);
    let inside_${vector} = part + ${vector * cluster}u < params.head_vectors;
    //# endfor
    //# for query in range(queries)
    let q_base_${query} = (min(row_${query}, params.rows - 1u) * params.heads
        + kv_head * heads_per_kv + min(head_${query}, heads_per_kv - 1u)) * params.head_vectors;
    var highest_${query} = LOWEST;
    var weight_${query} = 0.0;
    //# for vector in range(vectors)
    let q_${query}_${vector} = select(vec4<f32>(0.0), q[q_base_${query} + offset_${vector}] * params.scale, inside_${vector});
    var sum_${query}_${vector} = vec4<f32>(0.0);
    //# endfor
    //# endfor

    // All invocations take the same number of steps, so that clusters can exchange values.
    for (var first = begin; first < end; first += CLUSTERS * KEYS) {
        var key: vec${keys}<u32>;
        //# for key in range(keys)
        key[${key}] = first + cluster + ${key}u * CLUSTERS;
        let at_${key} = kv_base + min(key[${key}], end - 1u) * params.head_vectors;
        //# endfor
        //# for query in range(queries)
        var score_${query} = Scores(0.0);
        //# endfor
        //# for vector in range(vectors)
        //# for key in range(keys)
        let k_${vector}_${key} = keys[at_${key} + offset_${vector}];
        //# for query in range(queries)
        score_${query}[${key}] += dot(q_${query}_${vector}, k_${vector}_${key});
        //# endfor
        //# endfor
        //# endfor
        //# for query in range(queries)
        score_${query} = capped(cluster_sum(score_${query}, lane));
        let seen_${query} = (key >= vec${keys}(begin_${query})) & (key < vec${keys}(min(end, end_${query})));
        score_${query} = select(Scores(LOWEST), score_${query}, seen_${query});
        let peak_${query} = max(highest_${query}, highest_of(score_${query}));
        let decay_${query} = exp2(highest_${query} - peak_${query});
        let p_${query} = select(Scores(0.0), exp2(score_${query} - peak_${query}), seen_${query});
        highest_${query} = peak_${query};
        weight_${query} = weight_${query} * decay_${query} + dot(p_${query}, Scores(1.0));
        //# for vector in range(vectors)
        sum_${query}_${vector} *= decay_${query};
        //# endfor
        //# endfor
        //# for vector in range(vectors)
        //# for key in range(keys)
        let v_${vector}_${key} = values[at_${key} + offset_${vector}];
        //# for query in range(queries)
        sum_${query}_${vector} += p_${query}[${key}] * v_${vector}_${key};
        //# endfor
        //# endfor
        //# endfor
    }

    if part == 0u {
        //# for query in range(queries)
        stats[${query}u * CLUSTERS + cluster] = vec2<f32>(highest_${query}, weight_${query});
        //# endfor
    }
    workgroupBarrier();
    //# for query in range(queries)
    {
        let all = merged_stats(${query}u * CLUSTERS);
        let factor = exp2(highest_${query} - all.x);
        //# for vector in range(vectors)
        sums[cluster * HEAD + part + ${vector * cluster}u] = sum_${query}_${vector} * factor;
        //# endfor
        workgroupBarrier();
        if row_${query} < params.rows && head_${query} < heads_per_kv {
            store_merged(lane, group.z, row_${query}, kv_head * heads_per_kv + head_${query}, all);
        }
        workgroupBarrier();
    }
    //# endfor
}
