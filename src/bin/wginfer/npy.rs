//! Arrays as NumPy files, version 1.0
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

/// The bytes of a NumPy file with rows of f32 numbers.
pub(crate) fn rows(cols: usize, rows: &[Vec<f32>]) -> Vec<u8> {
    let count = rows.len();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {cols}), }}");
    // The data begin at a multiple of 64: magic, version and length are 10 bytes.
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let length = u16::try_from(header.len()).expect("a header of two numbers is short");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(rows.iter().flatten().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn headers_say_the_shape() {
        let bytes = super::rows(2, &[vec![1.0, 2.0], vec![3.0, f32::NAN], vec![5.0, 6.0]]);
        assert_eq!(bytes.len(), 128 + 3 * 2 * 4);
        let header = std::str::from_utf8(&bytes[10..128]).unwrap();
        assert!(header.contains("'shape': (3, 2)") && header.ends_with('\n'), "{header}");
        assert_eq!(bytes[8..10], 118_u16.to_le_bytes());
        assert_eq!(bytes[132..136], 2.0_f32.to_le_bytes());
    }
}
