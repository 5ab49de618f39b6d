// Linear layer on software adapters: an invocation owns BLOCK_ROWS rows by four weight rows
// (gated: two of each half), in registers. Loads bound the time there, so eight lanes load eight
// different rows of x (of one row: eight loads) for all of them, where subgroups have eight. With
// long words x is loaded by two vectors.
const BLOCK_ROWS: u32 = ${block_rows}u;
const FOLD: u32 = 32768u; // row blocks in one dimension of the grid

//# include "lib/linear_operands.wgsl"
//# include "lib/input_norm.wgsl"

//# set block_vectors = block_bytes // (16 if weight_dtype == "f32" else 8)
//# set x_vectors_of_load = 2 if long_words else 1
//# set x_loads = block_vectors // x_vectors_of_load
//# set stored = 2 if gated else 4
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = (group.z * FOLD + group.y) * BLOCK_ROWS;
    let last_row = params.rows - 1u;
    let first_column = (group.x * 8u + lane) * ${stored}u;
//# for c in range(4)
    let weight_${c} = weight_row(first_column + ${c % stored}u, params.${"up_first" if c >= stored else "weight_first"});
//# endfor
//# for r in range(block_rows)
//# for c in range(4)
    var sum_${r}_${c} = 0.0;
//# endfor
//# endfor
    var x_ahead = XLoad(); // of one row: the load of this lane among the next eight
    for (var block = 0u; block < params.blocks; block++) {
//# if share_x and block_rows == 1
        let first_load = block * ${x_loads}u;
        if first_load % 8u == 0u && first_load + lane < params.blocks * ${x_loads}u {
            x_ahead = take_x(0u, first_row, first_load + lane);
        }
//# endif
//# for c in range(4)
        let block_${c} = ${"up_weight" if c >= stored else "weight"}[weight_${c} + block];
//# endfor
//# for v in range(block_vectors)
//# if not share_x
//# for r in range(block_rows)
        let x_${v}_${r} = take_x(0u, min(first_row + ${r}u, last_row), block * BLOCK_VECTORS + ${v}u);
//# endfor
//# elif block_rows == 1
        let x_${v}_0 = subgroupShuffle(x_ahead${"[" ~ v % 2 ~ "]" if long_words}, (first_load + ${v // x_vectors_of_load}u) % 8u);
//# else
//# for r in range(block_rows)
//# if r % 8 == 0 and v % x_vectors_of_load == 0
        let rows_${v}_${r // 8} = load_x(min(first_row + ${r}u + lane, last_row), block * ${x_loads}u + ${v // x_vectors_of_load}u);
//# endif
        let x_${v}_${r} = subgroupBroadcast(rows_${v - v % x_vectors_of_load}_${r // 8}${"[" ~ v % 2 ~ "]" if long_words}, ${r % 8}u);
//# endfor
//# endif
//# for c in range(4)
        let w_${v}_${c} = unpack_block(block_${c}, ${v}u);
//# for r in range(block_rows)
        sum_${r}_${c} = add_dot(sum_${r}_${c}, x_${v}_${r}, w_${v}_${c});
//# endfor
//# endfor
//# endfor
    }
//# for all in range(1 if norm else 0)
    let scale = norm_scale(${"subgroupAdd(squares[0])" if share_x else "squares[0]"}); // one row
//# endfor
    // A loop of unknown length: unrolled, the stores would take most of the time to compile.
    let end_row = min(first_row + BLOCK_ROWS, params.rows);
    for (var row = first_row; row < end_row; row++) {
        var sums = vec4<f32>(sum_0_0, sum_0_1, sum_0_2, sum_0_3)${" * scale" if norm else ""};
//# for r in range(1, block_rows)
        if row == first_row + ${r}u { sums = vec4<f32>(sum_${r}_0, sum_${r}_1, sum_${r}_2, sum_${r}_3); }
//# endfor
//# for c in range(0, stored, 1 if value == "f32" else 4)
        store_output(row, first_column + ${c}u, ${"sums[" ~ c ~ "], sums[" ~ (c + 2) % 4 ~ "]" if value == "f32" else "sums, sums"});
//# endfor
    }
}
