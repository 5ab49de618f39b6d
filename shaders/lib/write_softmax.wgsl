// Takes `logarithm`; needs lib/rows.wgsl and the bindings `input` and `output` of chunks.
// Writes the softmax of start..end, or its logarithm, by the maximum and the sum of its whole row.
fn write_softmax(start: u32, end: u32, top: f32, total: f32) {
//# if logarithm
    let shift = top + log(total);
    for (var i = start + first; i < end; i += stride) { output[i] = input[i] - shift; }
//# else
    let scale = 1.0 / total;
    for (var i = start + first; i < end; i += stride) { output[i] = exp(input[i] - top) * scale; }
//# endif
}
