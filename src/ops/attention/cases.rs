//! Cases of [`Attention`]: sizes around the kernels' tiles, all layouts, grouped heads, heads of
//! odd and of different sizes, causal rows and windows, masks of every broadcast.

use super::super::cases::{Case, Random};
use super::{Attention, HeadLayout};
use crate::tensor::{DType, Tensor};

/// Sizes of one case.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    batches: usize,
    heads: usize,
    kv_heads: usize,
    tokens: usize,
    keys: usize,
    head_dim: usize,
    value_dim: usize,
}

const fn sizes(heads: [usize; 2], tokens: usize, keys: usize, dims: [usize; 2]) -> Sizes {
    let ([heads, kv_heads], [head_dim, value_dim]) = (heads, dims);
    Sizes { batches: 2, heads, kv_heads, tokens, keys, head_dim, value_dim }
}

fn attention(sizes: &Sizes, layout: HeadLayout) -> Attention {
    Attention {
        heads: sizes.heads,
        kv_heads: sizes.kv_heads,
        scale: 1.0 / (sizes.head_dim as f32).sqrt(),
        softcap: None,
        causal: None,
        window: None,
        mask: false,
        layout,
    }
}

/// A case with scores that are large enough for weights that differ.
fn case(random: &mut Random, sizes: &Sizes, op: Attention, mask: Option<Tensor>) -> Case {
    let &Sizes { batches, heads, kv_heads, tokens, keys, head_dim, value_dim } = sizes;
    let dims: Vec<Vec<usize>> = match op.layout {
        HeadLayout::HeadsFirst => vec![
            vec![batches, heads, tokens, head_dim],
            vec![batches, kv_heads, keys, head_dim],
            vec![batches, kv_heads, keys, value_dim],
        ],
        HeadLayout::TokensFirst => vec![
            vec![batches, tokens, heads * head_dim],
            vec![batches, keys, kv_heads * head_dim],
            vec![batches, keys, kv_heads * value_dim],
        ],
        HeadLayout::Packed => vec![vec![batches, tokens, (heads + 2 * kv_heads) * head_dim]],
    };
    let mut inputs: Vec<Tensor> =
        dims.iter().map(|dims| random.tensor(DType::F32, dims.as_slice(), 2.0)).collect();
    let shape = mask.as_ref().map_or(String::new(), |mask| format!(", mask {:?}", mask.dims()));
    inputs.extend(mask);
    let name = format!(
        "{:?} {batches} x {tokens} tokens, {keys} keys, {heads}/{kv_heads} heads of {head_dim} and {value_dim}, \
         {:?} {:?} {:?}{shape}",
        op.layout, op.causal, op.window, op.softcap
    );
    Case::new(name, op, inputs)
}

/// A mask of which every third value hides its key, and those of the last token all: as infinity, or
/// as far as a finite number does.
fn mask(random: &mut Random, dims: &[usize]) -> Tensor {
    let keys = *dims.last().expect("masks have axes");
    let mut values = random.tensor(DType::F32, dims, 3.0).to_f64();
    let (count, last) = (values.len(), values.len() - keys);
    for i in (0..count).filter(|i| i % 3 == 1 || (count > keys && *i >= last)) {
        values[i] = if i % 2 == 0 { f64::NEG_INFINITY } else { f64::from(f32::MIN) };
    }
    Tensor::from_f64(DType::F32, dims, &values)
}

pub(in super::super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut random = Random::new(43);
    for sizes in [
        sizes([1, 1], 1, 1, [1, 1]),
        sizes([2, 2], 1, 70, [8, 8]),
        sizes([4, 1], 1, 33, [64, 64]),
        sizes([3, 1], 5, 31, [7, 10]),
        sizes([2, 2], 9, 0, [4, 4]),
        sizes([2, 1], 33, 65, [20, 36]),
        sizes([4, 2], 17, 32, [64, 128]),
        sizes([1, 1], 65, 64, [80, 96]),
        sizes([1, 1], 10, 40, [200, 300]),
    ] {
        for layout in [HeadLayout::HeadsFirst, HeadLayout::TokensFirst] {
            cases.push(case(&mut random, &sizes, attention(&sizes, layout), None));
        }
    }
    for (heads, tokens, dim) in [([1, 1], 1, 3), ([3, 3], 197, 64), ([4, 2], 31, 10), ([6, 2], 8, 32)] {
        let sizes = sizes(heads, tokens, tokens, [dim, dim]);
        cases.push(case(&mut random, &sizes, attention(&sizes, HeadLayout::Packed), None));
    }
    let small = sizes([4, 2], 19, 45, [16, 16]);
    let plain = attention(&small, HeadLayout::HeadsFirst);
    for (lead, window) in [(26, None), (0, None), (-5, None), (26, Some(7)), (60, Some(30)), (0, Some(1))] {
        let op = Attention { causal: Some(lead), window, ..plain };
        cases.push(case(&mut random, &small, op, None));
    }
    cases.push(case(&mut random, &small, Attention { softcap: Some(1.5), ..plain }, None));
    for dims in [&[2, 4, 19, 45][..], &[2, 1, 19, 45], &[2, 1, 1, 45], &[4, 1, 45], &[19, 45], &[19, 1]] {
        let mask = mask(&mut random, dims);
        let op = Attention { mask: true, softcap: Some(4.0), ..plain };
        cases.push(case(&mut random, &small, op, Some(mask)));
    }
    let packed = sizes([2, 2], 37, 37, [12, 12]);
    let mask = mask(&mut random, &[37, 37]);
    let op = Attention { mask: true, causal: Some(0), ..attention(&packed, HeadLayout::Packed) };
    cases.push(case(&mut random, &packed, op, Some(mask)));
    cases
}
