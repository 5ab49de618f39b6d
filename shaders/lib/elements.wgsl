// Single elements of two or four bytes as bits, for kernels that only move data: `Quad` is four
// neighbouring elements of an output. Takes `bytes`; needs the binding `input: array<u32>`.
//# if bytes == 4
alias Quad = vec4<u32>;

fn read_element(index: u32) -> u32 { return input[index]; }

fn join(elements: vec4<u32>) -> Quad { return elements; }
//# else
alias Quad = vec2<u32>;

fn read_element(index: u32) -> u32 { return (input[index >> 1u] >> ((index & 1u) * 16u)) & 0xffffu; }

fn join(elements: vec4<u32>) -> Quad { return elements.xz | (elements.yw << vec2<u32>(16u)); }
//# endif
