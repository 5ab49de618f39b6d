// A function of the elements of two tensors that are broadcast to one shape: the ways of
// broadcasting that need whole vectors only. An item is four neighbouring elements of the
// output, in rows of `columns` items. An operand is read as "same" (the output's elements),
// "scalar" (one element), "column" (its vectors repeat every row), "each" (one element serves a
// row; elements repeat every `count`); or, where both operands ask for rows of other lengths,
// "row" (its vectors repeat every `count`), "rows" (the same, with the next row after every
// `inner` vectors) or "splat" (one element serves `inner` vectors; elements repeat every `count`).
//# include "lib/pack.wgsl"
//# if compares
//# include "lib/compare.wgsl"
//# else
//# include "lib/binary.wgsl"
//# endif

struct Params {
    items: u32, per_group: u32, columns: u32,
    left_inner: u32, left_count: u32,
    right_inner: u32, right_count: u32,
}
@group(0) @binding(2) var<storage, read_write> output: array<Stored>;  // [items]
${params} params: Params;

//# for side, binding, access in [["left", 0, left], ["right", 1, right]]
//# if access == "same"
@group(0) @binding(${binding}) var<storage, read> ${side}: array<Packed>;

fn read_${side}(item: u32, row: u32, column: u32) -> Values { return unpack(${side}[item]); }
//# elif access == "column"
@group(0) @binding(${binding}) var<storage, read> ${side}: array<Packed>;

fn read_${side}(item: u32, row: u32, column: u32) -> Values { return unpack(${side}[column]); }
//# elif access == "row"
@group(0) @binding(${binding}) var<storage, read> ${side}: array<Packed>;

fn read_${side}(item: u32, row: u32, column: u32) -> Values { return unpack(${side}[item % params.${side}_count]); }
//# elif access == "rows"
@group(0) @binding(${binding}) var<storage, read> ${side}: array<Packed>;

fn read_${side}(item: u32, row: u32, column: u32) -> Values {
    return unpack(${side}[item / params.${side}_inner * params.${side}_count + item % params.${side}_count]);
}
//# else
@group(0) @binding(${binding}) var<storage, read> ${side}: array<Word>;

fn read_${side}(item: u32, row: u32, column: u32) -> Values {
    let index = ${"0u" if access == "scalar" else "row % params." ~ side ~ "_count" if access == "each" else "item / params." ~ side ~ "_inner % params." ~ side ~ "_count"};
    return Values(unpack_one(${side}[index / WORD], index));
}
//# endif

//# endfor
fn compute(row: u32, column: u32) {
    let item = row * params.columns + column;
    output[item] = stored(${function}(read_left(item, row, column), read_right(item, row, column)));
}

//# include "lib/columns.wgsl"
