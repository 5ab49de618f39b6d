//! Sizes of dimensions, row-major.

/// Sizes of a tensor's dimensions, outermost first; empty for a scalar.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// Makes a shape from its dimensions.
    pub fn new(dims: impl Into<Vec<usize>>) -> Self {
        Self(dims.into())
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Number of elements; 1 for a scalar.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }

    /// Number of elements, unless it is beyond what this machine can count: for shapes that are not
    /// checked yet.
    pub fn checked_elements(&self) -> Option<usize> {
        self.0.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))
    }

    /// Number of rows (product of all but the last dimension) and length of a row.
    pub fn rows_and_cols(&self) -> (usize, usize) {
        match self.0.split_last() {
            Some((&cols, outer)) => (outer.iter().product(), cols),
            None => (1, 1),
        }
    }

    /// Distance in elements between neighbours along each dimension.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1; self.0.len()];
        for axis in (1..self.0.len()).rev() {
            strides[axis - 1] = strides[axis] * self.0[axis];
        }
        strides
    }

    /// Shape of an element-wise operation of both (NumPy's broadcasting rules), if they fit.
    pub fn broadcast(&self, other: &Self) -> Option<Self> {
        let rank = self.rank().max(other.rank());
        let dim = |shape: &Self, axis: usize| {
            (axis + shape.rank()).checked_sub(rank).map_or(1, |axis| shape.0[axis])
        };
        let mut dims = Vec::with_capacity(rank);
        for axis in 0..rank {
            let (a, b) = (dim(self, axis), dim(other, axis));
            match (a, b) {
                _ if a == b => dims.push(a),
                (1, _) => dims.push(b),
                (_, 1) => dims.push(a),
                _ => return None,
            }
        }
        Some(Self(dims))
    }
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Self {
        Self(dims)
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Self(dims.to_vec())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self(dims.to_vec())
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_follows_numpy() {
        let broadcast = |a: &[usize], b: &[usize]| Shape::from(a).broadcast(&Shape::from(b));
        assert_eq!(broadcast(&[2, 1, 3], &[4, 1]), Some(Shape::from([2, 4, 3])));
        assert_eq!(broadcast(&[], &[5]), Some(Shape::from([5])));
        assert_eq!(broadcast(&[0, 3], &[1]), Some(Shape::from([0, 3])));
        assert_eq!(broadcast(&[2], &[3]), None);
    }

    #[test]
    fn strides_are_row_major() {
        assert_eq!(Shape::from([2, 3, 4]).strides(), [12, 4, 1]);
    }
}
