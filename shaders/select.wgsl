// One of two values for each element, by a condition. An item is four elements. Of each operand,
// one element serves `inner` neighbouring elements of the output; `count` elements repeat.
struct Params {
    items: u32, per_group: u32, elements: u32,
    condition_inner: u32, condition_count: u32,
    left_inner: u32, left_count: u32,
    right_inner: u32, right_count: u32,
}
@group(0) @binding(0) var<storage, read> condition: array<u32>;
@group(0) @binding(1) var<storage, read> left: array<u32>;
@group(0) @binding(2) var<storage, read> right: array<u32>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<u32>>;  // [items]
${params} params: Params;

fn place(element: u32, inner: u32, count: u32) -> u32 {
    // Divisions are slow, and most operands are of the output's shape.
    if count == params.elements { return element; }
    return element / inner % count;
}

fn compute(item: u32) {
    var values: vec4<u32>;
    for (var i = 0u; i < 4u; i++) {
        let element = min(item * 4u + i, params.elements - 1u);
        if condition[place(element, params.condition_inner, params.condition_count)] != 0u {
            values[i] = left[place(element, params.left_inner, params.left_count)];
        } else {
            values[i] = right[place(element, params.right_inner, params.right_count)];
        }
    }
    output[item] = values;
}

//# include "lib/items.wgsl"
