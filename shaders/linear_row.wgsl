// Linear layer for one row on software adapters: an invocation owns two weight rows (gated: one
// of each half). Loads bound the time there, so eight lanes load eight vectors of x and
// broadcast them, where subgroups have eight lanes.
const FOLD: u32 = 32768u; // workgroups in one dimension of the grid

//# include "lib/linear_operands.wgsl"
//# include "lib/linear_epilogue.wgsl"

//# set block_vectors = 1 if weight_dtype == "f32" else 2
//# set stored = 1 if gated else 2
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_column = (group.y * FOLD + group.x) * ${8 * stored}u + lane;
//# for c in range(2)
    let weight_${c} = weight_row(first_column + ${c % stored * 8}u, params.${"up_first" if c >= stored else "weight_first"});
    var sum_${c} = 0.0;
//# endfor
    var block = 0u;
//# if share_x
//# set chunk = 8 // block_vectors
    for (; block + ${chunk}u <= params.blocks; block += ${chunk}u) {
        let vectors = load_x(0u, block * BLOCK_VECTORS + lane);
//# for b in range(chunk)
//# for c in range(2)
        let block_${b}_${c} = ${"up_weight" if c >= stored else "weight"}[weight_${c} + block + ${b}u];
//# endfor
//# for v in range(block_vectors)
        let x_${b}_${v} = subgroupBroadcast(vectors, ${b * block_vectors + v}u);
//# for c in range(2)
        sum_${c} = add_dot(sum_${c}, x_${b}_${v}, unpack_block(block_${b}_${c}, ${v}u));
//# endfor
//# endfor
//# endfor
    }
//# endif
    for (; block < params.blocks; block++) {
//# for c in range(2)
        let block_${c} = ${"up_weight" if c >= stored else "weight"}[weight_${c} + block];
//# endfor
//# for v in range(block_vectors)
        let x_${v} = load_x(0u, block * BLOCK_VECTORS + ${v}u);
//# for c in range(2)
        sum_${c} = add_dot(sum_${c}, x_${v}, unpack_block(block_${c}, ${v}u));
//# endfor
//# endfor
    }
//# for c in range(stored)
    store_output(0u, first_column + ${c * 8}u, sum_${c}, sum_${1 - c});
//# endfor
}
