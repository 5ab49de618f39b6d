//! Einsum by transposes, diagonals, sums and matrix products.

use super::Table;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{BinaryFn, MatMul, ReduceFn, SliceRange};
use crate::{Error, Result};

pub(super) const OPERATORS: Table = &[("Einsum", einsum)];

/// What an axis stands for: a letter, or the position from the end of an axis under an ellipsis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Ellipsis(std::cmp::Reverse<usize>),
    Letter(char),
}

/// A value whose axes have labels, none of them twice.
#[derive(Debug, Clone)]
struct Term {
    value: Value,
    labels: Vec<Label>,
}

/// The labels of a term for a value of this many axes; in the result an ellipsis has `rank` axes.
fn labels(node: &Node<'_>, text: &str, rank: usize, ellipsis: Option<usize>) -> Result<Vec<Label>> {
    let letters = text.chars().filter(|letter| *letter != '.').count();
    let hidden = match (text.contains("..."), ellipsis) {
        (true, Some(hidden)) => hidden,
        (true, None) => rank.saturating_sub(letters),
        (false, _) => 0,
    };
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            labels.extend((0..hidden).rev().map(|index| Label::Ellipsis(std::cmp::Reverse(index))));
            rest = after;
        } else if letter.is_ascii_alphabetic() {
            labels.push(Label::Letter(letter));
            rest = &rest[1..];
        } else {
            return Err(node.fail(format!("attribute `equation` has the term `{text}`")));
        }
    }
    Ok(labels)
}

impl Term {
    /// A value; of axes with the same label only the diagonal is left.
    fn new(importer: &mut Importer<'_>, node: &Node<'_>, value: Value, text: &str) -> Result<Self> {
        let labels = labels(node, text, value.rank(), None)?;
        if labels.len() != value.rank() {
            return Err(node.fail(format!("the term `{text}` does not fit {value}")));
        }
        let mut term = Self { value, labels };
        while let Some((first, second)) = term.repeated() {
            term = term.diagonal(importer, node, first, second)?;
        }
        Ok(term)
    }

    fn repeated(&self) -> Option<(usize, usize)> {
        let second =
            |first: usize| (first + 1..self.labels.len()).find(|&at| self.labels[at] == self.labels[first]);
        (0..self.labels.len()).find_map(|first| Some((first, second(first)?)))
    }

    /// Two axes as the diagonal of them, the last axis: every (size + 1)th element of both.
    fn diagonal(
        self,
        importer: &mut Importer<'_>,
        node: &Node<'_>,
        first: usize,
        second: usize,
    ) -> Result<Self> {
        let size = self.value.dims()[first];
        if self.value.dims()[second] != size {
            return Err(node.fail(format!("axes {first} and {second} of {} have one label", self.value)));
        }
        let others: Vec<usize> =
            (0..self.labels.len()).filter(|&axis| axis != first && axis != second).collect();
        let order: Vec<usize> = others.iter().copied().chain([first, second]).collect();
        let value = importer.transpose(&self.value, &order)?;
        let mut dims = value.dims()[..others.len()].to_vec();
        dims.push(size * size);
        let value = importer.reshape(&value, &dims)?;
        let mut ranges: Vec<SliceRange> = dims.iter().map(|&size| SliceRange::full(size)).collect();
        ranges[others.len()] = SliceRange { start: 0, count: size, step: size as isize + 1 };
        let value = importer.slice(&value, ranges)?;
        let labels = others.iter().chain([&first]).map(|&axis| self.labels[axis]).collect();
        Ok(Self { value, labels })
    }

    fn size(&self, label: Label) -> Option<usize> {
        self.labels.iter().position(|own| *own == label).map(|axis| self.value.dims()[axis])
    }

    /// Sums over all axes but those with labels in `kept`.
    fn summed(self, importer: &mut Importer<'_>, kept: &[Label]) -> Result<Self> {
        let gone: Vec<usize> =
            (0..self.labels.len()).filter(|&axis| !kept.contains(&self.labels[axis])).collect();
        if gone.is_empty() {
            return Ok(self);
        }
        let value = importer.reduce(&self.value, ReduceFn::Sum, &gone, false)?;
        let labels = self.labels.into_iter().filter(|label| kept.contains(label)).collect();
        Ok(Self { value, labels })
    }

    /// The value with its axes in this order, of size 1 where it has none.
    fn arranged(&self, importer: &mut Importer<'_>, order: &[Label]) -> Result<Value> {
        let axes = order.iter().filter_map(|label| self.labels.iter().position(|own| own == label));
        let value = importer.transpose(&self.value, &axes.collect::<Vec<_>>())?;
        let dims: Vec<usize> = order.iter().map(|&label| self.size(label).unwrap_or(1)).collect();
        importer.reshape(&value, &dims)
    }

