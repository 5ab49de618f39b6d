// Attention on software adapters, softmax(scale * q k^T) v, computed online: eight invocations own
// ROWS rows and walk over the keys in steps of STEP. An invocation owns four keys of the products,
// one row of the softmax (the products pass from one to the other through workgroup memory), and
// one vector of every slice of the sums. Loads bound the time: with `share`, eight lanes load
// eight different rows for all of them. Exponentials are to the base two: the host multiplies the
// scale by log2(e).
const ROWS: u32 = ${rows}u;  // 1 or 8
const STEP: u32 = 32u;
const LOWEST: f32 = -1e30;   // below every score; finite, so that differences are numbers

//# include "lib/attention_views.wgsl"

var<workgroup> weights: array<vec4<f32>, ROWS * 8u>; // [rows, lanes]: products, then scores, then weights
var<workgroup> exchange: array<f32, ROWS>;           // one number of each row

// sum + a . b, in four fused steps.
fn add_dot(sum: f32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let place = place_of(group, ROWS);
    var begin = params.keys;
    var end = 0u;
    for (var row = 0u; row < ROWS; row++) {
        let range = visible_range(place, place.first_row + row);
        begin = min(begin, range.x);
        end = max(end, range.y);
    }
    let own_row = place.first_row + min(lane, ROWS - 1u);
    let own_range = visible_range(place, own_row);
    let own_at = query_at(place, own_row);
//# for r in range(rows)
    let query_at_${r} = query_at(place, place.first_row + ${r}u);
//# endfor
//# for s in range(slices)
    let value_${s} = min(place.first_value + ${s * 8}u + lane, value_vectors() - 1u);
//# endfor
    let own_weights = min(lane, ROWS - 1u) * 8u;
    var highest = LOWEST; // of the own row
    var weight = 0.0;
//# for r in range(rows)
//# for s in range(slices)
    var sum_${r}_${s} = vec4<f32>(0.0);
//# endfor
//# endfor

    for (var first = begin; first < end; first += STEP) {
//# for r in range(rows)
//# for c in range(4)
        var dot_${r}_${c} = 0.0;
//# endfor
//# endfor
//# for c in range(4)
        let key_at_${c} = key_at(place, first + lane * 4u + ${c}u);
//# endfor
        for (var vector = 0u; vector < head_vectors(); vector++) {
//# for c in range(4)
            let key_${c} = load_key(key_at_${c}, vector);
//# endfor
            let own_query = load_query(own_at, vector);
//# for r in range(rows)
            let query_${r} = ${"subgroupBroadcast(own_query, " ~ r ~ "u)" if share else "load_query(query_at_" ~ r ~ ", vector)"};
//# for c in range(4)
            dot_${r}_${c} = add_dot(dot_${r}_${c}, query_${r}, key_${c});
//# endfor
//# endfor
        }
//# for r in range(rows)
        weights[${r * 8}u + lane] = vec4<f32>(dot_${r}_0, dot_${r}_1, dot_${r}_2, dot_${r}_3);
//# endfor
        workgroupBarrier();

        // The softmax of the own row.
        var decay = 1.0;
        if lane < ROWS {
            var peak = highest;
            for (var i = 0u; i < 8u; i++) {
                var score = weights[own_weights + i];
//# for c in range(4)
                score[${c}] = score_of(place, own_row, own_range, first + i * 4u + ${c}u, score[${c}]);
//# endfor
                weights[own_weights + i] = score;
                peak = max(max(max(peak, score.x), max(score.y, score.z)), score.w);
            }
            decay = exp2(highest - peak);
            weight *= decay;
            highest = peak;
            for (var i = 0u; i < 8u; i++) {
                let score = weights[own_weights + i];
                let p = select(vec4<f32>(0.0), exp2(score - peak), score > vec4<f32>(LOWEST));
                weights[own_weights + i] = p;
                weight += (p.x + p.y) + (p.z + p.w);
            }
            exchange[lane] = decay;
        }
//# if not share
        workgroupBarrier();
//# endif
//# for r in range(rows)
        let decay_${r} = ${"subgroupBroadcast(decay, " ~ r ~ "u)" if share else "exchange[" ~ r ~ "]"};
//# for s in range(slices)
        sum_${r}_${s} *= decay_${r};
//# endfor
//# endfor
        for (var i = 0u; i < 8u; i++) {
            let own = weights[own_weights + i];
//# for r in range(rows)
            let weight_${r} = ${"subgroupBroadcast(own, " ~ r ~ "u)" if share else "weights[" ~ r * 8 ~ "u + i]"};
//# endfor
//# for c in range(4)
            let value_at_${c} = value_at(place, first + i * 4u + ${c}u);
//# for s in range(slices)
            let value_${c}_${s} = load_value(value_at_${c}, value_${s});
//# for r in range(rows)
            sum_${r}_${s} = fma(vec4<f32>(weight_${r}[${c}]), value_${c}_${s}, sum_${r}_${s});
//# endfor
//# endfor
//# endfor
        }
        workgroupBarrier();
    }

    if lane < ROWS { exchange[lane] = select(0.0, 1.0 / weight, weight > 0.0); }
    workgroupBarrier();
    // A loop of unknown length: unrolled, the stores would take most of the time to compile.
    let end_row = min(place.first_row + ROWS, place.rows);
    for (var row = place.first_row; row < end_row; row++) {
        let inverse = exchange[row - place.first_row];
//# for s in range(slices)
        var result_${s} = sum_0_${s};
//# for r in range(1, rows)
        if row == place.first_row + ${r}u { result_${s} = sum_${r}_${s}; }
//# endfor
        store(place, row, place.first_value + ${s * 8}u + lane, result_${s} * inverse);
//# endfor
    }
}
