// Pads or crops a tensor along any axes. An item is four neighbouring elements of the output.
// Axes are counted from the innermost. With `quads`, sizes of the innermost axis are in vectors
// of four elements, which stay together. Takes `bytes`, `quads`, and `mode`: what is read
// outside of the input, a "constant", its "reflect"ion in the first and last element, its "edge", or itself again ("wrap").
struct Params {
    items: u32, per_group: u32, elements: u32, axes: u32,
    dims_low: vec4<u32>, dims_high: vec4<u32>,      // sizes of the output
    sizes_low: vec4<u32>, sizes_high: vec4<u32>,    // sizes of the input
    before_low: vec4<u32>, before_high: vec4<u32>,  // elements added before; those taken away wrap
    fill: u32,                                      // the constant; of two bytes, twice
}
@group(0) @binding(1) var<storage, read_write> output: array<Quad>;  // [items]
${params} params: Params;

//# include "lib/axes.wgsl"

struct Place { index: u32, inside: bool }

// The index in an axis of the input for one that may lie outside.
fn within(position: i32, size: i32) -> i32 {
//# if mode == "reflect"
    return size - 1 - abs(size - 1 - abs(position));
//# elif mode == "wrap"
    let rest = position % size;
    return select(rest, rest + size, rest < 0);
//# else
    return clamp(position, 0, size - 1);
//# endif
}

fn place(element: u32) -> Place {
    var rest = element;
    var place = Place(0u, true);
    var stride = 1u;
    for (var axis = 0u; axis < params.axes; axis++) {
        let dim = of_axis(params.dims_low, params.dims_high, axis);
        let size = of_axis(params.sizes_low, params.sizes_high, axis);
        let outer = rest / dim;
        let position = rest - outer * dim - of_axis(params.before_low, params.before_high, axis);
        place.inside = place.inside && ${"position < size" if mode == "constant" else "true"};
        place.index += u32(within(bitcast<i32>(position), bitcast<i32>(size))) * stride;
        stride *= size;
        rest = outer;
    }
    return Place(select(0u, place.index, place.inside), place.inside);
}

//# if quads
alias Quad = vec${bytes}<u32>;
@group(0) @binding(0) var<storage, read> input: array<Quad>;

fn compute(item: u32) {
    let source = place(item);
    output[item] = select(Quad(params.fill), input[source.index], source.inside);
}
//# else
@group(0) @binding(0) var<storage, read> input: array<u32>;
//# include "lib/elements.wgsl"

fn compute(item: u32) {
    var elements: vec4<u32>;
    for (var i = 0u; i < 4u; i++) {
        let source = place(min(item * 4u + i, params.elements - 1u));
        elements[i] = select(params.fill${" & 0xffffu" if bytes == 2 else ""}, read_element(source.index), source.inside);
    }
    output[item] = join(elements);
}
//# endif

//# include "lib/items.wgsl"
