// Maximum of a run of chunks, and sum of e^(x - maximum) over it, in one pass that scales the sum
// whenever the maximum grows (Milakov and Gimelshein 2018), once for several chunks, as exponentials
// cost as much as loads. Needs lib/rows.wgsl and the binding `input: array<Chunk>`.
var<private> highest: f32;
var<private> sum: f32;

// Where maxima begin: differences of minus infinity from itself are no numbers.
const LOWEST_FINITE: f32 = -0x1.fffffep+127f;

// Of the invocation's chunks of start..end.
fn sum_exponentials(start: u32, end: u32) {
    highest = LOWEST_FINITE;
    sum = 0.0;
    var i = start + first;
    for (; i + 3u * stride < end; i += 4u * stride) {
        let a = input[i];
        let b = input[i + stride];
        let c = input[i + 2u * stride];
        let d = input[i + 3u * stride];
        let top = max(highest, chunk_max(max(max(a, b), max(c, d))));
        sum = sum * exp(highest - top) + chunk_sum((exp(a - top) + exp(b - top)) + (exp(c - top) + exp(d - top)));
        highest = top;
    }
    for (; i < end; i += stride) {
        let x = input[i];
        let top = max(highest, chunk_max(x));
        sum = sum * exp(highest - top) + chunk_sum(exp(x - top));
        highest = top;
    }
}
