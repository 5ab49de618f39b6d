// Marks the tokens of prompts in the count state: bit 31 of a token's count. One invocation
// a token; tokens outside the vocabulary and rows without a slot are ignored.

struct Params {
    rows: u32,
    vocab: u32,
    slots: u32,
}

${params} params: Params;
@group(0) @binding(0) var<storage, read> tokens: array<u32>;                  // [rows]
@group(0) @binding(1) var<storage, read> row_slots: array<u32>;               // [rows]
@group(0) @binding(2) var<storage, read_write> counts: array<atomic<u32>>;    // [slots, vocab]

@compute @workgroup_size(${width})
fn main(@builtin(global_invocation_id) global: vec3<u32>) {
    if global.x >= params.rows { return; }
    let token = tokens[global.x];
    let slot = row_slots[global.x];
    if token < params.vocab && slot < params.slots {
        atomicOr(&counts[slot * params.vocab + token], 0x80000000u);
    }
}
