// Bandwidth of reading workgroup memory: sums of vectors of four, neighbouring ones by neighbouring lanes.
const WIDTH: u32 = ${width}u;
const VECTORS: u32 = 512u;

struct Params { rounds: u32 }
@group(0) @binding(0) var<storage, read> input: array<vec4<f32>>;         // [VECTORS]
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;  // [invocations]
${params} params: Params;

var<workgroup> shared_input: array<vec4<f32>, VECTORS>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var i = lane; i < VECTORS; i += WIDTH) { shared_input[i] = input[i]; }
    workgroupBarrier();
    var at = lane;
//# for k in range(4)
    var sum_${k} = vec4<f32>();
//# endfor
    for (var round = 0u; round < params.rounds; round++) {
//# for k in range(4)
        sum_${k} += shared_input[(at + ${k * 32}u) % VECTORS];
//# endfor
        at += 128u;
    }
    output[global.x] = (sum_0 + sum_1) + (sum_2 + sum_3);
}
