// Entry point of kernels whose items are independent: calls the shader's `compute(item)` for
// each item of the workgroup's share (Spread in kernel/grid.rs). Takes `width`; needs
// `params.items` and `params.per_group`.
const WIDTH: u32 = ${width}u;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let start = group.x * params.per_group;
    let end = min(start + params.per_group, params.items);
    for (var item = start + lane; item < end; item += WIDTH) { compute(item); }
}
