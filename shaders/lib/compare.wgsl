// Comparisons of two vectors of values, after lib/pack.wgsl: 1 where they hold, else 0. `Stored`
// is what becomes of them in memory.
alias Stored = vec4<u32>;

fn stored(values: vec4<u32>) -> Stored { return values; }

fn equal(a: Values, b: Values) -> vec4<u32> { return vec4<u32>(a == b); }

fn less(a: Values, b: Values) -> vec4<u32> { return vec4<u32>(a < b); }

fn less_or_equal(a: Values, b: Values) -> vec4<u32> { return vec4<u32>(a <= b); }

fn greater(a: Values, b: Values) -> vec4<u32> { return vec4<u32>(a > b); }

fn greater_or_equal(a: Values, b: Values) -> vec4<u32> { return vec4<u32>(a >= b); }
