//! Boxes around objects: overlap, suppression of duplicates, and the way back to the photo.

use crate::models::preprocess::Axis;
use std::cmp::Ordering;

/// A rectangle in pixels; 0 is the border before the first pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoundingBox {
    /// Left border.
    pub left: f32,
    /// Upper border.
    pub top: f32,
    /// Right border.
    pub right: f32,
    /// Lower border.
    pub bottom: f32,
}

impl BoundingBox {
    /// Its area, 0 where a border is on the wrong side.
    pub fn area(&self) -> f32 {
        (self.right - self.left).max(0.0) * (self.bottom - self.top).max(0.0)
    }

    /// Area that two boxes share, as a fraction of the area that both cover; 0 for empty boxes.
    pub fn intersection_over_union(&self, other: &Self) -> f32 {
        let shared = Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        }
        .area();
        let union = self.area() + other.area() - shared;
        if union > 0.0 { shared / union } else { 0.0 }
    }

    /// A box in a network's input as one in the photo that the input was made of, cut at the
    /// photo's borders. `axes` are those of [`Preprocess::axes`](super::Preprocess::axes).
    #[must_use]
    pub fn to_photo(&self, axes: &[Axis; 2], height: u32, width: u32) -> Self {
        let along = |axis: &Axis, place: f32, limit: u32| {
            axis.to_photo(f64::from(place)).clamp(0.0, f64::from(limit)) as f32
        };
        Self {
            left: along(&axes[1], self.left, width),
            top: along(&axes[0], self.top, height),
            right: along(&axes[1], self.right, width),
            bottom: along(&axes[0], self.bottom, height),
        }
    }

    fn is_finite(&self) -> bool {
        [self.left, self.top, self.right, self.bottom].iter().all(|side| side.is_finite())
    }
}

/// An object that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Its class.
    pub class: usize,
    /// How sure the network is, 0 to 1.
    pub score: f32,
    /// Where it is.
    pub bounds: BoundingBox,
}

/// Reads a network's candidates, rows of left, top, right, bottom and a score for each class:
/// each is of its best class, and is left out below `least` or where a number is none.
///
/// # Panics
/// When a row has no class, or the last one is incomplete.
pub fn read_candidates(rows: &[f32], classes: usize, least: f32) -> Vec<Detection> {
    assert!(classes > 0 && rows.len().is_multiple_of(4 + classes), "rows of 4 + {classes} numbers");
    let candidate = |row: &[f32]| {
        let best = (0..classes).max_by(|&a, &b| row[4 + a].total_cmp(&row[4 + b]).then(b.cmp(&a)))?;
        let bounds = BoundingBox { left: row[0], top: row[1], right: row[2], bottom: row[3] };
        let detection = Detection { class: best, score: row[4 + best], bounds };
        (detection.score >= least && bounds.is_finite() && bounds.area() > 0.0).then_some(detection)
    };
    rows.chunks_exact(4 + classes).filter_map(candidate).collect()
}

/// Non-maximum suppression: of boxes of one class that overlap by more than `most` (as
/// intersection over union) the best stays. The best `limit` are returned, best first.
pub fn suppress(mut detections: Vec<Detection>, most: f32, limit: usize) -> Vec<Detection> {
    // A stable sort: of equal scores the first stays.
    detections.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal));
    let mut kept: Vec<Detection> = Vec::new();
    for detection in detections {
        if kept.len() == limit {
            break;
        }
        let covers = |other: &Detection| {
            other.class == detection.class && other.bounds.intersection_over_union(&detection.bounds) > most
        };
        if !kept.iter().any(covers) {
            kept.push(detection);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::preprocess::{Channels, Preprocess, Resize};

    fn bounds(left: f32, top: f32, right: f32, bottom: f32) -> BoundingBox {
        BoundingBox { left, top, right, bottom }
    }

    fn detection(class: usize, score: f32, bounds: BoundingBox) -> Detection {
        Detection { class, score, bounds }
    }

    #[test]
    fn overlap_is_shared_by_covered_area() {
        let a = bounds(0.0, 0.0, 2.0, 2.0);
        assert_eq!(a.intersection_over_union(&a), 1.0);
        assert_eq!(a.intersection_over_union(&bounds(1.0, 0.0, 3.0, 2.0)), 1.0 / 3.0);
        assert_eq!(a.intersection_over_union(&bounds(2.0, 0.0, 3.0, 2.0)), 0.0);
        assert_eq!(a.intersection_over_union(&bounds(0.5, 0.5, 1.5, 1.5)), 0.25);
        let inverted = bounds(2.0, 2.0, 0.0, 0.0);
        assert_eq!((inverted.area(), inverted.intersection_over_union(&inverted)), (0.0, 0.0));
    }

    #[test]
    fn the_best_of_overlapping_boxes_stays() {
        let here = bounds(0.0, 0.0, 10.0, 10.0);
        let near = bounds(1.0, 0.0, 11.0, 10.0);
        let far = bounds(50.0, 0.0, 60.0, 10.0);
        let found = vec![
            detection(0, 0.5, here),
            detection(0, 0.9, near),
            detection(1, 0.4, here),
            detection(0, 0.3, far),
        ];
        let kept = suppress(found.clone(), 0.5, 10);
        assert_eq!(kept, [found[1], found[2], found[3]]);
        assert_eq!(suppress(found.clone(), 0.9, 10).len(), 4);
        assert_eq!(suppress(found, 0.5, 1).len(), 1);
        assert_eq!(suppress(Vec::new(), 0.5, 10), []);
        // A chain: the second is covered by the first, the third only by the second.
        let chain = [0.0, 4.0, 8.0].map(|x| bounds(x, 0.0, x + 10.0, 10.0));
        let scores = [0.9, 0.8, 0.7];
        let chain: Vec<Detection> = (0..3).map(|i| detection(0, scores[i], chain[i])).collect();
        assert_eq!(suppress(chain.clone(), 0.3, 10), [chain[0], chain[2]]);
    }

    #[test]
    fn candidates_are_of_their_best_class() {
        let rows = [
            [1.0, 2.0, 3.0, 4.0, 0.1, 0.8],
            [1.0, 2.0, 3.0, 4.0, 0.2, 0.1],
            [1.0, 2.0, f32::NAN, 4.0, 0.9, 0.1],
            [1.0, 2.0, 3.0, 4.0, f32::NAN, f32::NAN],
            [3.0, 2.0, 1.0, 4.0, 0.9, 0.9],
            [1.0, 2.0, 3.0, 4.0, 0.7, 0.7],
        ];
        let found = read_candidates(rows.as_flattened(), 2, 0.5);
        let here = bounds(1.0, 2.0, 3.0, 4.0);
        assert_eq!(found, [detection(1, 0.8, here), detection(0, 0.7, here)]);
    }

    #[test]
    fn boxes_find_back_to_the_photo() {
        let resize = Resize::Letterbox { size: [64, 64], fill: 114 };
        let square = Preprocess::square(64, Channels::Rgb, 1.0, [0.0; 3], [1.0; 3]);
        let letterbox = Preprocess { resize, square: false, ..square.clone() };
        let axes = letterbox.axes([100, 200]).unwrap();
        let there = bounds(16.0, 16.0, 70.0, 32.0).to_photo(&axes, 100, 200);
        assert_eq!(there, bounds(50.0, 0.0, 200.0, 50.0));
        let axes = square.axes([100, 200]).unwrap();
        let there = bounds(0.0, 0.0, 64.0, 32.0).to_photo(&axes, 100, 200);
        assert_eq!(there, bounds(50.0, 0.0, 150.0, 50.0));
    }
}
