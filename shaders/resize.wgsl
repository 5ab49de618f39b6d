// Resizes images with channels last: each output is a sum of neighbouring pixels along up to
// three axes, weighted by a filter of their distance. The output at index i of an axis lies at
// (i step + offset) / denominator in the input, in integers, so that no device rounds otherwise;
// pixels nearer than support / denominator are read, and their distance is counted in
// reach / denominator. An item is a pixel, or some Values of it. Takes `value`: "f32" or
// "vec4<f32>", `filter`: "box", "triangle" or "cubic", and `antialias`: whether pixels outside
// of the image are left out and the other weights add to 1; else the nearest inside is read.
struct Params {
    sizes: vec4<u32>,        // depth, height and width of the input; Values of a pixel
    outputs: vec4<u32>,      // depth, height and width of the output; Values of an item
    step: vec4<u32>,
    offset: vec4<u32>,       // negative ones wrap
    denominator: vec4<u32>,
    support: vec4<u32>,
    reach: vec4<u32>,
    items: u32,
    per_group: u32,
    cubic: f32,              // slope of the cubic at distance 1 (Keys 1981)
}
alias Value = ${value};
@group(0) @binding(0) var<storage, read> input: array<Value>;         // [n, depth, height, width, values]
@group(0) @binding(1) var<storage, read_write> output: array<Value>;  // [n, depth, height, width, values]
${params} params: Params;

fn weight(position: i32, index: i32, denominator: u32, reach: u32) -> f32 {
    let distance = f32(abs(index * i32(denominator) - position)) / f32(reach);
//# if filter == "box"
    return 1.0;
//# elif filter == "triangle"
    return max(1.0 - distance, 0.0);
//# else
    let a = params.cubic;
    let near = ((a + 2.0) * distance - (a + 3.0)) * distance * distance + 1.0;
    let far = ((a * distance - 5.0 * a) * distance + 8.0 * a) * distance - 4.0 * a;
    return select(select(0.0, far, distance < 2.0), near, distance < 1.0);
//# endif
}

fn floor_divided(a: vec3<i32>, b: vec3<i32>) -> vec3<i32> {
    let quotient = a / b;
    return quotient - vec3<i32>(quotient * b > a);
}

// What the loops over pixels go through.
struct Region { position: vec3<i32>, first: vec3<i32>, end: vec3<i32>, image: u32 }

fn interpolate(region: Region, channel: u32) -> Value {
    let last = vec3<i32>(params.sizes.xyz) - 1;
    var sum = Value();
    var total = 0.0;
    for (var depth = region.first.x; depth < region.end.x; depth++) {
        let depth_weight = weight(region.position.x, depth, params.denominator.x, params.reach.x);
        let plane = (region.image * params.sizes.x + u32(clamp(depth, 0, last.x))) * params.sizes.y;
        for (var height = region.first.y; height < region.end.y; height++) {
            let line_weight = depth_weight * weight(region.position.y, height, params.denominator.y, params.reach.y);
            let line = (plane + u32(clamp(height, 0, last.y))) * params.sizes.z;
            for (var width = region.first.z; width < region.end.z; width++) {
                let pixel_weight = line_weight * weight(region.position.z, width, params.denominator.z, params.reach.z);
                let pixel = line + u32(clamp(width, 0, last.z));
                sum += pixel_weight * input[pixel * params.sizes.w + channel];
                total += pixel_weight;
            }
        }
    }
    return ${"sum / total" if antialias else "sum"};
}

fn compute(item: u32) {
    let parts = params.sizes.w / params.outputs.w;
    let pixel = item / parts;
    let lines = pixel / params.outputs.z;
    let planes = lines / params.outputs.y;
    let images = planes / params.outputs.x;
    let place = vec3<u32>(planes - images * params.outputs.x, lines - planes * params.outputs.y, pixel - lines * params.outputs.z);
    let position = bitcast<vec3<i32>>(place * params.step.xyz + params.offset.xyz);
    let denominator = bitcast<vec3<i32>>(params.denominator.xyz);
    let support = bitcast<vec3<i32>>(params.support.xyz);
    var first = floor_divided(position - support, denominator) + 1;
    var end = floor_divided(position + support, denominator) + 1;
//# if antialias
    first = max(first, vec3<i32>(0));
    end = min(end, vec3<i32>(params.sizes.xyz));
//# endif
    let region = Region(position, first, end, images);
    let start = (item - pixel * parts) * params.outputs.w;
    for (var i = 0u; i < params.outputs.w; i++) {
        output[pixel * params.sizes.w + start + i] = interpolate(region, start + i);
    }
}

//# include "lib/items.wgsl"
