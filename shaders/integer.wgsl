// A function of every element that is computed in integers. An item is four elements.
alias From = vec4<${from}>;
alias To = vec4<${to}>;

struct Params { items: u32, per_group: u32 }
@group(0) @binding(0) var<storage, read> input: array<From>;       // [items]
@group(0) @binding(1) var<storage, read_write> output: array<To>;  // [items]
${params} params: Params;

fn compute(item: u32) {
    let x = input[item];
    let bits = bitcast<vec4<u32>>(x);
    output[item] = To(${expression});
}

//# include "lib/items.wgsl"
