// Sum, extreme or product over an axis, in parts, of any dtype. An item is one element of the output.
//# set init = {"sum": "Value(0)", "max": "input[start]", "min": "input[start]", "product": "Value(1)"}[function]
//# set combined = {"sum": "all + one", "max": "max(all, one)", "min": "min(all, one)", "product": "all * one"}[function]
alias Value = ${dtype};

struct Params {
    items: u32,
    per_group: u32,
    length: u32,
    parts: u32,  // of the axis
    part: u32,   // elements of a part; the last may have fewer
    inner: u32,
}
@group(0) @binding(0) var<storage, read> input: array<Value>;         // [outer, length, inner]
@group(0) @binding(1) var<storage, read_write> output: array<Value>;  // [outer, parts, inner]
${params} params: Params;

fn compute(item: u32) {
    let parts = item / params.inner;
    let outer = parts / params.parts;
    let first = (parts - outer * params.parts) * params.part;
    let count = min(params.part, params.length - first);
    let start = (outer * params.length + first) * params.inner + item - parts * params.inner;
    var all = ${init};
    for (var i = 0u; i < count; i++) {
        let one = input[start + i * params.inner];
        all = ${combined};
    }
    output[item] = all;
}

//# include "lib/items.wgsl"
