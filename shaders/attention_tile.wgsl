// Attention on GPUs, softmax(scale * q k^T) v, computed online in tiles (Dao et al. 2022,
// FlashAttention): a workgroup owns TILE rows and walks over tiles of TILE keys; tiles that no row
// sees are not visited. 64 invocations lie as 8 x 8; each owns 4 rows by 4 keys of the scores, and
// 4 rows by one vector of every slice of the sums. Queries, keys and values pass through workgroup
// memory in slices of 8 vectors. Exponentials are to the base two: the host multiplies the scale
// by log2(e). Takes `operands`: "cached" (a prompt chunk over the key-value cache) or "views".

const TILE: u32 = 32u;
const PITCH: u32 = 9u;     // vectors from one staged row to the next; odd against bank conflicts
const LOWEST: f32 = -1e30; // below every score; finite, so that differences are numbers

//# if operands == "cached"
//# include "lib/attention_cached.wgsl"
//# else
//# include "lib/attention_views.wgsl"
//# endif

var<workgroup> left: array<vec4<f32>, TILE * PITCH>;  // a slice of the queries
var<workgroup> right: array<vec4<f32>, TILE * PITCH>; // a slice of the keys or values
// Weights by row; vector i of a row holds those of the keys i, i + 8, i + 16, i + 24.
var<workgroup> weights: array<vec4<f32>, TILE * PITCH>;
var<workgroup> exchange: array<f32, TILE * 8u>;       // one number of each invocation and row

// Vectors past the end of a head are zero in queries, and anything in keys and values.
fn stage_queries(place: Place, lane: u32, slice: u32) {
    let vector = slice * 8u + lane % 8u;
    for (var row = lane / 8u; row < TILE; row += 8u) {
        let loaded = load_query(query_at(place, place.first_row + row), min(vector, head_vectors() - 1u));
        left[row * PITCH + lane % 8u] = select(vec4<f32>(0.0), loaded, vector < head_vectors());
    }
}

fn stage_keys(place: Place, lane: u32, first_key: u32, slice: u32) {
    let vector = min(slice * 8u + lane % 8u, head_vectors() - 1u);
    for (var key = lane / 8u; key < TILE; key += 8u) {
        right[key * PITCH + lane % 8u] = load_key(key_at(place, first_key + key), vector);
    }
}

fn stage_values(place: Place, lane: u32, first_key: u32, slice: u32) {
    let vector = min(place.first_value + slice * 8u + lane % 8u, value_vectors() - 1u);
    for (var key = lane / 8u; key < TILE; key += 8u) {
        right[key * PITCH + lane % 8u] = load_value(value_at(place, first_key + key), vector);
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let place = place_of(group, TILE);
    let column = lane % 8u;
    let own_row = lane / 8u * 4u; // first of this invocation's rows in the tile

    var begin = 0xffffffffu;
    var end = 0u;
    for (var row = 0u; row < TILE; row++) {
        let range = visible_range(place, place.first_row + row);
        begin = min(begin, range.x);
        end = max(end, range.y);
    }
    //# for row in range(4)
    let row_${row} = place.first_row + own_row + ${row}u;
    let range_${row} = visible_range(place, row_${row});
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
        for (var slice = 0u; slice * 8u < head_vectors(); slice++) {
            stage_queries(place, lane, slice);
            stage_keys(place, lane, first_key, slice);
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
        //# for key in range(4)
        score_${row}[${key}] = score_of(place, row_${row}, range_${row}, key[${key}], score_${row}[${key}]);
        //# endfor
        exchange[(own_row + ${row}u) * 8u + column] =
            max(max(score_${row}.x, score_${row}.y), max(score_${row}.z, score_${row}.w));
        //# endfor
        workgroupBarrier();
        //# for row in range(4)
        var peak_${row} = highest_${row};
        for (var i = 0u; i < 8u; i++) { peak_${row} = max(peak_${row}, exchange[(own_row + ${row}u) * 8u + i]); }
        let decay_${row} = exp2(highest_${row} - peak_${row});
        let p_${row} = select(vec4<f32>(0.0), exp2(score_${row} - peak_${row}), score_${row} > vec4<f32>(LOWEST));
        highest_${row} = peak_${row};
        weight_${row} = weight_${row} * decay_${row} + dot(p_${row}, vec4<f32>(1.0));
        weights[(own_row + ${row}u) * PITCH + column] = p_${row};
        //# for slice in range(slices)
        sum_${row}_${slice} *= decay_${row};
        //# endfor
        //# endfor
        //# for slice in range(slices)
        stage_values(place, lane, first_key, ${slice}u);
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
        store(place, row_${row}, place.first_value + ${8 * slice}u + column, sum_${row}_${slice} * inverse);
        //# endfor
    }
    //# endfor
}
