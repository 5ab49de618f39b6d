// Layer normalisation of rows: (x - mean) / deviation * weight + bias, plus a residual. One pass
// over a row finds its mean and variance: those of a few chunks at a time are merged with those
// before (Chan et al. 1979), which is exact also where the mean is large.
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
//# if residual
@group(0) @binding(3) var<storage, read> residual: array<Element>;      // [rows, cols]
//# endif
@group(0) @binding(4) var<storage, read_write> output: array<Element>;  // [rows, cols]
${params} params: Params;

// Of the elements that an invocation has seen; differences are from its own mean.
var<private> seen: f32;
var<private> mean: f32;
var<private> squares: f32;

fn merge(count: f32, sum: f32, own_squares: f32) {
    let all = seen + count;
    let difference = sum / count - mean;
    squares += own_squares + difference * difference * (seen * count / all);
    mean += difference * (count / all);
    seen = all;
}

fn compute_row(row: u32) {
    let end = (row + 1u) * params.chunks;
    var i = row * params.chunks + first;
    seen = 0.0;
    mean = 0.0;
    squares = 0.0;
    for (; i + 3u * stride < end; i += 4u * stride) {
        let a = input[i];
        let b = input[i + stride];
        let c = input[i + 2u * stride];
        let d = input[i + 3u * stride];
        let sum = chunk_sum((a + b) + (c + d));
        let middle = sum / f32(4u * CHUNK);
        let e = a - middle;
        let f = b - middle;
        let g = c - middle;
        let h = d - middle;
        merge(f32(4u * CHUNK), sum, chunk_sum((e * e + f * f) + (g * g + h * h)));
    }
    for (; i < end; i += stride) {
        let x = input[i];
        let sum = chunk_sum(x);
        let centred = x - sum / f32(CHUNK);
        merge(f32(CHUNK), sum, chunk_sum(centred * centred));
    }
    let row_mean = row_sum(seen * mean) / params.cols;
    let away = mean - row_mean;
    let scale = inverseSqrt(row_sum(squares + seen * away * away) / params.cols + params.eps);
    for (var column = first; column < params.chunks; column += stride) {
        let at = row * params.chunks + column;
        let normed = (input[at] - row_mean) * scale * weight[column];
        output[at] = normed${ " + bias[column]" if bias else "" }${ " + residual[at]" if residual else "" };
    }
}

//# include "lib/rows.wgsl"
