//! The subset of the protobuf encoding that ONNX export needs: integers, strings, bytes and nested
//! messages.
//!
//! A field is a key, `number << 3 | type`, and a value (protobuf.dev/programming-guides/encoding).
//! Type 0 is a varint. Type 2 is a length followed by that many bytes. The length of a message
//! precedes its content, so messages are built before they are written. Tensors, which make up
//! nearly all of a model, are written from their storage without a copy.

use std::io::{self, Write};

use bytemuck::cast_slice;
use candle_core::{CpuStorage, Storage, Tensor};

/// A message under construction.
#[derive(Debug, Default)]
pub(super) struct Message {
    pieces: Vec<Piece>,
    length: usize,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// A contiguous f32 tensor on the CPU, whose storage is written directly.
    Values(Tensor),
}

impl Message {
    /// Length of the encoding in bytes.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds a field of type int32, int64 or enum.
    pub(super) fn number(mut self, field: u32, value: u64) -> Self {
        self.key(field, 0);
        self.varint(value);
        self
    }

    /// Adds a field of type string.
    pub(super) fn text(mut self, field: u32, text: &str) -> Self {
        self.key(field, 2);
        self.varint(text.len() as u64);
        self.bytes(text.as_bytes());
        self
    }

    /// Adds a nested message.
    pub(super) fn message(mut self, field: u32, message: Self) -> Self {
        self.key(field, 2);
        self.varint(message.length as u64);
        self.length += message.length;
        self.pieces.extend(message.pieces);
        self
    }

    /// Adds a field of type bytes: the little-endian values of a contiguous f32 tensor on the CPU.
    pub(super) fn values(mut self, field: u32, tensor: Tensor) -> Self {
        let length = 4 * tensor.elem_count();
        self.key(field, 2);
        self.varint(length as u64);
        self.length += length;
        self.pieces.push(Piece::Values(tensor));
        self
    }

    /// Writes the encoding to `out`.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) => out.write_all(bytes)?,
                Piece::Values(tensor) => {
                    let (storage, layout) = tensor.storage_and_layout();
                    let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) =
                        (&*storage, layout.contiguous_offsets())
                    else {
                        return Err(io::Error::other(
                            "a tensor is not a contiguous f32 tensor on the CPU",
                        ));
                    };
                    out.write_all(cast_slice(&values[start..end]))?;
                }
            }
        }
        Ok(())
    }

    fn key(&mut self, field: u32, kind: u32) {
        self.varint((field << 3 | kind).into());
    }

    /// Adds a varint, with seven bits of `value` in each byte, lowest first. The eighth bit of a
    /// byte is set if more bytes follow.
    fn varint(&mut self, mut value: u64) {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        self.bytes(&bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        match self.pieces.last_mut() {
            Some(Piece::Bytes(last)) => last.extend(bytes),
            _ => self.pieces.push(Piece::Bytes(bytes.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn encoded(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        message
            .write(&mut bytes)
            .expect("writing to a Vec succeeds");
        assert_eq!(bytes.len(), message.len());
        bytes
    }

    /// The first three messages are examples from the protobuf documentation.
    #[test]
    fn fields_are_encoded_as_documented() {
        let number = Message::default().number(1, 150);
        assert_eq!(encoded(&number), [0x08, 0x96, 0x01]);
        let text = Message::default().text(2, "testing");
        assert_eq!(encoded(&text), b"\x12\x07testing");
        let nested = Message::default().message(3, number);
        assert_eq!(encoded(&nested), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let values = Tensor::new(&[1f32, -2.0], &Device::Cpu).expect("a tensor");
        let values = Message::default().values(9, values).number(14, u64::MAX);
        let mut expected = vec![0x4a, 8, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0x70];
        expected.extend([0xff; 9]);
        expected.push(1);
        assert_eq!(encoded(&values), expected);
    }
}
