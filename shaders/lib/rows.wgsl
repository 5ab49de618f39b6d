// Entry point of kernels that compute one row at a time: calls the shader's `compute_row(row)`
// for each row of the workgroup's share (RowSpread in kernel/grid.rs). An invocation takes the
// row's chunks `first`, `first + stride`, ...; row_sum, row_max, row_product and row_min_index
// combine the values of all invocations of the row and return the result to each of them.
// Takes `width`, `vectors` (a chunk is four elements) and `row_by`, who computes a row: one
// "lane", one "subgroup", a "workgroup" with subgroups, or a workgroup without ("plain").
// Needs `params.rows` and `params.rows_per_group`.
const WIDTH: u32 = ${width}u;

var<private> first: u32;
var<private> stride: u32;

// The index of nothing: larger than any.
const NONE: u32 = 0xffffffffu;

// Minus infinity, of which WGSL has no constant.
fn lowest() -> f32 {
    var bits = 0xff800000u;
    return bitcast<f32>(bits);
}

//# if vectors
alias Chunk = vec4<f32>;
const CHUNK: u32 = 4u;

fn chunk_sum(chunk: Chunk) -> f32 { return (chunk.x + chunk.y) + (chunk.z + chunk.w); }

fn chunk_max(chunk: Chunk) -> f32 { return max(max(chunk.x, chunk.y), max(chunk.z, chunk.w)); }

fn chunk_product(chunk: Chunk) -> f32 { return (chunk.x * chunk.y) * (chunk.z * chunk.w); }

// Place of the first element that equals the value; one must.
fn chunk_find(chunk: Chunk, value: f32) -> u32 {
    return select(select(select(3u, 2u, chunk.z == value), 1u, chunk.y == value), 0u, chunk.x == value);
}
//# else
alias Chunk = f32;
const CHUNK: u32 = 1u;

fn chunk_sum(chunk: Chunk) -> f32 { return chunk; }

fn chunk_max(chunk: Chunk) -> f32 { return chunk; }

fn chunk_product(chunk: Chunk) -> f32 { return chunk; }

fn chunk_find(chunk: Chunk, value: f32) -> u32 { return 0u; }
//# endif

//# if row_by == "lane"
fn row_sum(value: f32) -> f32 { return value; }

fn row_max(value: f32) -> f32 { return value; }

fn row_product(value: f32) -> f32 { return value; }

fn row_min_index(value: u32) -> u32 { return value; }

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    first = 0u;
    stride = 1u;
    let start = group.x * params.rows_per_group;
    let end = min(start + params.rows_per_group, params.rows);
    for (var row = start + lane; row < end; row += WIDTH) { compute_row(row); }
}
//# elif row_by == "subgroup"
fn row_sum(value: f32) -> f32 { return subgroupAdd(value); }

fn row_max(value: f32) -> f32 { return subgroupMax(value); }

fn row_product(value: f32) -> f32 { return subgroupMul(value); }

fn row_min_index(value: u32) -> u32 { return subgroupMin(value); }

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_size) subgroup_size: u32,
) {
    first = lane;
    stride = min(subgroup_size, WIDTH);
    let start = group.x * params.rows_per_group;
    let end = min(start + params.rows_per_group, params.rows);
    for (var row = start + subgroup; row < end; row += subgroups) { compute_row(row); }
}
//# elif row_by == "workgroup"
var<workgroup> partial: array<u32, WIDTH / 4u>; // one of each subgroup; they have at least four lanes
var<private> place: vec3<u32>; // lane in the subgroup, subgroup, number of subgroups

//# for name, kind, collective, both in [["sum", "f32", "subgroupAdd", "all + one"], ["max", "f32", "subgroupMax", "max(all, one)"], ["product", "f32", "subgroupMul", "all * one"], ["min_index", "u32", "subgroupMin", "min(all, one)"]]
fn row_${name}(value: ${kind}) -> ${kind} {
    let in_subgroup = ${collective}(value);
    if place.x == 0u { partial[place.y] = bitcast<u32>(in_subgroup); }
    workgroupBarrier();
    var all = bitcast<${kind}>(partial[0]);
    for (var i = 1u; i < place.z; i++) {
        let one = bitcast<${kind}>(partial[i]);
        all = ${both};
    }
    workgroupBarrier();
    return all;
}

//# endfor
@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    place = vec3<u32>(subgroup_lane, subgroup, subgroups);
    first = lane;
    stride = WIDTH;
    let start = group.x * params.rows_per_group;
    let end = min(start + params.rows_per_group, params.rows);
    for (var row = start; row < end; row++) { compute_row(row); }
}
//# else
var<workgroup> partial: array<u32, WIDTH>;

//# for name, kind, both in [["sum", "f32", "one + other"], ["max", "f32", "max(one, other)"], ["product", "f32", "one * other"], ["min_index", "u32", "min(one, other)"]]
fn row_${name}(value: ${kind}) -> ${kind} {
    partial[first] = bitcast<u32>(value);
    workgroupBarrier();
    for (var step = WIDTH / 2u; step > 0u; step = step / 2u) {
        if first < step {
            let one = bitcast<${kind}>(partial[first]);
            let other = bitcast<${kind}>(partial[first + step]);
            partial[first] = bitcast<u32>(${both});
        }
        workgroupBarrier();
    }
    let all = bitcast<${kind}>(partial[0]);
    workgroupBarrier();
    return all;
}

//# endfor
@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    first = lane;
    stride = WIDTH;
    let start = group.x * params.rows_per_group;
    let end = min(start + params.rows_per_group, params.rows);
    for (var row = start; row < end; row++) { compute_row(row); }
}
//# endif
