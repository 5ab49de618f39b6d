// Batched matrix product on software adapters: an invocation owns BLOCK_ROWS rows by four
// columns in registers. Loads bound the time there, so eight lanes load eight different rows of
// a and broadcast them, where subgroups have eight.
const BLOCK_ROWS: u32 = ${block_rows}u;
const FOLD: u32 = 32768u; // batches, and row blocks, in one dimension of the grid

//# include "lib/matmul_operands.wgsl"

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = (group.x * 8u + lane) * 4u;
    for (var first_row = group.y * BLOCK_ROWS; first_row < params.m; first_row += FOLD * BLOCK_ROWS) {
        for (var batch = group.z; batch < batch_count(); batch += FOLD) { compute_block(batch, first_row, column, lane); }
    }
}

fn compute_block(batch: u32, first_row: u32, column: u32, lane: u32) {
    let start = batch_start(batch);
//# for r in range(block_rows)
//# for c in range(4)
    var sum_${r}_${c} = 0.0;
//# endfor
//# endfor
    let vectors = (params.k + 3u) / 4u;
    for (var vector = 0u; vector < vectors; vector++) {
//# if b_form == "columns"
        let columns = load_b_columns(start.y, column, vector);
//# endif
//# for c in range(4)
        let b_${c} = ${"columns[" ~ c ~ "]" if b_form == "columns" else "load_b(start.y, column + " ~ c ~ "u, vector)"};
//# endfor
//# for r in range(block_rows)
//# if not share_a
        let a_${r} = load_a(start.x, first_row + ${r}u, vector);
//# else
//# if r % 8 == 0
        let rows_${r // 8} = load_a(start.x, first_row + ${r}u + lane, vector);
//# endif
        let a_${r} = subgroupBroadcast(rows_${r // 8}, ${r % 8}u);
//# endif
//# for c in range(4)
        sum_${r}_${c} = add_dot(sum_${r}_${c}, a_${r}, b_${c});
//# endfor
//# endfor
    }
    // A loop of unknown length: unrolled, the stores would take most of the time to compile.
    let end_row = min(first_row + BLOCK_ROWS, params.m);
    for (var row = first_row; row < end_row; row++) {
        var sums = vec4<f32>(sum_0_0, sum_0_1, sum_0_2, sum_0_3);
//# for r in range(1, block_rows)
        if row == first_row + ${r}u { sums = vec4<f32>(sum_${r}_0, sum_${r}_1, sum_${r}_2, sum_${r}_3); }
//# endfor
        for (var c = 0u; c < 4u; c++) { store_output(batch, row, column + c, sums[c]); }
    }
}
