//! The file of a checkpoint: safetensors with f32 tensors, whose last tensor is the SHA-256 of every byte before it.
//!
//! The checksum is written and checked in the same pass as the rest. Whatever byte is lost or changed, in the
//! header, in a tensor or in the checksum itself, the file is known to be damaged. Any reader of safetensors can
//! look into it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, ensure};
use candle_core::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use trainer::Snapshot;

use crate::fault_injection::FaultyFile;

/// The checksum's name; it sorts after all others, and its bytes are the last of the file.
const CHECKSUM: &str = "~sha256";

/// Bytes of a SHA-256.
const CHECKSUM_BYTES: usize = 32;

/// What a file holds: strings and tensors, by name.
#[derive(Debug)]
pub(super) struct CheckpointFile<T> {
    pub(super) strings: BTreeMap<String, String>,
    pub(super) tensors: BTreeMap<String, T>,
}

impl CheckpointFile<Snapshot> {
    /// How many bytes the file will have.
    pub(super) fn bytes(&self) -> u64 {
        let counts = self.tensors.values().map(|held| held.shape().elem_count());
        let values: usize = counts.sum();
        (8 + self.header().len() + 4 * values + CHECKSUM_BYTES) as u64
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Map::new();
        header.insert("__metadata__".to_string(), json!(self.strings));
        let mut at = 0;
        for (name, held) in &self.tensors {
            let (shape, count) = (held.shape().dims(), held.shape().elem_count());
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

    /// Writes and syncs the file. Each tensor is let go of once it is written.
    pub(super) fn write(self, path: &Path) -> anyhow::Result<()> {
        let file = FaultyFile(File::create(path)?);
        let mut out = Hashing {
            inner: BufWriter::with_capacity(1 << 20, file),
            hash: Sha256::new(),
        };
        let header = self.header();
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for (name, held) in self.tensors {
            let write = |piece: &[f32]| -> anyhow::Result<()> {
                Ok(out.write_all(bytemuck::cast_slice(piece))?)
            };
            held.try_for_each_chunk(write)
                .with_context(|| format!("`{name}`"))?;
        }
        let Hashing { mut inner, hash } = out;
        inner.write_all(&hash.finalize())?;
        let file = inner.into_inner().map_err(|error| error.into_error())?;
        Ok(file.0.sync_all()?)
    }
}

impl CheckpointFile<Tensor> {
    /// Reads a file and checks all of it.
    ///
    /// Nothing larger than the file is allocated, whatever its header says.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut input = Hashing {
            inner: BufReader::with_capacity(1 << 20, file),
            hash: Sha256::new(),
        };
        let mut header = [0; 8];
        input.read_exact(&mut header)?;
        let header = u64::from_le_bytes(header);
        ensure!(
            header <= length.saturating_sub(8),
            "it ends within its header"
        );
        let mut bytes = vec![0; header as usize];
        input.read_exact(&mut bytes)?;
        let (strings, infos) = parse(&bytes)?;
        let end = infos.last().map_or(0, |(_, info)| info.data_offsets.1);
        let expected = (8 + header).saturating_add(end);
        ensure!(
            expected == length,
            "it has {length} bytes instead of {expected}"
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
            "its checksum does not match"
        );
        Ok(Self { strings, tensors })
    }
}

/// A tensor as the header describes it.
#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// What a header says: strings, and tensors in the order of their bytes, the checksum last.
type Header = (BTreeMap<String, String>, Vec<(String, Info)>);

fn parse(header: &[u8]) -> anyhow::Result<Header> {
    const BROKEN: &str = "its header cannot be read";
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
        let sound = info.dtype == dtype
            && info.data_offsets.0 == at
            && end == Some(info.data_offsets.1)
            && last == (name == CHECKSUM)
            && (!last || info.shape == [CHECKSUM_BYTES]);
        ensure!(sound, "its header contradicts itself at `{name}`");
        at = info.data_offsets.1;
    }
    ensure!(!infos.is_empty(), "it has no checksum");
    Ok((strings, infos))
}

/// Reads or writes, and hashes what passes.
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

    fn contents() -> CheckpointFile<Tensor> {
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

    fn held(contents: &CheckpointFile<Tensor>) -> CheckpointFile<Snapshot> {
        let tensors = contents.tensors.iter();
        CheckpointFile {
            strings: contents.strings.clone(),
            tensors: tensors
                .map(|(name, tensor)| (name.clone(), Snapshot::new(tensor).unwrap()))
                .collect(),
        }
    }

    #[test]
    fn what_is_written_is_read_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let contents = contents();
        let to_write = held(&contents);
        let bytes = to_write.bytes();
        to_write.write(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().len(),
            bytes,
            "the size is known beforehand"
        );
        let read = CheckpointFile::read(&path).unwrap();
        assert_eq!(read.strings, contents.strings);
        let bits = |contents: &CheckpointFile<Tensor>| -> Vec<(String, Vec<usize>, Vec<u32>)> {
            let bits = |(name, tensor): (&String, &Tensor)| {
                let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let bits = values.into_iter().map(f32::to_bits).collect();
                (name.clone(), tensor.dims().to_vec(), bits)
            };
            contents.tensors.iter().map(bits).collect()
        };
        assert_eq!(bits(&read), bits(&contents));
        let foreign = safetensors::SafeTensors::deserialize(&std::fs::read(&path).unwrap())
            .unwrap()
            .names()
            .len();
        assert_eq!(foreign, 3, "others can read it too");
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        held(&contents()).write(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            for change in [1, 0x80] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                std::fs::write(&path, &bytes).unwrap();
                assert!(CheckpointFile::read(&path).is_err(), "byte {at}");
            }
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(CheckpointFile::read(&path).is_err(), "cut at {at}");
        }
        std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert!(CheckpointFile::read(&path).is_err(), "a byte too many");
    }
}
