// Linear layer for several rows on software adapters: an invocation owns BLOCK_ROWS rows by
// four weight rows (gated: two of each half), in registers. Loads bound the time there, so
// eight lanes load eight different rows of x and broadcast them, where subgroups have eight.
const BLOCK_ROWS: u32 = ${block_rows}u;
const FOLD: u32 = 32768u; // row blocks in one dimension of the grid

//# include "lib/linear_operands.wgsl"
//# include "lib/linear_epilogue.wgsl"

//# set block_vectors = 1 if weight_dtype == "f32" else 2
//# set stored = 2 if gated else 4
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = (group.z * FOLD + group.y) * BLOCK_ROWS;
    let last_row = params.rows - 1u;
    let first_column = group.x * ${8 * stored}u + lane;
//# for c in range(4)
    let weight_${c} = weight_row(first_column + ${c % stored * 8}u, params.${"up_first" if c >= stored else "weight_first"});
//# endfor
//# for r in range(block_rows)
//# for c in range(4)
    var sum_${r}_${c} = 0.0;
//# endfor
//# endfor
    for (var block = 0u; block < params.blocks; block++) {
//# for c in range(4)
        let block_${c} = ${"up_weight" if c >= stored else "weight"}[weight_${c} + block];
//# endfor
//# for v in range(block_vectors)
//# for c in range(4)
        let w_${v}_${c} = unpack_block(block_${c}, ${v}u);
//# endfor
//# for r in range(block_rows)
//# if not share_x
        let x_${v}_${r} = load_x(min(first_row + ${r}u, last_row), block * BLOCK_VECTORS + ${v}u);
//# else
//# if r % 8 == 0
        let rows_${v}_${r // 8} = load_x(min(first_row + ${r}u + lane % min(BLOCK_ROWS, 8u), last_row), block * BLOCK_VECTORS + ${v}u);
//# endif
        let x_${v}_${r} = subgroupBroadcast(rows_${v}_${r // 8}, ${r % 8}u);
//# endif
//# for c in range(4)
        sum_${r}_${c} = add_dot(sum_${r}_${c}, x_${v}_${r}, w_${v}_${c});
//# endfor
//# endfor
//# endfor
    }
//# for r in range(block_rows)
//# for c in range(stored)
    store_output(first_row + ${r}u, first_column + ${c * 8}u, sum_${r}_${c}, sum_${r}_${(c + 2) % 4});
//# endfor
//# endfor
}
