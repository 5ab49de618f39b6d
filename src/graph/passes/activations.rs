//! Activations that are written out, and activations in the kernel of the operator before them.

use super::rewrite::{Fused, Nodes, Pattern, Rewrite, as_op, inputs};
use crate::graph::{Node, ValueId};
use crate::ops::{Binary, BinaryFn, Reshape, Transpose, Unary, UnaryFn};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

pub(super) const PATTERNS: &[Pattern] =
    &[gelu, gelu_tanh, swish, hard_swish, hard_sigmoid, mish, softplus, epilogue, epilogue_before_views];

/// Largest relative difference of a constant in a file, mostly an f32, from the one meant.
const CLOSE: f64 = 1e-5;

fn is_close(value: f64, wanted: f64) -> bool {
    (value - wanted).abs() <= CLOSE * wanted.abs()
}

fn function(of: UnaryFn, x: ValueId) -> Option<Rewrite> {
    Fused::new(Unary(of), vec![x.into()]).rewrite()
}

/// A product: a number, and factors in no order. Powers of 2 and 3 are as many factors.
struct Product {
    number: f64,
    factors: Vec<ValueId>,
}

impl Product {
    /// Most nodes of a product.
    const MOST: usize = 8;

    /// The product that makes a value; the value itself if none does.
    fn of(nodes: &Nodes<'_>, id: ValueId) -> Self {
        let mut product = Self { number: 1.0, factors: Vec::new() };
        let mut waiting = vec![id];
        let mut steps = 0;
        while let Some(next) = waiting.pop() {
            let own = next == id || nodes.is_read_once(next);
            match Self::factors_of(nodes, next).filter(|_| own && steps < Self::MOST) {
                Some((number, factors)) => {
                    product.number *= number;
                    waiting.extend(factors);
                    steps += 1;
                }
                None => product.factors.push(next),
            }
        }
        product
    }

    /// A step of it.
    fn factors_of(nodes: &Nodes<'_>, id: ValueId) -> Option<(f64, Vec<ValueId>)> {
        let same = |x: ValueId| nodes.spec(x) == nodes.spec(id);
        if let Some([left, right]) = nodes.binary(id, BinaryFn::Mul) {
            return match (nodes.number(left), nodes.number(right)) {
                (Some(number), None) if same(right) => Some((number, vec![right])),
                (None, Some(number)) if same(left) => Some((number, vec![left])),
                (None, None) if same(left) && same(right) => Some((1.0, vec![left, right])),
                _ => None,
            };
        }
        if let Some([x, divisor]) = nodes.binary(id, BinaryFn::Div) {
            return Some((1.0 / nodes.number(divisor).filter(|_| same(x))?, vec![x]));
        }
        if let Some([x, exponent]) = nodes.binary(id, BinaryFn::Pow) {
            return match nodes.number(exponent) {
                Some(2.0) if same(x) => Some((1.0, vec![x; 2])),
                Some(3.0) if same(x) => Some((1.0, vec![x; 3])),
                _ => None,
            };
        }
        let (square, x) = nodes.unary(id)?;
        (square == UnaryFn::Square).then(|| (1.0, vec![x; 2]))
    }

    /// Of two factors and this number: the pairs x, f(x) for which `is_function` holds.
    fn times_function(&self, number: f64, is_function: impl Fn(ValueId, ValueId) -> bool) -> Option<ValueId> {
        let &[left, right] = self.factors.as_slice() else { return None };
        let is_function = |x, of| (is_close(self.number, number) && is_function(x, of)).then_some(x);
        is_function(left, right).or_else(|| is_function(right, left))
    }

    /// Whether it is a number times a power of x.
    fn is_power(&self, number: f64, x: ValueId, exponent: usize) -> bool {
        is_close(self.number, number) && self.factors == vec![x; exponent]
    }
}

/// The product that a node computes.
fn product(nodes: &Nodes<'_>, node: &Node) -> Option<Product> {
    let Binary(BinaryFn::Mul | BinaryFn::Div) = as_op(node)? else { return None };
    Some(Product::of(nodes, node.outputs[0]))
}

/// x (1 + erf(x / sqrt 2)) / 2 in any order.
fn gelu(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let x = product(nodes, node)?.times_function(0.5, |x, sum| {
        let error = nodes.plus_number(sum).filter(|sum| sum.1 == 1.0).and_then(|sum| nodes.unary(sum.0));
        error.is_some_and(|(function, inner)| {
            function == UnaryFn::Erf && Product::of(nodes, inner).is_power(FRAC_1_SQRT_2, x, 1)
        })
    })?;
    function(UnaryFn::Gelu, x)
}

