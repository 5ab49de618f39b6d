// Keys by which elements of any dtype are sorted, the first having the largest: u32 in the order
// of the values, or in the reverse where the smallest come first. Takes `dtype` and `smallest`;
// needs the binding `input: array<u32>`.
//# include "lib/float_key.wgsl"
//# set value = {"f32": "key_of(bitcast<f32>(input[place]))", "i32": "input[place] ^ 0x80000000u", "u32": "input[place]"}[dtype]

fn order_key(place: u32) -> u32 { return ${"~" if smallest else ""}(${value}); }
