// Attention of decoder rows over the key-value cache, softmax(scale * q k^T) v, computed online:
// no score is stored. A workgroup computes QUERIES queries that read the same keys: heads of one
// key head in one row, or rows of one sequence in one head. It takes WIDTH keys in a step. Its
// invocations form clusters; a cluster takes CLUSTER of the keys one after another, its
// invocations hold every CLUSTER-th vector of the head, and each keeps the score of one key. The
// clusters are merged once, at the end, through workgroup memory.
// Exponentials are to the base two: the host multiplies the scale by log2(e).

const WIDTH: u32 = ${width}u;         // invocations
const CLUSTER: u32 = ${cluster}u;     // a power of two, at most 8
const CLUSTERS: u32 = WIDTH / CLUSTER;
const VECTORS: u32 = ${vectors}u;     // vectors of a head in one invocation
const HEAD: u32 = CLUSTER * VECTORS;  // vectors of a head, rounded up
const QUERIES: u32 = ${queries}u;
const LOWEST: f32 = -1e30;            // below every score; finite, so that differences are numbers

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

//# include "lib/rolled.wgsl"
//# include "lib/kv.wgsl"
//# include "lib/scores.wgsl"
//# include "lib/cluster.wgsl"

//# if split
@group(0) @binding(5) var<storage, read_write> output: array<vec4<f32>>; // [splits, rows, heads, head_vectors + 1]

// Undivided sums; the last vector holds the highest score and the sum of the weights.
fn store(split: u32, row: u32, head: u32, vector: u32, sum: vec4<f32>, stats: vec2<f32>) {
    let at = ((split * params.rows + row) * params.heads + head) * (params.head_vectors + 1u);
    output[at + vector] = sum;
    if vector == 0u { output[at + params.head_vectors] = vec4<f32>(stats, 0.0, 0.0); }
}
//# else
@group(0) @binding(5) var<storage, read_write> output: array<f32>; // [rows, heads, head_dim]

fn store(split: u32, row: u32, head: u32, vector: u32, sum: vec4<f32>, stats: vec2<f32>) {
    let result = sum * select(0.0, 1.0 / stats.y, stats.y > 0.0);
    let at = (row * params.heads + head) * params.head_dim;
    for (var i = 0u; i < 4u; i++) {
        let dim = vector * 4u + i;
        if dim < params.head_dim { output[at + dim] = result[i]; }
    }
}
//# endif

var<workgroup> cluster_stats: array<vec2<f32>, CLUSTERS>; // highest score, sum of weights
var<workgroup> cluster_sums: array<vec4<f32>, CLUSTERS * HEAD>;

// The highest score and the sum of weights over the clusters.
fn merged_stats() -> vec2<f32> {
    var highest = LOWEST;
    for (var i = 0u; i < CLUSTERS; i++) { highest = max(highest, cluster_stats[i].x); }
    var weight = 0.0;
    for (var i = 0u; i < CLUSTERS; i++) { weight += cluster_stats[i].y * exp2(cluster_stats[i].x - highest); }
    return vec2<f32>(highest, weight);
}

fn merged_sum(vector: u32) -> vec4<f32> {
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < CLUSTERS; i++) { sum += cluster_sums[i * HEAD + vector]; }
    return sum;
}

