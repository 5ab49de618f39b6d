// Slices of a tensor along one axis, by their indices. An item is four elements of the output.
struct Params {
    items: u32,
    per_group: u32,
    elements: u32,
    axis_size: u32,
    indices: u32,
    inner: u32,
    from_end: u32,
}
@group(0) @binding(0) var<storage, read> input: array<u32>;           // [outer, axis_size, inner]
@group(0) @binding(1) var<storage, read> places: array<u32>;          // [indices]
//# include "lib/elements.wgsl"
@group(0) @binding(2) var<storage, read_write> output: array<Quad>;   // [outer, indices, inner]
${params} params: Params;

fn source(element: u32) -> u32 {
    let position = element / params.inner;
    var place = places[position % params.indices];
    // Negative indices count from the end; what is outside is clamped.
    if params.from_end == 1u && place >= 0x80000000u { place = u32(max(bitcast<i32>(place + params.axis_size), 0)); }
    place = min(place, params.axis_size - 1u);
    return ((position / params.indices) * params.axis_size + place) * params.inner + element % params.inner;
}

fn compute(item: u32) {
    var elements: vec4<u32>;
    for (var i = 0u; i < 4u; i++) {
        let element = min(item * 4u + i, params.elements - 1u);
        elements[i] = read_element(source(element));
    }
    output[item] = join(elements);
}

//# include "lib/items.wgsl"
