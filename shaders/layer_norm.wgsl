// Layer normalisation of rows: (x - mean) / deviation * weight + bias.
//# if vectors
alias Element = vec4<f32>;
//# else
alias Element = f32;
//# endif

struct Params { rows: u32, rows_per_group: u32, chunks: u32, cols: f32, eps: f32 }
@group(0) @binding(0) var<storage, read> input: array<Element>;         // [rows, cols]
@group(0) @binding(1) var<storage, read> weight: array<Element>;        // [cols]
//# if bias
@group(0) @binding(2) var<storage, read> bias: array<Element>;          // [cols]
//# endif
@group(0) @binding(3) var<storage, read_write> output: array<Element>;  // [rows, cols]
${params} params: Params;

fn compute_row(row: u32) {
    let start = row * params.chunks;
    var sum = 0.0;
    for (var i = first; i < params.chunks; i += stride) { sum += chunk_sum(input[start + i]); }
    let mean = row_sum(sum) / params.cols;
    var squares = 0.0;
    for (var i = first; i < params.chunks; i += stride) {
        let centred = input[start + i] - mean;
        squares += chunk_sum(centred * centred);
    }
    let scale = inverseSqrt(row_sum(squares) / params.cols + params.eps);
    for (var i = first; i < params.chunks; i += stride) {
        let normed = (input[start + i] - mean) * scale * weight[i];
        output[start + i] = normed${ " + bias[i]" if bias else "" };
    }
}

//# include "lib/rows.wgsl"
