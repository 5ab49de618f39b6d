// A function of the elements of two tensors that are broadcast to one shape in any way.
// An item is four neighbouring elements of the output, each read at its own place.
// Axes are counted from the innermost; strides are in elements, 0 where broadcast.
//# include "lib/pack.wgsl"
//# include "lib/binary.wgsl"
//# include "lib/axes.wgsl"

struct Params {
    items: u32, per_group: u32, elements: u32, axes: u32,
    dims_low: vec4<u32>, dims_high: vec4<u32>,
    left_low: vec4<u32>, left_high: vec4<u32>,
    right_low: vec4<u32>, right_high: vec4<u32>,
}
@group(0) @binding(0) var<storage, read> left: array<Word>;
@group(0) @binding(1) var<storage, read> right: array<Word>;
@group(0) @binding(2) var<storage, read_write> output: array<Packed>;  // [items]
${params} params: Params;

// Where an element of the output lies in the left and in the right operand.
fn places(element: u32) -> vec2<u32> {
    var rest = element;
    var place = vec2<u32>(0u);
    for (var axis = 0u; axis < params.axes; axis++) {
        let size = of_axis(params.dims_low, params.dims_high, axis);
        let strides = vec2<u32>(
            of_axis(params.left_low, params.left_high, axis),
            of_axis(params.right_low, params.right_high, axis),
        );
        place += rest % size * strides;
        rest /= size;
    }
    return place;
}

fn compute(item: u32) {
    var a: Values;
    var b: Values;
    for (var i = 0u; i < 4u; i++) {
        let place = places(min(item * 4u + i, params.elements - 1u));
        a[i] = unpack_one(left[place.x / WORD], place.x);
        b[i] = unpack_one(right[place.y / WORD], place.y);
    }
    output[item] = pack(${function}(a, b));
}

//# include "lib/items.wgsl"
