// Time of barriers: each lane hands its value on to the one before it, round after round, by a
// load, a barrier, a store and a barrier.
const WIDTH: u32 = ${width}u;

struct Params { rounds: u32 }
@group(0) @binding(0) var<storage, read> input: array<f32>;         // [WIDTH]
@group(0) @binding(1) var<storage, read_write> output: array<f32>;  // [WIDTH]
${params} params: Params;

var<workgroup> values: array<f32, WIDTH>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(local_invocation_index) lane: u32) {
    values[lane] = input[lane];
    workgroupBarrier();
    for (var round = 0u; round < params.rounds; round++) {
        let next = values[(lane + 1u) % WIDTH];
        workgroupBarrier();
        values[lane] = next;
        workgroupBarrier();
    }
    output[lane] = values[lane];
}