/// x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x³))) / 2 in any order.
fn gelu_tanh(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let is_inner = |x: ValueId, inner: ValueId| {
        let scaled = Product::of(nodes, inner);
        let &[sum] = scaled.factors.as_slice() else { return false };
        let is_cubic = |cubic: ValueId| Product::of(nodes, cubic).is_power(0.044_715, x, 3);
        let operands = nodes.binary(sum, BinaryFn::Add);
        let is_sum = operands.is_some_and(|[a, b]| (a == x && is_cubic(b)) || (b == x && is_cubic(a)));
        is_close(scaled.number, FRAC_2_PI.sqrt()) && is_sum
    };
    let x = product(nodes, node)?.times_function(0.5, |x, sum| {
        let tanh = nodes.plus_number(sum).filter(|sum| sum.1 == 1.0).and_then(|sum| nodes.unary(sum.0));
        tanh.is_some_and(|(function, inner)| function == UnaryFn::Tanh && is_inner(x, inner))
    })?;
    function(UnaryFn::GeluTanh, x)
}

/// x sigmoid(a x): SiLU where a is 1, QuickGELU where it is 1.702.
fn swish(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let product = product(nodes, node)?;
    let factor = |x: ValueId, gate: ValueId| {
        let (_, inner) = nodes.unary(gate).filter(|(function, _)| *function == UnaryFn::Sigmoid)?;
        if inner == x {
            return Some(1.0);
        }
        let inner = Product::of(nodes, inner);
        (inner.factors == [x]).then_some(inner.number)
    };
    let x = product.times_function(1.0, |x, gate| factor(x, gate).is_some())?;
    let gate = *product.factors.iter().find(|gate| factor(x, **gate).is_some())?;
    let factor = factor(x, gate)?;
    function(if factor == 1.0 { UnaryFn::Silu } else { UnaryFn::Swish(factor as f32) }, x)
}

/// The bounds of a function that clips.
fn bounds(function: UnaryFn) -> Option<[f32; 2]> {
    match function {
        UnaryFn::Relu6 => Some([0.0, 6.0]),
        UnaryFn::Clip { min, max } => Some([min, max]),
        _ => None,
    }
}

/// Whether a value is min(max(x + 3, 0), 6).
fn is_clipped_sum(nodes: &Nodes<'_>, x: ValueId, clipped: ValueId) -> bool {
    let inner = nodes.unary(clipped).filter(|(function, _)| bounds(*function) == Some([0.0, 6.0]));
    inner.and_then(|(_, sum)| nodes.plus_number(sum)) == Some((x, 3.0))
}

/// x times its hard sigmoid, or x min(max(x + 3, 0), 6) / 6.
fn hard_swish(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let product = product(nodes, node)?;
    let is_gate = |x: ValueId, gate: ValueId| match nodes.unary(gate) {
        Some((UnaryFn::HardSigmoid { alpha, beta }, inner)) => {
            inner == x && beta == 0.5 && is_close(alpha.into(), 1.0 / 6.0)
        }
        _ => false,
    };
    let x = product
        .times_function(1.0, is_gate)
        .or_else(|| product.times_function(1.0 / 6.0, |x, clipped| is_clipped_sum(nodes, x, clipped)))?;
    function(UnaryFn::HardSwish, x)
}

/// min(max(x + 3, 0), 6) / 6.
fn hard_sigmoid(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let product = product(nodes, node).filter(|product| is_close(product.number, 1.0 / 6.0))?;
    let &[clipped] = product.factors.as_slice() else { return None };
    let (x, _) = nodes.plus_number(nodes.unary(clipped)?.1)?;
    is_clipped_sum(nodes, x, clipped).then_some(())?;
    function(UnaryFn::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, x)
}

/// x tanh(softplus(x)).
fn mish(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let x = product(nodes, node)?.times_function(1.0, |x, tanh| {
        let inner = nodes.unary(tanh).filter(|(function, _)| *function == UnaryFn::Tanh);
        inner.and_then(|(_, inner)| nodes.unary(inner)) == Some((UnaryFn::Softplus, x))
    })?;
    function(UnaryFn::Mish, x)
}

/// log(1 + e^x).
fn softplus(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Unary(UnaryFn::Log) = as_op(node)? else { return None };
    let (exponential, _) = nodes.plus_number(node.inputs[0]).filter(|sum| sum.1 == 1.0)?;
    let (_, x) = nodes.unary(exponential).filter(|(function, _)| *function == UnaryFn::Exp)?;
    function(UnaryFn::Softplus, x)
}

