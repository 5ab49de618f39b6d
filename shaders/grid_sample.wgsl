// Samples images at the places that a grid gives for each output point: a sum of neighbouring
// pixels along two or three axes. An item is a point of one channel. Takes `filter`: "nearest",
// "linear" or "cubic".
struct Params {
    sizes: vec4<u32>,  // depth, height and width of an image, channels
    points: u32,       // of an image
    axes: u32,
    aligned: u32,      // whether -1 and 1 are the centres of the first and the last pixel, not their edges
    outside: u32,      // 0: zeros, 1: the nearest pixel, 2: the image reflected at its edges
    items: u32,
    per_group: u32,
}
@group(0) @binding(0) var<storage, read> x: array<f32>;             // [n, channels, depth, height, width]
@group(0) @binding(1) var<storage, read> grid: array<f32>;          // [n, points, axes], width first
@group(0) @binding(2) var<storage, read_write> output: array<f32>;  // [n, channels, points]
${params} params: Params;

//# if filter == "nearest"
const TAPS = 1;

fn first_tap(position: f32) -> i32 { return i32(round(position)); }

fn weight(distance: f32) -> f32 { return 1.0; }
//# elif filter == "linear"
const TAPS = 2;

fn first_tap(position: f32) -> i32 { return i32(floor(position)); }

fn weight(distance: f32) -> f32 { return max(1.0 - distance, 0.0); }
//# else
const TAPS = 4;

fn first_tap(position: f32) -> i32 { return i32(floor(position)) - 1; }

// Keys 1981, with the slope -0.75 at distance 1.
fn weight(distance: f32) -> f32 {
    let near = (1.25 * distance - 2.25) * distance * distance + 1.0;
    let far = ((-0.75 * distance + 3.75) * distance - 6.0) * distance + 3.0;
    return select(select(0.0, far, distance < 2.0), near, distance < 1.0);
}
//# endif

// The place of a coordinate along an axis, in pixels; kept where an i32 holds it.
fn place(coordinate: f32, size: u32) -> f32 {
    let pixels = f32(size);
    let edges = ((coordinate + 1.0) * pixels - 1.0) * 0.5;
    let centres = (coordinate + 1.0) * 0.5 * (pixels - 1.0);
    return clamp(select(edges, centres, params.aligned == 1u), -4194304.0, 4194304.0);
}

struct Tap { index: u32, weight: f32 }

// The pixel that is read for an index that may lie outside, and its weight.
fn tap(index: i32, position: f32, size: u32) -> Tap {
    let last = i32(size) - 1;
    let aligned = i32(params.aligned);
    let period = max(2 * (last + 1 - aligned), 1);
    let rest = ((index % period) + period) % period;
    let reflected = min(rest, 2 * last + 1 - aligned - rest);
    let inside = clamp(select(index, reflected, params.outside == 2u), 0, last);
    let counts = params.outside != 0u || inside == index;
    return Tap(u32(inside), select(0.0, weight(abs(f32(index) - position)), counts));
}

fn compute(item: u32) {
    let plane = item / params.points;
    let at = ((plane / params.sizes.w) * params.points + item % params.points) * params.axes;
    let width = place(grid[at], params.sizes.z);
    let height = place(grid[at + 1u], params.sizes.y);
    let volumes = params.axes == 3u;
    let depth = select(0.0, place(grid[at + params.axes - 1u], params.sizes.x), volumes);
    let first = vec3<i32>(select(0, first_tap(depth), volumes), first_tap(height), first_tap(width));
    var sum = 0.0;
    for (var d = 0; d < select(1, TAPS, volumes); d++) {
        let slice = tap(first.x + d, depth, params.sizes.x);
        for (var h = 0; h < TAPS; h++) {
            let line = tap(first.y + h, height, params.sizes.y);
            let start = ((plane * params.sizes.x + slice.index) * params.sizes.y + line.index) * params.sizes.z;
            for (var w = 0; w < TAPS; w++) {
                let pixel = tap(first.z + w, width, params.sizes.z);
                sum += slice.weight * line.weight * pixel.weight * x[start + pixel.index];
            }
        }
    }
    output[item] = sum;
}

//# include "lib/items.wgsl"
