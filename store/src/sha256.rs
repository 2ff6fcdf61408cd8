//! SHA-256, of many short messages at once.
//!
//! A compression is one chain of instructions that wait for each other, and a core can follow several such chains at the same time. What a
//! block hashes is independent of each other by the thousand, so where the processor has SHA instructions, [`LANES`] messages are hashed
//! abreast, in less than half the time; elsewhere one by one, by the crate `sha2`, which is also the oracle in the tests. FIPS 180-4.

use sha2::{Digest, Sha256};

/// A SHA-256 digest.
pub(crate) type Hash = [u8; 32];

/// Messages hashed abreast: measured, two to five gain 1.4, 1.8, 2.1 and 2.1 times.
pub(crate) const LANES: usize = 4;

/// Bytes of one compression.
const BLOCK: usize = 64;
/// Messages of more blocks than this are hashed alone: few are of one length, and [`digests`] keeps the others back until four are.
const MAX_BLOCKS: usize = 8;

/// SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// SHA-256 of each message, in their order.
pub(crate) fn digests(messages: &[&[u8]]) -> Vec<Hash> {
    let mut digests = vec![[0; 32]; messages.len()];
    // Those that wait for others of as many blocks.
    let mut waiting = [([0; LANES], 0); MAX_BLOCKS];
    for (index, message) in messages.iter().enumerate() {
        let Some((group, count)) = waiting.get_mut(blocks(message.len()) - 1) else {
            digests[index] = sha256(message);
            continue;
        };
        group[*count] = index;
        *count += 1;
        if *count == LANES {
            *count = 0;
            for (index, digest) in group.iter().zip(abreast(&group.map(|index| messages[index]))) {
                digests[*index] = digest;
            }
        }
    }
    for (group, count) in waiting {
        for index in &group[..count] {
            digests[*index] = sha256(messages[*index]);
        }
    }
    digests
}

/// For each item, SHA-256 of its `message`, handed to `done`. Messages of one call are of one length.
pub(crate) fn for_each<C: ?Sized, T, M: AsRef<[u8]> + Copy>(
    context: &mut C,
    items: &[T],
    message: impl Fn(&C, &T) -> M,
    mut done: impl FnMut(&mut C, &T, Hash),
) {
    for group in items.chunks(LANES) {
        if let [only] = group {
            let digest = sha256(message(context, only).as_ref());
            done(context, only, digest);
            continue;
        }
        // A lane without an item hashes the last one's message once more.
        let messages = std::array::from_fn(|lane| message(context, &group[lane.min(group.len() - 1)]));
        for (item, digest) in group.iter().zip(abreast(&messages)) {
            done(context, item, digest);
        }
    }
}

/// SHA-256 of messages of as many blocks each.
fn abreast<M: AsRef<[u8]>>(messages: &[M; LANES]) -> [Hash; LANES] {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1") {
        #[allow(unsafe_code, reason = "instructions that not every processor has")]
        // SAFETY: the one condition is that the processor has the features that `x86::digests` names; the line above has asked it.
        return unsafe { x86::digests(messages) };
    }
    messages.each_ref().map(|message| sha256(message.as_ref()))
}

/// Blocks of a message of this many bytes, padded by a bit and its length in eight bytes.
const fn blocks(len: usize) -> usize {
    (len + 8) / BLOCK + 1
}

/// A block of the padded message.
#[cfg(target_arch = "x86_64")]
#[inline]
fn padded(message: &[u8], number: usize) -> [u8; BLOCK] {
    let rest = message.get(number * BLOCK..);
    if let Some(full) = rest.and_then(<[u8]>::first_chunk) {
        return *full;
    }
    let mut block = [0; BLOCK];
    if let Some(rest) = rest {
        block[..rest.len()].copy_from_slice(rest);
        block[rest.len()] = 0x80;
    }
    if number + 1 == blocks(message.len()) {
        block[BLOCK - 8..].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    }
    block
}

