// Index of the largest or smallest element along an axis, in parts. NaN are passed over. An item is
// one element of the output. With `merge`, it is the best of the candidates that the parts of a
// dispatch before have named.
//# set number = "(bitcast<u32>(value) << 1u) <= 0xff000000u" if dtype == "f32" else "true"
alias Value = ${dtype};

struct Params {
    items: u32,
    per_group: u32,
    length: u32,  // of the axis
    count: u32,   // of candidates along it: `length`, or parts before
    parts: u32,   // of these
    part: u32,    // candidates of a part; the last may have fewer
    inner: u32,
}
@group(0) @binding(0) var<storage, read> input: array<Value>;       // [outer, length, inner]
@group(0) @binding(1) var<storage, read_write> output: array<u32>;  // [outer, parts, inner]
${params} params: Params;

//# if merge
@group(0) @binding(2) var<storage, read> candidates: array<u32>;    // [outer, count, inner]

fn candidate(i: u32, place: u32) -> u32 { return candidates[place]; }
//# else
fn candidate(i: u32, place: u32) -> u32 { return i; }
//# endif

fn compute(item: u32) {
    let parts = item / params.inner;
    let outer = parts / params.parts;
    let column = item - parts * params.inner;
    let start = (parts - outer * params.parts) * params.part;
    let end = min(start + params.part, params.count);
    let base = outer * params.length * params.inner + column;
    var best: Value;
    var index = candidate(start, (outer * params.count + start) * params.inner + column);
    var found = false;
    for (var i = start; i < end; i++) {
        let one = candidate(i, (outer * params.count + i) * params.inner + column);
        let value = input[base + one * params.inner];
        if ${number} && (!found || value ${wins} best) {
            best = value;
            index = one;
            found = true;
        }
    }
    output[item] = index;
}

//# include "lib/items.wgsl"
