// Root-mean-square normalisation of the heads of queries and keys; values are copied. A row
// here is one head.
//# if vectors
alias Element = vec4<f32>;
//# else
alias Element = f32;
//# endif

struct Params {
    rows: u32,
    rows_per_group: u32,
    chunks: u32,
    heads: u32,
    kv_heads: u32,
    cols: f32,
    eps: f32,
    offset: f32,
}
@group(0) @binding(0) var<storage, read> input: array<Element>;           // [tokens, heads + 2 kv_heads, head_dim]
@group(0) @binding(1) var<storage, read> query_weight: array<Element>;    // [head_dim]
@group(0) @binding(2) var<storage, read> key_weight: array<Element>;      // [head_dim]
@group(0) @binding(3) var<storage, read_write> output: array<Element>;    // as the input
${params} params: Params;

fn compute_row(row: u32) {
    let start = row * params.chunks;
    let head = row % (params.heads + 2u * params.kv_heads);
    var squares = 0.0;
    for (var i = first; i < params.chunks; i += stride) {
        let x = input[start + i];
        squares += chunk_sum(x * x);
    }
    let scale = inverseSqrt(row_sum(squares) / params.cols + params.eps);
    for (var i = first; i < params.chunks; i += stride) {
        let x = input[start + i];
        if head < params.heads {
            output[start + i] = x * scale * (query_weight[i] + params.offset);
        } else if head < params.heads + params.kv_heads {
            output[start + i] = x * scale * (key_weight[i] + params.offset);
        } else {
            output[start + i] = x;
        }
    }
}

//# include "lib/rows.wgsl"
