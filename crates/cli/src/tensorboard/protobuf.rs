//! The subset of the protobuf encoding that event files need
//! (protobuf.dev/programming-guides/encoding).

/// A message under construction.
#[derive(Debug, Default)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// The encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a field of type int32, int64, bool or enum.
    pub fn number(mut self, field: u32, value: u64) -> Self {
        self.varint((field << 3).into());
        self.varint(value);
        self
    }

    /// Adds a field of type double.
    pub fn double(mut self, field: u32, value: f64) -> Self {
        self.varint((field << 3 | 1).into());
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// Adds a field of type float.
    pub fn float(mut self, field: u32, value: f32) -> Self {
        self.varint((field << 3 | 5).into());
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// Adds a field of type bytes.
    pub fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.varint((field << 3 | 2).into());
        self.varint(bytes.len() as u64);
        self.bytes.extend(bytes);
        self
    }

    /// Adds a field of type string.
    pub fn text(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// Adds a nested message.
    pub fn message(self, field: u32, message: Self) -> Self {
        self.bytes(field, &message.bytes)
    }

    /// Adds a varint, with seven bits of `value` in each byte, lowest first. The eighth bit of a byte
    /// is set if more bytes follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first two messages are examples from the protobuf documentation.
    #[test]
    fn fields_are_encoded_as_documented() {
        let number = Message::default().number(1, 150);
        assert_eq!(number.as_bytes(), [0x08, 0x96, 0x01]);
        let text = Message::default().text(2, "testing");
        assert_eq!(text.as_bytes(), b"\x12\x07testing");
        let nested = Message::default().message(3, number);
        assert_eq!(nested.as_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let floats = Message::default().double(1, 1.0).float(2, -2.0);
        assert_eq!(
            floats.as_bytes(),
            [9, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x15, 0, 0, 0, 0xc0]
        );
    }
}
