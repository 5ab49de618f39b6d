// A function of the elements of two tensors that are broadcast to one shape in any way.
// An item is four neighbouring elements of the output, each read at its own place.
// Axes are counted from the innermost; strides are in elements, 0 where broadcast.
//# include "lib/pack.wgsl"
//# if compares
//# include "lib/compare.wgsl"
//# else
//# include "lib/binary.wgsl"
//# endif
//# include "lib/axes.wgsl"

struct Params {
    items: u32, per_group: u32, elements: u32, axes: u32,
    dims_low: vec4<u32>, dims_high: vec4<u32>,
    left_low: vec4<u32>, left_high: vec4<u32>,
    right_low: vec4<u32>, right_high: vec4<u32>,
}
@group(0) @binding(0) var<storage, read> left: array<Word>;
@group(0) @binding(1) var<storage, read> right: array<Word>;
@group(0) @binding(2) var<storage, read_write> output: array<Stored>;  // [items]
${params} params: Params;

fn strides(axis: u32) -> vec2<u32> {
    return vec2<u32>(
        of_axis(params.left_low, params.left_high, axis),
        of_axis(params.right_low, params.right_high, axis),
    );
}

// Where an element of the output lies in the left and in the right operand.
fn places(element: u32) -> vec2<u32> {
    var rest = element;
    var place = vec2<u32>(0u);
    for (var axis = 0u; axis + 1u < params.axes; axis++) {
        let size = of_axis(params.dims_low, params.dims_high, axis);
        let outer = rest / size;
        place += (rest - outer * size) * strides(axis);
        rest = outer;
    }
    return place + rest * strides(params.axes - 1u);
}

fn compute(item: u32) {
    var a: Values;
    var b: Values;
    var element = item * 4u;
    var source = places(element);
    // Divisions are slow: within the innermost axis, the next element is one stride away.
    var column = element % max(params.dims_low.x, 1u);
    for (var i = 0u; i < 4u; i++) {
        a[i] = unpack_one(left[source.x / WORD], source.x);
        b[i] = unpack_one(right[source.y / WORD], source.y);
        element++;
        if element >= params.elements { break; }
        column++;
        if column < params.dims_low.x {
            source += vec2<u32>(params.left_low.x, params.right_low.x);
        } else {
            source = places(element);
            column = 0u;
        }
    }
    output[item] = stored(${function}(a, b));
}

//# include "lib/items.wgsl"
