// Rate of multiply-adds: independent chains of them in registers, for no loads in between.
//# set half = value != "f32"
//# if half
enable f16;
//# endif
alias Value = ${value};
const WIDTH: u32 = ${width}u;

struct Params { rounds: u32 }
@group(0) @binding(0) var<storage, read> input: array<f32>;         // factor, summand, starts of the chains
@group(0) @binding(1) var<storage, read_write> output: array<f32>;  // [invocations]
${params} params: Params;

@compute @workgroup_size(WIDTH)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let factor = Value(${"f16(input[0])" if half else "input[0]"});
    let summand = Value(${"f16(input[1])" if half else "input[1]"});
//# for k in range(chains)
    var chain_${k} = Value(${"f16" if half else ""}(input[2u + lane + ${k}u]));
//# endfor
    for (var round = 0u; round < params.rounds; round++) {
//# for _ in range(4)
//# for k in range(chains)
        chain_${k} = fma(chain_${k}, factor, summand);
//# endfor
//# endfor
    }
    var sum = Value();
//# for k in range(chains)
    sum += chain_${k};
//# endfor
    output[global.x] = ${"f32(sum.x + sum.y)" if half else "sum"};
}
