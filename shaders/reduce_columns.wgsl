// Sum, maximum or product over an axis that is not the last, in parts. An item is one chunk of the
// output. `sign` and `scale` as in reduce_rows.wgsl.
//# set init = {"sum": "Chunk(0.0)", "max": "input[start] * params.sign", "product": "Chunk(1.0)"}[function]
//# set combined = {"sum": "all + one", "max": "max(all, one)", "product": "all * one"}[function]
//# set one = {"itself": "x", "abs": "abs(x)", "square": "x * x"}[before]
//# set finished = {"itself": "result", "sqrt": "sqrt(result)", "log": "log(result)"}[after]
alias Chunk = ${chunk}; // four neighbouring elements of the inner axes, or one

struct Params {
    items: u32,
    per_group: u32,
    length: u32,
    parts: u32,   // of the axis
    part: u32,    // elements of a part; the last may have fewer
    inner: u32,
    sign: f32,
    scale: f32,
}
@group(0) @binding(0) var<storage, read> input: array<Chunk>;         // [outer, length, inner]
@group(0) @binding(1) var<storage, read_write> output: array<Chunk>;  // [outer, parts, inner]
${params} params: Params;

fn compute(item: u32) {
    let parts = item / params.inner;
    let outer = parts / params.parts;
    let first = (parts - outer * params.parts) * params.part;
    let count = min(params.part, params.length - first);
    let start = (outer * params.length + first) * params.inner + item - parts * params.inner;
    var all = ${init};
    for (var i = 0u; i < count; i++) {
        let x = input[start + i * params.inner] * params.sign;
        let one = ${one};
        all = ${combined};
    }
    let result = all * params.scale;
    output[item] = ${finished};
}

//# include "lib/items.wgsl"
