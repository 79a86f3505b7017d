//! Base64 as S3 writes checksums: RFC 4648 section 4, with padding.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let number = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            if digit > group.len() {
                text.push('=');
            } else {
                let index = number >> (18 - 6 * digit) & 63;
                text.push(char::from(ALPHABET[index as usize]));
            }
        }
    }
    text
}

/// The inverse of [`base64`]; `None` for anything it would not have written.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.as_bytes().chunks(4) {
        let digits = group.iter().take_while(|digit| **digit != b'=').count();
        let mut number = 0;
        for digit in &group[..digits] {
            let value = ALPHABET.iter().position(|letter| letter == digit)?;
            number = number << 6 | value as u32;
        }
        number <<= 6 * (4 - digits);
        bytes.extend_from_slice(&number.to_be_bytes()[1..digits.max(1)]);
    }
    (base64(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648 section 10.
    #[test]
    fn known_values() {
        let table = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in table {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(from_base64(coded).unwrap(), plain.as_bytes());
        }
        for bad in ["Zg", "Zg=", "Zh==", "Z===", "====", "Zm9v=", "Zm 9", "Zm9vZg"] {
            assert_eq!(from_base64(bad), None, "{bad}");
        }
    }
}
