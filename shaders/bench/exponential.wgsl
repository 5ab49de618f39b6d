// Rate of exponentials: four independent chains of them in registers.
const WIDTH: u32 = ${width}u;

struct Params { rounds: u32 }
@group(0) @binding(0) var<storage, read> input: array<f32>;         // starts of the chains
@group(0) @binding(1) var<storage, read_write> output: array<f32>;  // [invocations]
${params} params: Params;

@compute @workgroup_size(WIDTH)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
//# for k in range(4)
    var chain_${k} = input[lane + ${k}u];
//# endfor
    for (var round = 0u; round < params.rounds; round++) {
//# for k in range(4)
        chain_${k} = exp(-chain_${k});
//# endfor
    }
    output[global.x] = chain_0 + chain_1 + chain_2 + chain_3;
}
