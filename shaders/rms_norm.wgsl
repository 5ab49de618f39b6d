// Root-mean-square normalisation of rows: x / rms(x) * (weight + offset), plus a residual.
//# if vectors
alias Element = vec4<f32>;
//# else
alias Element = f32;
//# endif

struct Params { rows: u32, rows_per_group: u32, chunks: u32, cols: f32, eps: f32, offset: f32 }
@group(0) @binding(0) var<storage, read> input: array<Element>;         // [rows, cols]
@group(0) @binding(1) var<storage, read> weight: array<Element>;        // [cols]
//# if residual
@group(0) @binding(2) var<storage, read> residual: array<Element>;      // [rows, cols]
//# endif
@group(0) @binding(3) var<storage, read_write> output: array<Element>;  // [rows, cols]
${params} params: Params;

fn compute_row(row: u32) {
    let start = row * params.chunks;
    var squares = 0.0;
    for (var i = first; i < params.chunks; i += stride) {
        let x = input[start + i];
        squares += chunk_sum(x * x);
    }
    let scale = inverseSqrt(row_sum(squares) / params.cols + params.eps);
    for (var i = first; i < params.chunks; i += stride) {
        let normed = input[start + i] * scale * (weight[i] + params.offset);
        output[start + i] = normed${ " + residual[start + i]" if residual else "" };
    }
}

//# include "lib/rows.wgsl"
