//! Bech32 (BIP-173) of account addresses, in the one form in which they are nearly always met: lower case, with the account prefix.
//!
//! A transfer names some fifteen addresses in its messages and events. The general library takes several times as long for each, because it
//! goes through iterators of five bits; it stays the judge of every other text, and of what is wrong with one.

use super::ACCOUNT_PREFIX;

/// Characters of the prefix and the separator.
const HEAD: usize = ACCOUNT_PREFIX.len() + 1;
/// Characters of 20 bytes, five bits each: none is left over.
const DATA: usize = 32;
/// Characters of the checksum.
const CHECKSUM: usize = 6;
/// Length of the text.
pub(super) const LEN: usize = HEAD + DATA + CHECKSUM;

const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// No character of the alphabet has this value.
const NONE: u8 = 0xff;

/// Value of each ASCII character.
const VALUES: [u8; 128] = {
    let mut values = [NONE; 128];
    let mut value = 0;
    while value < 32 {
        values[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// What the five bits that leave the checksum's register do to it.
const FEEDBACK: [u32; 32] = {
    let generator = [0x3b6a_57b2_u32, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let mut feedback = [0; 32];
    let mut top = 0;
    while top < 32 {
        let mut bit = 0;
        while bit < 5 {
            if top >> bit & 1 == 1 {
                feedback[top] ^= generator[bit];
            }
            bit += 1;
        }
        top += 1;
    }
    feedback
};

/// The checksum's register after one more value of five bits.
const fn step(register: u32, value: u8) -> u32 {
    (register & 0x01ff_ffff) << 5 ^ value as u32 ^ FEEDBACK[(register >> 25) as usize & 31]
}

/// The register after the prefix, which is expanded to its high bits, a zero, and its low bits.
const AFTER_PREFIX: u32 = {
    let prefix = ACCOUNT_PREFIX.as_bytes();
    let mut register = 1;
    let mut i = 0;
    while i < prefix.len() {
        register = step(register, prefix[i] >> 5);
        i += 1;
    }
    register = step(register, 0);
    i = 0;
    while i < prefix.len() {
        register = step(register, prefix[i] & 31);
        i += 1;
    }
    register
};

/// The text of an address: ASCII.
pub(super) fn encode(bytes: &[u8; 20]) -> [u8; LEN] {
    let mut text = [b'1'; LEN];
    text[..HEAD - 1].copy_from_slice(ACCOUNT_PREFIX.as_bytes());
    let (mut register, mut at) = (AFTER_PREFIX, HEAD);
    let mut put = |value: u8| {
        text[at] = ALPHABET[usize::from(value & 31)];
        at += 1;
    };
    for five in bytes.chunks_exact(5) {
        // 40 bits are eight values.
        let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for shift in [35, 30, 25, 20, 15, 10, 5, 0] {
            let value = (bits >> shift & 31) as u8;
            register = step(register, value);
            put(value);
        }
    }
    for _ in 0..CHECKSUM {
        register = step(register, 0);
    }
    register ^= 1;
    for shift in [25, 20, 15, 10, 5, 0] {
        put((register >> shift & 31) as u8);
    }
    text
}

/// The address of a text; `None` leaves the verdict to the library.
pub(super) fn decode(text: &str) -> Option<[u8; 20]> {
    let text: &[u8; LEN] = text.as_bytes().try_into().ok()?;
    let (head, rest) = text.split_at(HEAD);
    if head.strip_suffix(b"1") != Some(ACCOUNT_PREFIX.as_bytes()) {
        return None;
    }
    let mut values = [0; DATA + CHECKSUM];
    let mut register = AFTER_PREFIX;
    for (value, character) in values.iter_mut().zip(rest) {
        *value = *VALUES.get(usize::from(*character))?;
        if *value == NONE {
            return None;
        }
        register = step(register, *value);
    }
    if register != 1 {
        return None;
    }
    let mut bytes = [0; 20];
    for (five, values) in bytes.chunks_exact_mut(5).zip(values.chunks_exact(8)) {
        let bits = values.iter().fold(0_u64, |bits, value| bits << 5 | u64::from(*value));
        five.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use bech32::{primitives::decode::CheckedHrpstring, Bech32, Hrp};
    use proptest::prelude::*;

    use super::*;

    /// What the library says of a text with the account prefix.
    fn library(text: &str) -> Option<Vec<u8>> {
        let parsed = CheckedHrpstring::new::<Bech32>(text).ok()?;
        (parsed.hrp().as_str() == ACCOUNT_PREFIX).then(|| parsed.byte_iter().collect())
    }

    proptest! {
        #[test]
        fn texts_are_the_librarys(bytes in any::<[u8; 20]>()) {
            let text = encode(&bytes);
            let text = std::str::from_utf8(&text).unwrap();
            let expected = bech32::encode::<Bech32>(Hrp::parse(ACCOUNT_PREFIX).unwrap(), &bytes).unwrap();
            prop_assert_eq!(text, expected);
            prop_assert_eq!(decode(text), Some(bytes));
        }

        #[test]
        fn what_is_read_the_library_reads_alike(
            bytes in any::<[u8; 20]>(), at in 0..LEN, other in proptest::char::any(), upper in any::<bool>(),
        ) {
            let text = encode(&bytes);
            let mut text: Vec<char> = text.iter().map(|byte| char::from(*byte)).collect();
            text[at] = other;
            let mut text: String = text.into_iter().collect();
            if upper { text = text.to_uppercase(); }
            if let Some(read) = decode(&text) {
                prop_assert_eq!(library(&text), Some(read.to_vec()));
            }
        }
    }

    #[test]
    fn other_prefixes_lengths_and_checksums_are_left_to_the_library() {
        let bytes = [7; 20];
        let good = bech32::encode::<Bech32>(Hrp::parse(ACCOUNT_PREFIX).unwrap(), &bytes).unwrap();
        assert_eq!(decode(&good), Some(bytes));
        // Bech32m ends in another checksum.
        let modified = bech32::encode::<bech32::Bech32m>(Hrp::parse(ACCOUNT_PREFIX).unwrap(), &bytes).unwrap();
        let prefix = bech32::encode::<Bech32>(Hrp::parse("tenura").unwrap(), &bytes).unwrap();
        let longer = bech32::encode::<Bech32>(Hrp::parse(ACCOUNT_PREFIX).unwrap(), &[7; 21]).unwrap();
        for text in [
            "",
            "tenure1",
            &modified,
            &prefix,
            &longer,
            &good.to_uppercase(),
            &good[1..],
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert_eq!(library(&modified), None);
    }
}
