//! Records of a TFRecord file: the length, its checksum, the content and its checksum
//! (tensorflow.org/tutorials/load_data/tfrecord).

/// Encodes a record.
pub fn encode(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(content.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(content);
    record.extend(masked_crc(content).to_le_bytes());
    record
}

/// CRC-32C, rotated and shifted, so that the checksum of data that contains checksums differs from
/// them.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_masked_castagnoli() {
        // RFC 3720, B.4: the CRC-32C of 32 bytes of zeros.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        let masked = 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked_crc(&[0; 32]), masked);
        let record = encode(&[0; 32]);
        assert_eq!(record.len(), 8 + 4 + 32 + 4);
        assert_eq!(record[..8], 32u64.to_le_bytes());
        assert_eq!(record[44..], masked.to_le_bytes());
    }
}