/// An operator, then an activation.
fn epilogue(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let &Unary(activation) = as_op(node)?;
    let maker = nodes.maker(node.inputs[0])?;
    let op = maker.op.with_activation(activation)?;
    Fused::of_shared(op, inputs(&maker.inputs)).named(maker).rewrite()
}

/// An operator, then views or transpositions of its output, then an activation.
fn epilogue_before_views(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let &Unary(activation) = as_op(node)?;
    let mut value = node.inputs[0];
    loop {
        let maker = nodes.maker(value).filter(|_| nodes.is_read_once(value))?;
        if as_op::<Reshape>(maker).is_none() && as_op::<Transpose>(maker).is_none() {
            let op = maker.op.with_activation(activation)?;
            return Some(Rewrite::Earlier { value, op });
        }
        value = maker.inputs[0];
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Builder, assert_becomes, optimised};
    use super::*;
    use crate::ops::{Conv, Linear, Window};
    use std::f32::consts::SQRT_2;

    /// Checks that what `build` makes of x becomes this function.
    #[track_caller]
    fn assert_is(wanted: UnaryFn, build: impl FnOnce(&mut Builder, ValueId) -> ValueId) {
        let (graph, names) = optimised(|b| {
            let x = b.input([3, 8]);
            let y = build(b, x);
            b.output(y);
        });
        assert_eq!(names, ["unary"], "{graph}");
        assert_eq!(as_op(&graph.nodes()[0]), Some(&Unary(wanted)));
    }

    #[track_caller]
    fn assert_stays(operators: usize, build: impl FnOnce(&mut Builder, ValueId) -> ValueId) {
        let (graph, names) = optimised(|b| {
            let x = b.input([3, 8]);
            let y = build(b, x);
            b.output(y);
        });
        assert_eq!(names.len(), operators, "{graph}");
    }

    fn one_plus_erf(b: &mut Builder, x: ValueId, divisor: f32, one: f32) -> ValueId {
        let inner = b.with_number(BinaryFn::Div, x, divisor);
        let erf = b.unary(UnaryFn::Erf, inner);
        b.with_number(BinaryFn::Add, erf, one)
    }

    #[test]
    fn gelu_in_its_orders() {
        assert_is(UnaryFn::Gelu, |b, x| {
            let sum = one_plus_erf(b, x, SQRT_2, 1.0);
            let half = b.with_number(BinaryFn::Mul, sum, 0.5);
            b.binary(BinaryFn::Mul, x, half)
        });
        assert_is(UnaryFn::Gelu, |b, x| {
            let sum = one_plus_erf(b, x, SQRT_2, 1.0);
            let product = b.binary(BinaryFn::Mul, x, sum);
            b.with_number(BinaryFn::Mul, product, 0.5)
        });
        assert_is(UnaryFn::Gelu, |b, x| {
            let half = b.with_number(BinaryFn::Div, x, 2.0);
            let inner = b.with_number(BinaryFn::Mul, x, 1.0 / SQRT_2);
            let erf = b.unary(UnaryFn::Erf, inner);
            let one = b.number(1.0);
            let sum = b.binary(BinaryFn::Add, one, erf);
            b.binary(BinaryFn::Mul, sum, half)
        });
    }

    #[test]
    fn other_constants_are_no_gelu() {
        for (divisor, one, half) in [(1.5, 1.0, 0.5), (SQRT_2, 2.0, 0.5), (SQRT_2, 1.0, 0.25)] {
            assert_stays(5, |b, x| {
                let sum = one_plus_erf(b, x, divisor, one);
                let product = b.binary(BinaryFn::Mul, x, sum);
                b.with_number(BinaryFn::Mul, product, half)
            });
        }
        assert_stays(6, |b, x| {
            let sum = one_plus_erf(b, x, SQRT_2, 1.0);
            let product = b.binary(BinaryFn::Mul, x, sum);
            let y = b.with_number(BinaryFn::Mul, product, 0.5);
            b.output(sum);
            b.unary(UnaryFn::Sin, y)
        });
    }

    #[test]
    fn gelu_by_the_hyperbolic_tangent() {
        for cubic in [0, 1, 2] {
            assert_is(UnaryFn::GeluTanh, |b, x| {
                let cube = if cubic == 0 {
                    b.with_number(BinaryFn::Pow, x, 3.0)
                } else {
                    let square = b.binary(BinaryFn::Mul, x, x);
                    b.binary(BinaryFn::Mul, x, square)
                };
                let small = b.with_number(BinaryFn::Mul, cube, 0.044_715);
                let sum = b.binary(BinaryFn::Add, x, small);
                let inner = b.with_number(BinaryFn::Mul, sum, 0.797_884_6);
                let tanh = b.unary(UnaryFn::Tanh, inner);
                let sum = b.with_number(BinaryFn::Add, tanh, 1.0);
                if cubic == 2 {
                    let product = b.binary(BinaryFn::Mul, x, sum);
                    return b.with_number(BinaryFn::Mul, product, 0.5);
                }
                let half = b.with_number(BinaryFn::Mul, x, 0.5);
                b.binary(BinaryFn::Mul, half, sum)
            });
        }
    }

    #[test]
    fn products_with_a_gate() {
        assert_is(UnaryFn::Silu, |b, x| {
            let gate = b.unary(UnaryFn::Sigmoid, x);
            b.binary(BinaryFn::Mul, gate, x)
        });
        assert_is(UnaryFn::Swish(1.702), |b, x| {
            let scaled = b.with_number(BinaryFn::Mul, x, 1.702);
            let gate = b.unary(UnaryFn::Sigmoid, scaled);
            b.binary(BinaryFn::Mul, x, gate)
        });
        assert_is(UnaryFn::Mish, |b, x| {
            let exponential = b.unary(UnaryFn::Exp, x);
            let sum = b.with_number(BinaryFn::Add, exponential, 1.0);
            let softplus = b.unary(UnaryFn::Log, sum);
            let gate = b.unary(UnaryFn::Tanh, softplus);
            b.binary(BinaryFn::Mul, x, gate)
        });
        assert_stays(2, |b, x| {
            let other = b.input([3, 8]);
            let gate = b.unary(UnaryFn::Sigmoid, other);
            b.binary(BinaryFn::Mul, gate, x)
        });
    }

    #[test]
    fn hard_swish_in_its_orders() {
        let clip = UnaryFn::Clip { min: 0.0, max: 6.0 };
        for order in 0..4 {
            let build = |b: &mut Builder, x| {
                if order == 3 {
                    let gate = b.unary(UnaryFn::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, x);
                    return b.binary(BinaryFn::Mul, gate, x);
                }
                let sum = b.with_number(BinaryFn::Add, x, 3.0);
                let clipped = b.unary(if order == 0 { clip } else { UnaryFn::Relu6 }, sum);
                if order == 1 {
                    let product = b.binary(BinaryFn::Mul, x, clipped);
                    return b.with_number(BinaryFn::Div, product, 6.0);
                }
                let gate = b.with_number(BinaryFn::Div, clipped, 6.0);
                b.binary(BinaryFn::Mul, x, gate)
            };
            assert_is(UnaryFn::HardSwish, build);
        }
        assert_is(UnaryFn::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, |b, x| {
            let sum = b.with_number(BinaryFn::Add, x, 3.0);
            let clipped = b.unary(clip, sum);
            b.with_number(BinaryFn::Mul, clipped, 1.0 / 6.0)
        });
        assert_stays(3, |b, x| {
            let sum = b.with_number(BinaryFn::Add, x, 2.0);
            let clipped = b.unary(clip, sum);
            b.with_number(BinaryFn::Div, clipped, 6.0)
        });
    }

    #[test]
    fn an_activation_goes_past_views_into_its_operator() {
        let build = |b: &mut Builder, shared: bool| {
            let (x, weight) = (b.input([1, 3, 4, 5]), b.stored([2, 3, 1, 1]));
            let image = b.add(Conv::new(Window::new([1, 1])), &[x, weight]);
            let last = b.add(Transpose { permutation: vec![0, 2, 3, 1] }, &[image]);
            let flat = b.add(Reshape { dims: vec![1, 20, 2] }, &[last]);
            let y = b.unary(UnaryFn::Sigmoid, flat);
            if shared {
                b.output(last);
            }
            b.output(y);
        };
        assert_becomes(&["conv", "transpose"], |b| build(b, false));
        assert_becomes(&["conv", "transpose", "unary"], |b| build(b, true));
    }

    #[test]
    fn an_activation_of_what_is_read_elsewhere_stays() {
        assert_becomes(&["linear", "unary"], |b| {
            let (x, weight) = (b.input([3, 8]), b.stored([4, 8]));
            let sum = b.add(Linear::PLAIN, &[x, weight]);
            let y = b.unary(UnaryFn::Relu, sum);
            b.output(sum);
            b.output(y);
        });
    }
}
