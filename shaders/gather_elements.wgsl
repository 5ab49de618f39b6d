// Elements of a tensor by an index of one axis each. An item is four elements of the output.
struct Params {
    items: u32, per_group: u32, elements: u32, axes: u32,
    dims_low: vec4<u32>, dims_high: vec4<u32>,        // of the output
    strides_low: vec4<u32>, strides_high: vec4<u32>,  // of x, 0 along the axis that is indexed
    axis_size: u32,
    axis_stride: u32,
    from_end: u32,  // 1 where negative indices count from the end
}
@group(0) @binding(0) var<storage, read> input: array<u32>;
@group(0) @binding(1) var<storage, read> places: array<u32>;         // as the output
//# include "lib/elements.wgsl"
@group(0) @binding(2) var<storage, read_write> output: array<Quad>;  // [items]
${params} params: Params;

//# include "lib/walk.wgsl"

fn source(element: u32) -> u32 {
    var place = places[element];
    if params.from_end == 1u && place >= 0x80000000u { place = u32(max(bitcast<i32>(place + params.axis_size), 0)); }
    return walk(element) + min(place, params.axis_size - 1u) * params.axis_stride;
}

fn compute(item: u32) {
    var elements: vec4<u32>;
    for (var i = 0u; i < 4u; i++) {
        elements[i] = read_element(source(min(item * 4u + i, params.elements - 1u)));
    }
    output[item] = join(elements);
}

//# include "lib/items.wgsl"
