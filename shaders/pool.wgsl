// Pools of images with channels last: an item is the largest element, or the average, of one
// window of one channel, or of four. Takes `value`: "f32" or "vec4<f32>", channels of an item;
// `average`; `adaptive`: windows divide the image into about equal parts; `dilated` and `volumes`:
// whether some dilation and the depth of the output are not 1, for divisions are slow.
alias Value = ${value};

struct Params {
    image: vec4<u32>,     // depth, height and width of x, Values of a pixel
    output: vec4<u32>,    // depth, height and width of the output
    taps: vec4<u32>,      // of a window along depth, height and width, whether padding counts
    stride: vec4<u32>,    // along depth, height and width
    dilation: vec4<u32>,  // along depth, height and width
    before: vec4<u32>,    // padding before depth, height and width
    counted: vec4<u32>,   // end of what an average counts, from the start of the padding
    items: u32,
    per_group: u32,
}
@group(0) @binding(0) var<storage, read> x: array<Value>;             // [n, depth, height, width, pixel]
@group(0) @binding(1) var<storage, read_write> output: array<Value>;  // [n, windows of depth, height, width, pixel]
${params} params: Params;

// The elements of a window that lie in the image.
struct Box {
    first: vec3<u32>,
    count: vec3<u32>,
    divisor: vec3<u32>, // number of elements that an average counts
}

//# if adaptive
// Parts from floor(place image / output) to ceil((place + 1) image / output), without overflow.
fn window(place: vec3<u32>) -> Box {
    let whole = params.image.xyz / params.output.xyz;
    let rest = params.image.xyz - whole * params.output.xyz;
    let next = place + 1u;
    let first = place * whole + place * rest / params.output.xyz;
    let end = next * whole + (next * rest + params.output.xyz - 1u) / params.output.xyz;
    return Box(first, end - first, end - first);
}
//# else
// Number of elements before `end`, of those at start, start + dilation, ...
fn taps_before(end: vec3<u32>, start: vec3<u32>) -> vec3<u32> {
    return ${"(end - min(start, end) + params.dilation.xyz - 1u) / params.dilation.xyz" if dilated else "end - min(start, end)"};
}

// Positions count from the start of the padding.
fn window(place: vec3<u32>) -> Box {
    let start = place * params.stride.xyz;
    let before = params.before.xyz;
    let skipped = taps_before(before, start);
    let end = min(params.taps.xyz, taps_before(before + params.image.xyz, start));
    let count = end - min(skipped, end);
    let counted = min(params.taps.xyz, taps_before(params.counted.xyz, start));
    return Box(start + skipped * params.dilation.xyz - before, count, select(count, counted, params.taps.w == 1u));
}
//# endif

fn compute(item: u32) {
    let pixels = item / params.image.w;
    let channel = item - pixels * params.image.w;
    let lines = pixels / params.output.z;
    let planes = lines / params.output.y;
    let image = ${"planes / params.output.x" if volumes else "planes"};
    let box = window(vec3<u32>(planes - image * params.output.x, lines - planes * params.output.y, pixels - lines * params.output.z));
    let step = params.dilation.z * params.image.w;
    var bits = ${"0u" if average else "0xff800000u"}; // minus infinity, of which WGSL has no constant
    var all = Value(bitcast<f32>(bits));
    for (var d = 0u; d < box.count.x; d++) {
        let plane = image * params.image.x + box.first.x + d * params.dilation.x;
        for (var h = 0u; h < box.count.y; h++) {
            let line = plane * params.image.y + box.first.y + h * params.dilation.y;
            var at = (line * params.image.z + box.first.z) * params.image.w + channel;
            for (var w = 0u; w < box.count.z; w++) {
                all = ${"all + x[at]" if average else "max(all, x[at])"};
                at += step;
            }
        }
    }
    //# if average
    let divisor = vec3<f32>(max(box.divisor, vec3<u32>(1u)));
    all /= divisor.x * divisor.y * divisor.z;
    //# endif
    output[item] = all;
}

//# include "lib/items.wgsl"
