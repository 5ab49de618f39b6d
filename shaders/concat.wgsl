// Copies one input of a concatenation to its place in the output. An item is a unit of the
// input: a vector of 16 bytes ("vec4<u32>") or four bytes ("u32"); or, where two-byte elements do
// not fill words ("half"), a word of the output, which keeps the halves of other inputs.
// Sizes are in units, or in elements for "half".
//# if unit == "half"
alias Unit = u32;
//# else
alias Unit = ${unit};
//# endif

struct Params { items: u32, per_group: u32, columns: u32, output_columns: u32, offset: u32, elements: u32 }
@group(0) @binding(0) var<storage, read> input: array<Unit>;         // [outer, columns]
@group(0) @binding(1) var<storage, read_write> output: array<Unit>;  // [outer, output_columns]
${params} params: Params;

//# if unit == "half"
fn compute(item: u32) {
    var word = output[item];
    var changed = false;
    for (var half = 0u; half < 2u; half++) {
        let element = item * 2u + half;
        let outer = element / params.output_columns;
        let column = element - outer * params.output_columns - params.offset; // wraps before the offset
        if element < params.elements && column < params.columns {
            let source = outer * params.columns + column;
            let bits = (input[source >> 1u] >> ((source & 1u) * 16u)) & 0xffffu;
            word = (word & (0xffff0000u >> (half * 16u))) | (bits << (half * 16u));
            changed = true;
        }
    }
    if changed { output[item] = word; }
}

//# include "lib/items.wgsl"
//# else
fn compute(outer: u32, column: u32) {
    output[outer * params.output_columns + params.offset + column] = input[outer * params.columns + column];
}

//# include "lib/columns.wgsl"
//# endif
