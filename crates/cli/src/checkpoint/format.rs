//! The file format of checkpoints: safetensors with f32 tensors, followed by a U8 tensor that holds
//! the SHA-256 of all bytes before it.
//!
//! The checksum is computed while the file is written or read, without another pass. A lost or
//! changed byte in the header, a tensor or the checksum itself is detected. Any safetensors reader
//! can open the file.
//!
//! Every future format must end with such a checksum, so that this version can tell an intact file of
//! a later version from a damaged one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};

use anyhow::{Context, ensure};
use candle_core::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use trainer::Snapshot;

/// Name of the checksum tensor, whose bytes come last in the file.
const CHECKSUM: &str = "~sha256";

/// Length of a SHA-256 hash in bytes.
const CHECKSUM_BYTES: usize = 32;

/// Size limit of the header in bytes. Most of it are the hashes of the images, about 100 bytes each.
const MAX_HEADER: u64 = 1 << 30;

/// The contents of a checkpoint file: metadata strings, and tensors by name. The tensors are
/// snapshots when writing and plain tensors after reading.
#[derive(Debug)]
pub(super) struct CheckpointFile<T> {
    pub(super) strings: BTreeMap<String, String>,
    pub(super) tensors: BTreeMap<String, T>,
}

impl CheckpointFile<Snapshot> {
    /// Size in bytes of the file written by [`write`](Self::write).
    pub(super) fn bytes(&self) -> u64 {
        let counts = self
            .tensors
            .values()
            .map(|tensor| tensor.shape().elem_count());
        let values: usize = counts.sum();
        (8 + self.header().len() + 4 * values + CHECKSUM_BYTES) as u64
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Map::new();
        header.insert("__metadata__".to_string(), json!(self.strings));
        let mut at = 0;
        for (name, tensor) in &self.tensors {
            let (shape, count) = (tensor.shape().dims(), tensor.shape().elem_count());
            let end = at + 4 * count;
            let info = json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]});
            header.insert(name.clone(), info);
            at = end;
        }
        let info = json!({
            "dtype": "U8", "shape": [CHECKSUM_BYTES], "data_offsets": [at, at + CHECKSUM_BYTES],
        });
        header.insert(CHECKSUM.to_string(), info);
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        header
    }

    /// Writes the file to `out`. Drops each snapshot once it is written, to free its memory.
    pub(super) fn write(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut out = Hashing {
            inner: out,
            hash: Sha256::new(),
        };
        let header = self.header();
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for (name, tensor) in self.tensors {
            let write = |piece: &[f32]| -> anyhow::Result<()> {
                Ok(out.write_all(bytemuck::cast_slice(piece))?)
            };
            tensor
                .try_for_each_chunk(write)
                .with_context(|| format!("`{name}`"))?;
        }
        let Hashing { inner, hash } = out;
        Ok(inner.write_all(&hash.finalize())?)
    }
}

impl CheckpointFile<Tensor> {
    /// Reads a file and verifies its checksum.
    ///
    /// Allocations are bounded by the size of the file, even if the header is malicious.
    pub(super) fn read(file: &File) -> anyhow::Result<Self> {
        let length = file.metadata()?.len();
        let mut input = Hashing {
            inner: BufReader::with_capacity(1 << 20, file),
            hash: Sha256::new(),
        };
        let header = read_header(&mut input, length)?;
        let (strings, infos) = parse(&header)?;
        let end = infos.last().map_or(0, |(_, info)| info.data_offsets.1);
        let expected = (8 + header.len() as u64).saturating_add(end);
        ensure!(
            expected == length,
            "the file has {length} bytes instead of {expected}"
        );

        let mut tensors = BTreeMap::new();
        for (name, info) in &infos[..infos.len() - 1] {
            let mut values = vec![0f32; info.shape.iter().product()];
            input.read_exact(bytemuck::cast_slice_mut(&mut values))?;
            let tensor = Tensor::from_vec(values, info.shape.as_slice(), &Device::Cpu)?;
            tensors.insert(name.clone(), tensor);
        }
        let Hashing { mut inner, hash } = input;
        let mut checksum = [0; CHECKSUM_BYTES];
        inner.read_exact(&mut checksum)?;
        ensure!(
            hash.finalize().as_slice() == checksum,
            "the checksum does not match"
        );
        Ok(Self { strings, tensors })
    }
}

/// Reads the metadata strings of a file, without verifying its checksum.
pub(super) fn read_strings(file: &File) -> anyhow::Result<BTreeMap<String, String>> {
    let length = file.metadata()?.len();
    let header = read_header(&mut BufReader::new(file), length)?;
    let mut header: Map<String, Value> = serde_json::from_slice(&header).context(BROKEN)?;
    let strings = header.remove("__metadata__").context(BROKEN)?;
    serde_json::from_value(strings).context(BROKEN)
}

/// Whether a file ends with the SHA-256 of all bytes before it, as checkpoints of every version do.
pub(super) fn is_intact(mut file: &File) -> io::Result<bool> {
    let Some(length) = file.metadata()?.len().checked_sub(CHECKSUM_BYTES as u64) else {
        return Ok(false);
    };
    file.rewind()?;
    let mut input = Hashing {
        inner: BufReader::with_capacity(1 << 20, file),
        hash: Sha256::new(),
    };
    io::copy(&mut (&mut input).take(length), &mut io::sink())?;
    let Hashing { mut inner, hash } = input;
    let mut checksum = [0; CHECKSUM_BYTES];
    inner.read_exact(&mut checksum)?;
    Ok(hash.finalize().as_slice() == checksum)
}

