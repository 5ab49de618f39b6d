// Operands of a linear layer: rows of x, rows of the weight in blocks, outputs. Takes the variables
// of lib/weight_block.wgsl, `gated`, and `x_vectors`: whether rows of x are whole blocks, which they
// are with long words.

//# include "lib/epilogue.wgsl"

struct Params {
    rows: u32,          // rows of x
    cols: u32,          // output columns of this launch
    inner: u32,         // elements of a row of x
    blocks: u32,        // blocks of a weight row
    weight_first: u32,  // row of the bound weight part that makes the first column (gated: the gate's)
    up_first: u32,      // gated: the same for the up half
    output_first: u32,  // first output column
    output_pitch: u32,  // output columns of the whole layer
    part_blocks: u32,   // blocks of the inner dimension in a part: all of them, unless parts are summed up apart
    alpha: f32,         // arguments of the activation
    beta: f32,
    eps: f32,           // of the norm of x, and what is added to its gain
    offset: f32,
}
${params} params: Params;

//# include "lib/weight_block.wgsl"

@group(0) @binding(1) var<storage, read> weight: array<WeightBlock>;     // [rows of the part, blocks]
//# if gated
@group(0) @binding(2) var<storage, read> up_weight: array<WeightBlock>;  // [rows of the part, blocks]
//# endif

// Four elements of a row of x; with long words eight.
alias XLoad = ${"mat2x4<f32>" if long_words else "vec4<f32>"};
//# if long_words
@group(0) @binding(0) var<storage, read> x: array<vec4<u64>>;  // [rows, inner / 8]

fn load_x(row: u32, pair: u32) -> XLoad {
    let words = x[row * (params.inner / 8u) + pair];
    return XLoad(bitcast<vec4<f32>>(words_of(words.xy)), bitcast<vec4<f32>>(words_of(words.zw)));
}
//# elif x_vectors
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;  // [rows, inner / 4]

fn load_x(row: u32, vector: u32) -> vec4<f32> { return x[row * (params.inner / 4u) + vector]; }
//# else
@group(0) @binding(0) var<storage, read> x: array<f32>;  // [rows, inner]

fn load_x(row: u32, vector: u32) -> vec4<f32> {
    let k = vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let at = vec4<u32>(row * params.inner) + min(k, vec4<u32>(params.inner - 1u));
    return select(vec4<f32>(), vec4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]), k < vec4<u32>(params.inner));
}
//# endif

// First block of the weight row of an output column; columns past the end read the last one.
fn weight_row(column: u32, first: u32) -> u32 {
    return (min(column, params.cols - 1u) + first) * params.blocks;
}

// sum + a . b, in four fused steps.
fn add_dot(sum: f32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

// Parts of the inner dimension.
fn part_count() -> u32 { return (params.blocks + params.part_blocks - 1u) / params.part_blocks; }

// Finishes the outputs of a row from `column` on in a part, unless they are past the end.
fn store_part(part: u32, row: u32, column: u32, sum: Value, up: Value) {
    if row >= params.rows || column >= params.cols { return; }
    let at = params.output_first + column;
    let index = (part * params.rows + row) * params.output_pitch + at;
    finish_output(index / VALUE, at / VALUE, sum, (params.output_pitch + at) / VALUE, up);
}

fn store_output(row: u32, column: u32, sum: Value, up: Value) { store_part(0u, row, column, sum, up); }