@compute @workgroup_size(WIDTH)
fn main(
    //# if form == "subgroup"
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
    //# endif
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    own_lane = ${"subgroup_lane" if form == "subgroup" else "lane"};
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
    let head_${query} = kv_head * heads_per_kv + min(first_head + ${query}u * params.head_step, heads_per_kv - 1u);
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
    var highest: Numbers;
    var weight: Numbers; // over this invocation's keys
    //# for query in range(queries)
    let q_base_${query} = (min(row_${query}, params.rows - 1u) * params.heads + head_${query}) * params.head_vectors;
    highest[${query}] = LOWEST;
    weight[${query}] = 0.0;
    //# for vector in range(vectors)
    let q_${query}_${vector} = select(vec4<f32>(0.0), q[q_base_${query} + offset_${vector}] * params.scale, inside_${vector});
    var sum_${query}_${vector} = vec4<f32>(0.0);
    //# endfor
    //# endfor

    // All invocations take the same number of steps, so that clusters can exchange numbers.
    for (var first = begin; first < end; first += WIDTH) {
        var score: Numbers;
        for (var i = 0u; i < rolled(CLUSTER, params.rows); i++) {
            let at = kv_base + min(first + cluster * CLUSTER + i, end - 1u) * params.head_vectors;
            var dots: Numbers;
            //# for vector in range(vectors)
            let key_${vector} = keys[at + offset_${vector}];
            //# for query in range(queries)
            dots[${query}] += dot(q_${query}_${vector}, key_${vector});
            //# endfor
            //# endfor
            dots = cluster_sum(dots);
            //# for query in range(queries)
            score[${query}] = select(score[${query}], dots[${query}], part == i);
            //# endfor
        }
        let key = first + lane;
        //# for query in range(queries)
        let seen_${query} = key >= begin_${query} && key < min(end, end_${query});
        score[${query}] = select(LOWEST, capped(score[${query}]), seen_${query});
        //# endfor
        let peak = cluster_max(score);
        var p: Numbers;
        //# for query in range(queries)
        let higher_${query} = max(highest[${query}], peak[${query}]);
        let decay_${query} = exp2(highest[${query}] - higher_${query});
        highest[${query}] = higher_${query};
        p[${query}] = select(0.0, exp2(score[${query}] - higher_${query}), seen_${query});
        weight[${query}] = weight[${query}] * decay_${query} + p[${query}];
        //# for vector in range(vectors)
        sum_${query}_${vector} *= decay_${query};
        //# endfor
        //# endfor
        hand(p);
        for (var i = 0u; i < rolled(CLUSTER, params.rows); i++) {
            let at = kv_base + min(first + cluster * CLUSTER + i, end - 1u) * params.head_vectors;
            let w = taken(i);
            //# for vector in range(vectors)
            let value_${vector} = values[at + offset_${vector}];
            //# for query in range(queries)
            sum_${query}_${vector} += w[${query}] * value_${vector};
            //# endfor
            //# endfor
        }
    }

    weight = cluster_sum(weight);
    for (var query = 0u; query < rolled(QUERIES, params.rows); query++) {
        var own = vec2<f32>(highest[0], weight[0]);
        //# for vector in range(vectors)
        var result_${vector} = sum_0_${vector};
        //# endfor
        //# for query in range(1, queries)
        if query == ${query}u {
            own = vec2<f32>(highest[${query}], weight[${query}]);
            //# for vector in range(vectors)
            result_${vector} = sum_${query}_${vector};
            //# endfor
        }
        //# endfor
        let row = first_row + query * params.row_step;
        let group_head = first_head + query * params.head_step;
        let head = kv_head * heads_per_kv + group_head;
        let stored = row < params.rows && group_head < heads_per_kv;
        if CLUSTERS == 1u {
            //# for vector in range(vectors)
            if stored && inside_${vector} {
                store(group.z, row, head, part + ${vector * cluster}u, result_${vector}, own);
            }
            //# endfor
        } else {
            if part == 0u { cluster_stats[cluster] = own; }
            workgroupBarrier();
            let stats = merged_stats();
            let factor = exp2(own.x - stats.x);
            //# for vector in range(vectors)
            cluster_sums[cluster * HEAD + part + ${vector * cluster}u] = result_${vector} * factor;
            //# endfor
            workgroupBarrier();
            for (var vector = lane; vector < select(0u, params.head_vectors, stored); vector += WIDTH) {
                store(group.z, row, head, vector, merged_sum(vector), stats);
            }
            workgroupBarrier();
        }
    }
}