    /// The product with another term, summed over what both have and nothing behind needs: a
    /// matrix product for each index of what both have and is kept.
    fn times(
        self,
        importer: &mut Importer<'_>,
        node: &Node<'_>,
        other: Self,
        kept: &[Label],
    ) -> Result<Self> {
        let mine = self.only_needed(importer, kept, &other)?;
        let other = other.only_needed(importer, kept, &mine)?;
        let (mut batch, mut inner, mut rows, mut cols) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for &label in &mine.labels {
            match (other.size(label), kept.contains(&label)) {
                (Some(_), true) => batch.push(label),
                (Some(_), false) => inner.push(label),
                (None, _) => rows.push(label),
            }
        }
        cols.extend(other.labels.iter().filter(|label| mine.size(**label).is_none()));
        for &label in batch.iter().chain(&inner) {
            let (left, right) = (mine.size(label), other.size(label));
            if left != right && left != Some(1) && right != Some(1) {
                return Err(node.fail(format!("{} and {} differ along one label", mine.value, other.value)));
            }
        }
        let widths = |label: &Label| mine.size(*label).max(other.size(*label)).unwrap_or(1);
        let side = |importer: &mut Importer<'_>, term: &Self, order: [&[Label]; 3]| -> Result<Value> {
            let value = term.arranged(importer, &order.concat())?;
            let dims: Vec<usize> = order.concat().iter().map(widths).collect();
            let value = importer.expand(&value, &dims)?;
            let size = |labels: &[Label]| labels.iter().map(widths).product::<usize>();
            importer.reshape(&value, &order.map(size))
        };
        let left = side(importer, &mine, [&batch, &rows, &inner])?;
        let right = side(importer, &other, [&batch, &inner, &cols])?;
        let product = if inner.is_empty() {
            importer.binary(BinaryFn::Mul, &left, &right)?
        } else {
            importer.apply_one(MatMul::PLAIN, &[&left, &right], left.element)?
        };
        let labels = [batch.as_slice(), &rows, &cols].concat();
        let dims: Vec<usize> = labels.iter().map(widths).collect();
        Ok(Self { value: importer.reshape(&product, &dims)?, labels })
    }

    /// Sums over what neither the other term nor anything behind needs.
    fn only_needed(&self, importer: &mut Importer<'_>, kept: &[Label], other: &Self) -> Result<Self> {
        self.clone().summed(importer, &[kept, &other.labels].concat())
    }
}

/// The labels of the result: as given, else the ellipsis and all letters that occur once, sorted.
fn result_labels(node: &Node<'_>, given: Option<&str>, inputs: &str, terms: &[Term]) -> Result<Vec<Label>> {
    let hidden = |term: &Term| term.labels.iter().filter(|label| matches!(label, Label::Ellipsis(_))).count();
    let hidden = terms.iter().map(hidden).max().unwrap_or(0);
    match given {
        Some(text) => labels(node, text, 0, Some(hidden)),
        None => {
            let once = |letter: &char| letter.is_ascii_alphabetic() && inputs.matches(*letter).count() == 1;
            let mut letters: Vec<char> = inputs.chars().filter(once).collect();
            letters.sort_unstable();
            let text: String = if hidden > 0 {
                "...".chars().chain(letters).collect()
            } else {
                letters.into_iter().collect()
            };
            labels(node, &text, 0, Some(hidden))
        }
    }
}

fn einsum(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let equation: String =
        node.string("equation", "")?.chars().filter(|letter| !letter.is_whitespace()).collect();
    let (inputs, result) = match equation.split_once("->") {
        Some((inputs, result)) => (inputs, Some(result)),
        None => (equation.as_str(), None),
    };
    let values = node.all_inputs()?;
    if let Some(value) = values.iter().find(|value| !value.element.is_float()) {
        return Err(Error::Unsupported(format!("Einsum of {value}")));
    }
    let texts: Vec<&str> = inputs.split(',').collect();
    if texts.len() != values.len() {
        return Err(node.fail(format!("`{equation}` does not fit {} inputs", values.len())));
    }
    let mut terms = Vec::with_capacity(values.len());
    for (value, text) in values.into_iter().zip(texts) {
        terms.push(Term::new(importer, node, value, text)?);
    }
    let wanted = result_labels(node, result, inputs, &terms)?;
    let mut rest = terms.into_iter();
    let Some(mut product) = rest.next() else { return Err(node.fail("has no inputs")) };
    while let Some(term) = rest.next() {
        let behind = rest.as_slice().iter().flat_map(|term| term.labels.iter().copied());
        let kept: Vec<Label> = wanted.iter().copied().chain(behind).collect();
        product = product.times(importer, node, term, &kept)?;
    }
    let product = product.summed(importer, &wanted)?;
    if let Some(label) = wanted.iter().find(|label| product.size(**label).is_none()) {
        return Err(node.fail(format!("no input of `{equation}` has the result's {label:?}")));
    }
    Ok(vec![product.arranged(importer, &wanted)?])
}
