// Copies a tensor along any axes: element [i, j, ...] of the output is element
// offset + i strides[0] + j strides[1] + ... of the input. An item is four neighbouring
// elements of the output. Axes are counted from the innermost; negative strides wrap. With
// `quads`, sizes, strides and the offset are in vectors of four elements, which stay together.

struct Params {
    items: u32, per_group: u32, elements: u32, axes: u32,
    dims_low: vec4<u32>, dims_high: vec4<u32>,
    strides_low: vec4<u32>, strides_high: vec4<u32>,
    offset: u32, columns: u32,  // items in a run of the innermost axis; of all, without `quads`
}
@group(0) @binding(1) var<storage, read_write> output: array<Quad>;  // [items]
${params} params: Params;

//# include "lib/walk.wgsl"

//# if quads
alias Quad = vec${bytes}<u32>;
@group(0) @binding(0) var<storage, read> input: array<Quad>;

var<private> current: u32 = 0xffffffffu;
var<private> start: u32;

fn compute(row: u32, column: u32) {
    // Runs once for each row of a lane; unlike an `if`, adapters that step lanes together skip it.
    while current != row {
        current = row;
        start = params.offset + walk_from(row, 1u);
    }
    output[row * params.columns + column] = input[start + column * params.strides_low.x];
}

//# include "lib/columns.wgsl"
//# else
@group(0) @binding(0) var<storage, read> input: array<u32>;
//# include "lib/elements.wgsl"

fn place(element: u32) -> u32 { return params.offset + walk(element); }

fn compute(item: u32) {
    var elements: vec4<u32>;
    var element = item * 4u;
    var source = place(element);
    // Divisions are slow: within the innermost axis, the next element is one stride away.
    var column = element % max(params.dims_low.x, 1u);
    for (var i = 0u; i < 4u; i++) {
        elements[i] = read_element(source);
        element++;
        if element >= params.elements { break; }
        column++;
        if column < params.dims_low.x {
            source += params.strides_low.x;
        } else {
            source = place(element);
            column = 0u;
        }
    }
    output[item] = join(elements);
}

//# include "lib/items.wgsl"
//# endif
