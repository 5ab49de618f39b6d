//! Functions of single elements that follow each other become one node.

use super::rewrite::{Fused, Nodes, Pattern, Rewrite};
use crate::graph::{Node, ValueId};
use crate::ops::Elementwise;
use crate::tensor::DType;

pub(super) const PATTERNS: &[Pattern] = &[chain];

/// A function of elements, one of whose operands is made by another for it alone.
fn chain(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let own = Elementwise::of(node.op.as_ref())?;
    let output = nodes.spec(node.outputs[0]);
    if output.dtype != DType::F32 {
        return None;
    }
    node.inputs.iter().find_map(|&made| {
        // What is computed for fewer elements should not be computed for all.
        let maker = nodes.maker(made).filter(|_| nodes.spec(made) == output)?;
        let before = Elementwise::of(maker.op.as_ref())?;
        nodes.is_read_only_by(made, node).then_some(())?;
        let mut inputs: Vec<ValueId> = Vec::new();
        let mut place = |id: ValueId| {
            inputs.iter().position(|input| *input == id).unwrap_or_else(|| {
                inputs.push(id);
                inputs.len() - 1
            })
        };
        let earlier: Vec<usize> = maker.inputs.iter().map(|id| place(*id)).collect();
        let later: Vec<Option<usize>> =
            node.inputs.iter().map(|id| (*id != made).then(|| place(*id))).collect();
        let fused = own.after(&before, &earlier, &later)?;
        inputs.iter().all(|id| is_read_easily(nodes, *id, output.shape.dims())).then_some(())?;
        Fused::new(fused, super::rewrite::inputs(&inputs)).rewrite()
    })
}

/// Whether a kernel of chains can read a value where it lies, also of images with their channels
/// last: all of it, a number, a row, or one for each row or channel.
fn is_read_easily(nodes: &Nodes<'_>, id: ValueId, output: &[usize]) -> bool {
    let dims = nodes.dims(id);
    let own: Vec<usize> = dims.iter().copied().skip_while(|dim| *dim == 1).collect();
    let Some(rest) = output.len().checked_sub(own.len()) else { return false };
    let tail = &output[rest..];
    let filled = own.iter().take_while(|dim| **dim != 1).count();
    // The leading axes are those of the output, the others are of size 1.
    own == tail
        || own.is_empty()
        || (own[..filled] == tail[..filled] && own[filled..].iter().all(|dim| *dim == 1))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Builder, chained};
    use crate::ops::{BinaryFn, UnaryFn};

    #[track_caller]
    fn assert_becomes(names: &[&str], build: impl FnOnce(&mut Builder)) {
        let (graph, got) = chained(build);
        assert_eq!(got, names, "\n{graph}");
    }

    #[test]
    fn functions_that_follow_each_other_become_one() {
        assert_becomes(&["elementwise"], |b| {
            let [x, y] = [b.input([3, 8]), b.input([3, 8])];
            let scaled = b.with_number(BinaryFn::Mul, x, 3.0);
            let sine = b.unary(UnaryFn::Sin, scaled);
            let row = b.stored([8]);
            let sum = b.binary(BinaryFn::Add, sine, row);
            let product = b.binary(BinaryFn::Mul, sum, y);
            let tanh = b.unary(UnaryFn::Tanh, product);
            b.output(tanh);
        });
    }

    #[test]
    fn both_operands_may_be_made_on_the_way() {
        assert_becomes(&["elementwise"], |b| {
            let x = b.input([2, 5]);
            let [sine, cosine] = [UnaryFn::Sin, UnaryFn::Cos].map(|function| b.unary(function, x));
            let product = b.binary(BinaryFn::Mul, sine, cosine);
            let square = b.binary(BinaryFn::Mul, product, product);
            b.output(square);
        });
    }

    #[test]
    fn what_others_read_stays() {
        let (graph, names) = chained(|b| {
            let x = b.input([4, 4]);
            let sine = b.unary(UnaryFn::Sin, x);
            let floor = b.unary(UnaryFn::Floor, sine);
            let ceil = b.unary(UnaryFn::Ceil, sine);
            b.output(floor);
            b.output(ceil);
        });
        assert_eq!(names, ["unary", "unary", "unary"], "\n{graph}");
    }

    #[test]
    fn what_is_smaller_is_not_computed_for_all() {
        assert_becomes(&["unary", "binary"], |b| {
            let [x, row] = [b.input([9, 4]), b.input([4])];
            let sine = b.unary(UnaryFn::Sin, row);
            let product = b.binary(BinaryFn::Mul, x, sine);
            b.output(product);
        });
    }

    #[test]
    fn long_runs_are_cut() {
        let (graph, names) = chained(|b| {
            let mut x = b.input([6]);
            for _ in 0..20 {
                x = b.unary(UnaryFn::Sin, x);
            }
            b.output(x);
        });
        assert_eq!(names, ["elementwise", "elementwise"], "\n{graph}");
    }
}
