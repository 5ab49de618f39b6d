// A function of every element, computed in f32. An item is four elements.
//# include "lib/pack.wgsl"
//# include "lib/activate.wgsl"

struct Params { items: u32, per_group: u32, alpha: f32, beta: f32 }
@group(0) @binding(0) var<storage, read> input: array<Packed>;         // [items]
@group(0) @binding(1) var<storage, read_write> output: array<Packed>;  // [items]
${params} params: Params;

fn compute(item: u32) { output[item] = pack(activate_vector(unpack(input[item]))); }

//# include "lib/items.wgsl"
