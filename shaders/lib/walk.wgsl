// Where an element of a tensor lies in another: the sum of its index along each axis times that
// one's stride there. Axes are counted from the innermost; negative strides wrap. Needs `axes`,
// `dims_low`, `dims_high`, `strides_low` and `strides_high` in `params`.
//# include "lib/axes.wgsl"

fn walk(element: u32) -> u32 { return walk_from(element, 0u); }

// The same over the axes from `first` outwards.
fn walk_from(element: u32, first: u32) -> u32 {
    if first >= params.axes { return 0u; }
    var rest = element;
    var place = 0u;
    for (var axis = first; axis + 1u < params.axes; axis++) {
        let size = of_axis(params.dims_low, params.dims_high, axis);
        let outer = rest / size;
        place += (rest - outer * size) * of_axis(params.strides_low, params.strides_high, axis);
        rest = outer;
    }
    return place + rest * of_axis(params.strides_low, params.strides_high, params.axes - 1u);
}
