// Copies a tensor where another axis than the output's innermost is the innermost of the input:
// four neighbouring elements of that axis by four of the other at a time, as whole vectors. An
// item is such a block. Eight neighbouring ones share a tile along the
// output's innermost axis, so that GPUs and caches see whole lines on both sides. Axes are
// counted from the innermost of the output; strides and the offset are in vectors, negative ones
// wrap. Takes `bytes`.

struct Params {
    items: u32, per_group: u32, axes: u32,
    inner: u32,         // the axis that is innermost in the input
    blocks: vec4<u32>,  // along axis 0, along `inner`; tiles along `inner`, in all of both axes
    dims_low: vec4<u32>, dims_high: vec4<u32>,
    strides_low: vec4<u32>, strides_high: vec4<u32>,
    offset: u32,
    shift: u32,         // a tile is 2^shift blocks along axis 0
}
alias Quad = vec${bytes}<u32>;
@group(0) @binding(0) var<storage, read> input: array<Quad>;
@group(0) @binding(1) var<storage, read_write> output: array<Quad>;
${params} params: Params;

//# include "lib/axes.wgsl"

//# if bytes == 4
fn turn(rows: array<Quad, 4>) -> array<Quad, 4> {
    let a = rows[0];
    let b = rows[1];
    let c = rows[2];
    let d = rows[3];
    return array<Quad, 4>(
        Quad(a.x, b.x, c.x, d.x),
        Quad(a.y, b.y, c.y, d.y),
        Quad(a.z, b.z, c.z, d.z),
        Quad(a.w, b.w, c.w, d.w),
    );
}
//# else
// Two elements of two rows: the lower halves, and the upper ones.
fn lower(one: u32, other: u32) -> u32 { return (one & 0xffffu) | (other << 16u); }

fn upper(one: u32, other: u32) -> u32 { return (one >> 16u) | (other & 0xffff0000u); }

fn turn(rows: array<Quad, 4>) -> array<Quad, 4> {
    let a = rows[0];
    let b = rows[1];
    let c = rows[2];
    let d = rows[3];
    return array<Quad, 4>(
        Quad(lower(a.x, b.x), lower(c.x, d.x)),
        Quad(upper(a.x, b.x), upper(c.x, d.x)),
        Quad(lower(a.y, b.y), lower(c.y, d.y)),
        Quad(upper(a.y, b.y), upper(c.y, d.y)),
    );
}
//# endif

fn compute(item: u32) {
    let lane = item & 7u;
    let tile = item >> 3u;
    let others = tile / params.blocks.w;
    let rest = tile - others * params.blocks.w;
    let first_tile = rest / params.blocks.z;
    let x = (first_tile << params.shift) + (lane & ((1u << params.shift) - 1u));
    let y = ((rest - first_tile * params.blocks.z) << (3u - params.shift)) + (lane >> params.shift);
    if x >= params.blocks.x || y >= params.blocks.y { return; }
    var place = params.offset + 4u * x * params.strides_low.x + y;
    var to = x;
    var outer = others;
    var pitch = params.dims_low.x / 4u;
    var row_pitch = 0u;
    for (var axis = 1u; axis < params.axes; axis++) {
        let size = of_axis(params.dims_low, params.dims_high, axis);
        if axis == params.inner {
            row_pitch = pitch;
        } else {
            let next = outer / size;
            place += (outer - next * size) * of_axis(params.strides_low, params.strides_high, axis);
            to += (outer - next * size) * pitch;
            outer = next;
        }
        pitch *= size;
    }
    to += 4u * y * row_pitch;
    let step = params.strides_low.x;
    let rows = array<Quad, 4>(input[place], input[place + step], input[place + 2u * step], input[place + 3u * step]);
    let turned = turn(rows);
    output[to] = turned[0];
    output[to + row_pitch] = turned[1];
    output[to + 2u * row_pitch] = turned[2];
    output[to + 3u * row_pitch] = turned[3];
}

//# include "lib/items.wgsl"
