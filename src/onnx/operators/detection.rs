//! Selection of boxes, on the host.

use super::Table;
use crate::Result;
use crate::onnx::element::ElementType;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;

pub(super) const OPERATORS: Table = &[("NonMaxSuppression", non_max_suppression)];

/// Opposite corners of a box, the lower first.
type Corners = [f64; 4];

/// A box from its stored numbers: two corners in any order, or the centre, width and height.
fn corners(numbers: &[f64], from_center: bool) -> Corners {
    let [a, b, c, d] = [numbers[0], numbers[1], numbers[2], numbers[3]];
    if from_center {
        return [b - d / 2.0, a - c / 2.0, b + d / 2.0, a + c / 2.0];
    }
    [a.min(c), b.min(d), a.max(c), b.max(d)]
}

fn area(corners: Corners) -> f64 {
    (corners[2] - corners[0]).max(0.0) * (corners[3] - corners[1]).max(0.0)
}

/// Area that two boxes have in common divided by the area of both together; 0 where that is 0.
fn overlap(a: Corners, b: Corners) -> f64 {
    let common = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    let all = area(a) + area(b) - common;
    if all > 0.0 { common / all } else { 0.0 }
}

/// Indices of boxes by falling score, without those that overlap one before them too much.
fn select(
    boxes: &[Corners],
    scores: &[f64],
    most: usize,
    [overlap_limit, score_limit]: [f64; 2],
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|&index| scores[index] > score_limit).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut chosen: Vec<usize> = Vec::new();
    for index in order {
        if chosen.len() >= most {
            break;
        }
        if chosen.iter().all(|&other| overlap(boxes[index], boxes[other]) <= overlap_limit) {
            chosen.push(index);
        }
    }
    chosen
}

/// Inputs: boxes `[n, boxes, 4]`, scores `[n, classes, boxes]`, most boxes of a class (none where
/// it is left out), largest overlap, smallest score. Output: rows of image, class and box.
fn non_max_suppression(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (boxes, scores) = (node.input(0)?, node.input(1)?);
    let (&[n, count, 4], &[images, classes, of]) = (boxes.dims(), scores.dims()) else {
        return Err(
            node.fail(format!("takes boxes [n, boxes, 4] and their scores, got {boxes} and {scores}"))
        );
    };
    if n != images || of != count {
        return Err(node.fail(format!("the scores {scores} do not fit the boxes {boxes}")));
    }
    let mut number = |index: usize, default: f64| match node.optional(index) {
        Some(value) if value.shape.elements() > 0 => importer.host_number(&value),
        _ => Ok(default),
    };
    let most = number(2, 0.0)?.max(0.0) as usize;
    let limits = [number(3, 0.0)?, number(4, f64::NEG_INFINITY)?];
    if !(0.0..=1.0).contains(&limits[0]) {
        return Err(node.fail(format!("the largest overlap must be 0 to 1, got {}", limits[0])));
    }
    let from_center = node.flag("center_point_box", false)?;
    let (boxes, scores) = (importer.host(&boxes)?.to_f64(), importer.host(&scores)?.to_f64());
    let boxes: Vec<Corners> = boxes.chunks_exact(4).map(|numbers| corners(numbers, from_center)).collect();
    let mut rows = Vec::new();
    for image in 0..n {
        let boxes = &boxes[image * count..][..count];
        for class in 0..classes {
            let scores = &scores[(image * classes + class) * count..][..count];
            for index in select(boxes, scores, most, limits) {
                rows.extend([image as i64, class as i64, index as i64]);
            }
        }
    }
    Ok(vec![Value::integers(ElementType::Int64, [rows.len() / 3, 3], &rows)])
}
