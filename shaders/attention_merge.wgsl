// Merges what the workgroups of attention.wgsl found that shared the keys of a query. One
// invocation computes one vector of one head.

const LOWEST: f32 = -1e30; // below every score

struct Params {
    items: u32,        // rows * heads
    head_dim: u32,
    head_vectors: u32, // vectors of four from one head to the next, padding included
    splits: u32,
    row_groups: u32,   // workgroups in x
}

@group(0) @binding(0) var<storage, read> pieces: array<vec4<f32>>;   // [splits, items, head_vectors + 1]
@group(0) @binding(1) var<storage, read_write> output: array<f32>;    // [items, head_dim]
${params} params: Params;

@compute @workgroup_size(${width})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = (group.y * params.row_groups + group.x) * ${width}u + lane;
    let item = at / params.head_vectors;
    let vector = at % params.head_vectors;
    if item >= params.items { return; }
    let pitch = params.head_vectors + 1u;
    let step = params.items * pitch;
    let first = item * pitch;
    var highest = LOWEST;
    for (var split = 0u; split < params.splits; split++) {
        highest = max(highest, pieces[first + split * step + params.head_vectors].x);
    }
    var sum = vec4<f32>(0.0);
    var weight = 0.0;
    for (var split = 0u; split < params.splits; split++) {
        let stats = pieces[first + split * step + params.head_vectors];
        let factor = exp2(stats.x - highest);
        weight += stats.y * factor;
        sum += pieces[first + split * step + vector] * factor;
    }
    let result = sum * select(0.0, 1.0 / weight, weight > 0.0);
    for (var i = 0u; i < 4u; i++) {
        let dim = vector * 4u + i;
        if dim < params.head_dim { output[item * params.head_dim + dim] = result[i]; }
    }
}
