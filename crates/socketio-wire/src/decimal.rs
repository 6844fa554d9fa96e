//! Unsigned decimal numbers, read and written without going through `fmt`.

/// The number at the front of `bytes` and how many digits it has; at most `max_digits` (<= 19, so that it
/// cannot overflow). `None` when there is no digit or there are too many.
pub(crate) fn read(bytes: &[u8], max_digits: usize) -> Option<(u64, usize)> {
    debug_assert!(max_digits <= 19);
    let mut value = 0u64;
    let mut digits = 0;
    while let Some(byte @ b'0'..=b'9') = bytes.get(digits) {
        if digits == max_digits {
            return None;
        }
        value = value * 10 + u64::from(byte - b'0');
        digits += 1;
    }
    (digits > 0).then_some((value, digits))
}

/// Appends `value` in decimal; `zero` is what stands for the digit 0 (`b'0'`, or 0 where digits are raw).
pub(crate) fn write(mut value: u64, zero: u8, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = zero + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}
