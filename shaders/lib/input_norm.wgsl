// Root-mean-square norm of the rows of x in the kernel of the linear layer that reads them: each
// load of x adds to `squares` and is multiplied by the gain, and what is summed up of it is
// multiplied by norm_scale in the end. Takes `norm`, whether there is one, and `normed_rows`, the
// rows that an invocation works on.

//# if norm
@group(0) @binding(7) var<storage, read> gain: array<${"vec4<f32>" if x_vectors else "f32"}>;  // [inner]

var<private> squares: array<f32, ${normed_rows}>;

//# if x_vectors
fn load_gain(vector: u32) -> vec4<f32> { return gain[vector]; }
//# else
fn load_gain(vector: u32) -> vec4<f32> {
    let k = min(vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.inner - 1u));
    return vec4<f32>(gain[k.x], gain[k.y], gain[k.z], gain[k.w]);
}
//# endif

fn count_and_gain(index: u32, x: vec4<f32>, vector: u32) -> vec4<f32> {
    squares[index] += dot(x, x);
    return x * (load_gain(vector) + params.offset);
}

// What a load gives of a row of x, which is the invocation's row `index`.
fn take_x(index: u32, row: u32, at: u32) -> XLoad {
    let x = load_x(row, at);
    return ${"XLoad(count_and_gain(index, x[0], at * 2u), count_and_gain(index, x[1], at * 2u + 1u))" if long_words else "count_and_gain(index, x, at)"};
}

fn norm_scale(sum_of_squares: f32) -> f32 {
    return inverseSqrt(sum_of_squares / max(f32(params.inner), 1.0) + params.eps);
}
//# else
fn take_x(index: u32, row: u32, at: u32) -> XLoad { return load_x(row, at); }
//# endif