/// Reads the header of a file of `length` bytes.
fn read_header(input: &mut impl Read, length: u64) -> anyhow::Result<Vec<u8>> {
    const TRUNCATED: &str = "the file ends within its header";
    ensure!(length > 0, "the file is empty");
    ensure!(length >= 8, TRUNCATED);
    let mut header_length = [0; 8];
    input.read_exact(&mut header_length)?;
    let header_length = u64::from_le_bytes(header_length);
    ensure!(header_length <= length - 8, TRUNCATED);
    ensure!(header_length <= MAX_HEADER, "the header is too long");
    let mut header = vec![0; header_length as usize];
    input.read_exact(&mut header)?;
    Ok(header)
}

/// The description of a tensor in the header.
#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// The metadata strings, and the tensors in file order, with the checksum last.
type Header = (BTreeMap<String, String>, Vec<(String, Info)>);

const BROKEN: &str = "cannot parse the header";

fn parse(header: &[u8]) -> anyhow::Result<Header> {
    let mut header: Map<String, Value> = serde_json::from_slice(header).context(BROKEN)?;
    let strings = header.remove("__metadata__").context(BROKEN)?;
    let strings = serde_json::from_value(strings).context(BROKEN)?;
    let mut infos = Vec::new();
    for (name, info) in header {
        infos.push((name, serde_json::from_value::<Info>(info).context(BROKEN)?));
    }
    infos.sort_by_key(|(_, info)| info.data_offsets);
    let mut at = 0;
    for (index, (name, info)) in infos.iter().enumerate() {
        let last = index + 1 == infos.len();
        let (dtype, size) = if last { ("U8", 1) } else { ("F32", 4) };
        let count = info
            .shape
            .iter()
            .try_fold(1u64, |count, &n| count.checked_mul(n as u64));
        let end = count
            .and_then(|count| count.checked_mul(size))
            .and_then(|bytes| bytes.checked_add(at));
        let valid = info.dtype == dtype
            && info.data_offsets.0 == at
            && end == Some(info.data_offsets.1)
            && last == (name == CHECKSUM)
            && (!last || info.shape == [CHECKSUM_BYTES]);
        ensure!(valid, "inconsistent description of `{name}` in the header");
        at = info.data_offsets.1;
    }
    ensure!(!infos.is_empty(), "the file has no checksum");
    Ok((strings, infos))
}

/// A wrapper around a reader or writer that hashes all bytes passing through it.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hash.update(&bytes[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> CheckpointFile<Tensor> {
        let tensor = |values: &[f32], shape: &[usize]| {
            Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
        };
        CheckpointFile {
            strings: [("run".to_string(), "a = \"b\"\n".to_string())].into(),
            tensors: [
                ("weights/a".to_string(), tensor(&[1.0, -0.0, 1e-40], &[3])),
                (
                    "best/b".to_string(),
                    tensor(&[f32::MAX, 2.0, 3.0, 4.0], &[2, 2]),
                ),
            ]
            .into(),
        }
    }

    fn snapshot(file: &CheckpointFile<Tensor>) -> CheckpointFile<Snapshot> {
        let tensors = file.tensors.iter();
        CheckpointFile {
            strings: file.strings.clone(),
            tensors: tensors
                .map(|(name, tensor)| (name.clone(), Snapshot::new(tensor).unwrap()))
                .collect(),
        }
    }

    /// A file with the contents `bytes`.
    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn a_file_is_read_back_bit_for_bit() {
        let written = example();
        let snapshot = snapshot(&written);
        let length = snapshot.bytes();
        let mut bytes = Vec::new();
        snapshot.write(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, length);
        assert!(is_intact(&file(&bytes)).unwrap());
        assert_eq!(read_strings(&file(&bytes)).unwrap(), written.strings);
        let read = CheckpointFile::read(&file(&bytes)).unwrap();
        assert_eq!(read.strings, written.strings);
        let bits = |file: &CheckpointFile<Tensor>| -> Vec<(String, Vec<usize>, Vec<u32>)> {
            let bits = |(name, tensor): (&String, &Tensor)| {
                let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let bits = values.into_iter().map(f32::to_bits).collect();
                (name.clone(), tensor.dims().to_vec(), bits)
            };
            file.tensors.iter().map(bits).collect()
        };
        assert_eq!(bits(&read), bits(&written));
        let safetensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(safetensors.len(), 3);
    }

    #[test]
    fn every_changed_byte_and_every_truncation_is_detected() {
        let mut whole = Vec::new();
        snapshot(&example()).write(&mut whole).unwrap();
        let assert_damaged = |bytes: &[u8], what: &str| {
            assert!(CheckpointFile::read(&file(bytes)).is_err(), "{what}");
            assert!(!is_intact(&file(bytes)).unwrap(), "{what}");
        };
        for at in 0..whole.len() {
            for change in [1, 0x80] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                assert_damaged(&bytes, &format!("byte {at}"));
            }
            assert_damaged(&whole[..at], &format!("truncated at {at}"));
        }
        assert_damaged(&[&whole[..], b"x"].concat(), "one extra byte");
    }
}
