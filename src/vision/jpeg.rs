//! What a JPEG file says of itself before it is decoded: whether it is whole.
//!
//! The decoder fills what a truncated file lacks with grey; a file that ends before its
//! end-of-image marker is refused here instead. Markers: ITU-T T.81, annex B.

/// Walks over the segments of a JPEG file to its end-of-image marker.
pub(super) fn check_complete(bytes: &[u8]) -> Result<(), &'static str> {
    const TRUNCATED: &str = "truncated: there is no end-of-image marker";
    // Behind the start-of-image marker.
    let mut place = 2;
    loop {
        place += bytes.get(place..).and_then(next_marker).ok_or(TRUNCATED)?;
        match bytes[place + 1] {
            0xd9 => return Ok(()),
            // Markers without a segment.
            0x01 | 0xd0..=0xd8 => place += 2,
            _ => {
                let &[high, low] = bytes.get(place + 2..place + 4).ok_or(TRUNCATED)? else {
                    return Err(TRUNCATED);
                };
                let length = usize::from(u16::from_be_bytes([high, low]));
                if length < 2 {
                    return Err("corrupt: a segment is shorter than its own length");
                }
                place += 2 + length;
            }
        }
    }
}

/// Offset of the next marker: a byte 0xff that no stuffing (0x00), fill byte (0xff) or restart
/// marker follows. Entropy-coded data between segments is skipped so.
fn next_marker(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xff | 0xd0..=0xd7))
}
