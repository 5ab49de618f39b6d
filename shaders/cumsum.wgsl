// Running sums along an axis, in parts. An item is one part of a column.
alias Value = ${dtype};

struct Params {
    items: u32,
    per_group: u32,
    length: u32,
    parts: u32,      // of the axis
    part: u32,       // elements of a part; the last may have fewer
    inner: u32,
    exclusive: u32,  // 1 where an element is not part of its own sum
    reverse: u32,    // 1 where the sums run from the end
}
@group(0) @binding(0) var<storage, read> input: array<Value>;         // [outer, length, inner]
@group(0) @binding(1) var<storage, read_write> output: array<Value>;  // [outer, length, inner]
//# if starts
@group(0) @binding(2) var<storage, read> starts: array<Value>;        // [outer, parts, inner]
//# endif
${params} params: Params;

fn compute(item: u32) {
    let parts = item / params.inner;
    let outer = parts / params.parts;
    let start = (parts - outer * params.parts) * params.part;
    let count = min(params.part, params.length - start);
    let first = select(start, start + count - 1u, params.reverse == 1u);
    let step = select(params.inner, 0u - params.inner, params.reverse == 1u);
    var place = (outer * params.length + first) * params.inner + item - parts * params.inner;
    var sum = ${"starts[item]" if starts else "Value()"};
    for (var i = 0u; i < count; i++) {
        let before = sum;
        sum += input[place];
        output[place] = select(sum, before, params.exclusive == 1u);
        place += step;
    }
}

//# include "lib/items.wgsl"
