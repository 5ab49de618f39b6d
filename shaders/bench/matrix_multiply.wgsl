// Rate of matrix units: eight sums of products of f16 tiles in registers. A workgroup is a subgroup.
enable f16;
enable wgpu_cooperative_matrix;
const WIDTH: u32 = ${width}u;
const TILE: u32 = ${side * side}u;
alias Left = coop_mat${side}x${side}<f16, A>;
alias Right = coop_mat${side}x${side}<f16, B>;
alias Sum = coop_mat${side}x${side}<f32, C>;

struct Params { rounds: u32 }
@group(0) @binding(0) var<storage, read> left: array<f16>;          // [8, side, side]
@group(0) @binding(1) var<storage, read> right: array<f16>;         // [side, side]
@group(0) @binding(2) var<storage, read_write> output: array<f32>;  // [groups, 8, side, side]
${params} params: Params;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>) {
    let b = coopLoadT<Right>(&right[0], ${side}u);
//# for k in range(8)
    let a_${k} = coopLoadT<Left>(&left[${k}u * TILE], ${side}u);
    var sum_${k} = Sum();
//# endfor
    for (var round = 0u; round < params.rounds; round++) {
//# for k in range(8)
        sum_${k} = coopMultiplyAdd(a_${k}, b, sum_${k});
//# endfor
    }
//# for k in range(8)
    let at_${k} = (group.x * 8u + ${k}u) * TILE;
    let whole_${k} = sum_${k};
    coopStoreT(whole_${k}, &output[at_${k}], ${side}u);
//# endfor
}
