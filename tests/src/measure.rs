//! What the benches share: files to send, and the middle of what was measured.

/// Bytes that compress badly, always the same.
pub fn content(bytes: usize) -> Vec<u8> {
    let word = |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    (0..bytes as u64 / 8).flat_map(word).collect()
}

/// The middle value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