/// The SHA instructions of x86. They keep the eight words of a state as `[a b e f]` and `[c d g h]`, highest first, and make two rounds each
/// (Intel, "New Instructions Supporting the Secure Hash Algorithm", 2013).
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi64, _mm_set_epi32, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi32, _mm_shuffle_epi8,
    };
    use std::array::from_fn;

    use super::{blocks, padded, Hash, BLOCK, LANES};

    /// FIPS 180-4, 5.3.3.
    const INITIAL: [u32; 8] = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];

    /// FIPS 180-4, 4.2.2.
    #[rustfmt::skip]
    const K: [u32; 64] = [
        0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
        0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
        0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
        0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
        0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
        0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
        0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
        0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
    ];

    /// Four words, the first lowest.
    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn words(words: [u32; 4]) -> __m128i {
        let [w0, w1, w2, w3] = words.map(u32::cast_signed);
        _mm_set_epi32(w3, w2, w1, w0)
    }

    /// Words 4 × `quarter` and following of a block.
    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn load(block: &[u8; BLOCK], quarter: usize) -> __m128i {
        let half = |at: usize| {
            block[16 * quarter + at..]
                .first_chunk()
                .map_or(0, |bytes| i64::from_le_bytes(*bytes))
        };
        let big_endian = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        _mm_shuffle_epi8(_mm_set_epi64x(half(8), half(0)), big_endian)
    }

    /// Takes one block into each state.
    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn compress(states: &mut [[__m128i; 2]; LANES], blocks: &[[u8; BLOCK]; LANES]) {
        let before = *states;
        let mut schedules: [[__m128i; 4]; LANES] = from_fn(|lane| from_fn(|quarter| load(&blocks[lane], quarter)));
        for step in 0..16 {
            let k = words(from_fn(|word| K[4 * step + word]));
            for (w, [abef, cdgh]) in schedules.iter_mut().zip(states.iter_mut()) {
                if step >= 4 {
                    let [w0, w1, w2, w3] = from_fn(|back| w[(step + back) % 4]);
                    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4));
                    w[step % 4] = _mm_sha256msg2_epu32(sum, w3);
                }
                let wk = _mm_add_epi32(w[step % 4], k);
                *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, wk);
                *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(wk, 0x0e));
            }
        }
        for (state, before) in states.iter_mut().zip(before) {
            *state = [_mm_add_epi32(state[0], before[0]), _mm_add_epi32(state[1], before[1])];
        }
    }

    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn digest([abef, cdgh]: [__m128i; 2]) -> Hash {
        let pairs = [
            _mm_extract_epi64::<1>(abef),
            _mm_extract_epi64::<1>(cdgh),
            _mm_extract_epi64::<0>(abef),
            _mm_extract_epi64::<0>(cdgh),
        ];
        let mut digest = [0; 32];
        for (bytes, pair) in digest.chunks_exact_mut(8).zip(pairs) {
            bytes.copy_from_slice(&pair.to_be_bytes());
        }
        digest
    }

    /// SHA-256 of messages of as many blocks each.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub(super) fn digests<M: AsRef<[u8]>>(messages: &[M; LANES]) -> [Hash; LANES] {
        let count = blocks(messages[0].as_ref().len());
        debug_assert!(messages.iter().all(|message| blocks(message.as_ref().len()) == count));
        let [a, b, c, d, e, f, g, h] = INITIAL;
        let mut states = [[words([f, e, b, a]), words([h, g, d, c])]; LANES];
        for number in 0..count {
            compress(&mut states, &from_fn(|lane| padded(messages[lane].as_ref(), number)));
        }
        from_fn(|lane| digest(states[lane]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize) -> Vec<u8> {
        (0..len).map(|index| (index * 7 + len) as u8).collect()
    }

    #[test]
    fn messages_abreast_have_the_digests_they_have_alone() {
        // Every length around the ends of blocks, short and long ones mixed, and some of each left over.
        let messages: Vec<Vec<u8>> = (0..700)
            .chain((0..130).rev())
            .chain([5_000, 64, 64, 1 << 20])
            .map(message)
            .collect();
        let borrowed: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let expected: Vec<Hash> = borrowed.iter().map(|message| sha256(message)).collect();
        assert_eq!(digests(&borrowed), expected);
        for len in 0..=3 * BLOCK {
            let four: [Vec<u8>; LANES] = std::array::from_fn(|lane| vec![lane as u8; len]);
            assert_eq!(
                abreast(&four),
                four.each_ref().map(|message| sha256(message)),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn every_item_gets_its_digest() {
        for count in 0..=3 * LANES {
            let items: Vec<usize> = (0..count).collect();
            let mut found = vec![[0; 32]; count];
            for_each(
                &mut found,
                &items,
                |_, item| [*item as u8; 80],
                |found, item, digest| found[*item] = digest,
            );
            let expected: Vec<Hash> = items.iter().map(|item| sha256(&[*item as u8; 80])).collect();
            assert_eq!(found, expected);
        }
    }
}
