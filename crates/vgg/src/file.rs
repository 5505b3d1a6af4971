//! Reads and writes safetensors files.
//!
//! Each tensor is read separately, so only one is buffered at a time. The length of the header is
//! checked against the length of the file and a limit before memory is allocated for the header.
//!
//! The `safetensors` crate writes the metadata in the order of a `HashMap`, which differs between
//! runs. The writer in this module sorts the metadata, so the same input gives the same bytes.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata as Header, TensorInfo};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::Error;
use crate::sniff;

/// Maximum length of the header in bytes. 16 MiB is enough for a hundred thousand tensors, and
/// VGG-19 has 38. The `safetensors` crate accepts headers of up to 100 MB, which take a gigabyte of
/// memory when parsed.
const MAX_HEADER: u64 = 16 << 20;

/// A tensor that only checkpoints of training runs contain, which are safetensors files too.
const CHECKPOINT: &str = "~sha256";

/// Maximum length of a key in an error.
const MAX_KEY: usize = 200;

/// An open safetensors file with a valid header.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    file: File,
    /// Offset of the data section from the start of the file, in bytes.
    data: u64,
    tensors: BTreeMap<String, TensorInfo>,
    strings: BTreeMap<String, String>,
}

impl TensorFile {
    /// Reads and validates the header of `file`, which was opened from `path` and begins with the
    /// bytes `start`. Other formats are reported as [`Error::NotWeights`].
    pub(crate) fn open(path: &Path, mut file: File, start: &[u8]) -> Result<Self, Error> {
        let io = |error| Error::io("read", path, error);
        let invalid = |reason: String| Error::NotSafetensors {
            path: path.into(),
            reason,
        };
        let size = file.metadata().map_err(io)?.len();
        let length = start.first_chunk().map(|first| u64::from_le_bytes(*first));
        let length = match length {
            Some(length) if length <= MAX_HEADER.min(size.saturating_sub(8)) => length,
            // The length is followed by the brace of a header or by the end of the file, so this is
            // a corrupt or truncated safetensors file.
            Some(length) if start.get(8).is_none_or(|&next| next == b'{') => {
                return Err(invalid(if length > MAX_HEADER {
                    format!("the header length is {length} bytes, but the limit is {MAX_HEADER}")
                } else {
                    format!("the header length is {length} bytes, but the file has {size}")
                }));
            }
            None if !start.is_empty() && sniff::is_unknown(start) => {
                return Err(invalid(format!("the file has only {size} bytes")));
            }
            _ => return Err(sniff::error(path, start)),
        };
        file.seek(SeekFrom::Start(8)).map_err(io)?;
        let mut header = vec![0u8; length as usize];
        file.read_exact(&mut header).map_err(io)?;
        // The header is an object of objects: `__metadata__`, and one for each tensor.
        let no_duplicates: Result<UniqueKeys<UniqueKeys<IgnoredAny>>, _> =
            serde_json::from_slice(&header);
        no_duplicates.map_err(|error| invalid(format!("invalid header: {error}")))?;
        // Deserialization also checks that the tensors follow one another without gaps or overlaps,
        // and that the length of each one matches its shape and dtype. Therefore the comparison
        // below shows that none extends beyond the file.
        let header: Header = serde_json::from_slice(&header)
            .map_err(|error| invalid(format!("invalid header: {error}")))?;
        let expected = (8 + length).saturating_add(header.data_len() as u64);
        if expected != size {
            return Err(invalid(format!(
                "the header declares a file of {expected} bytes, but the file has {size}"
            )));
        }
        if header.info(CHECKPOINT).is_some() {
            return Err(Error::NotWeights {
                path: path.into(),
                format: "a checkpoint of a training run",
                help: "use the `model.safetensors` of a finished run, or resume the run".into(),
            });
        }
        let tensors = header.tensors().into_iter();
        Ok(Self {
            path: path.into(),
            file,
            data: 8 + length,
            tensors: tensors.map(|(name, info)| (name, info.clone())).collect(),
            strings: header
                .metadata()
                .clone()
                .unwrap_or_default()
                .into_iter()
                .collect(),
        })
    }

    /// The entries of `__metadata__` in the header. Empty if it is missing.
    pub(crate) fn strings(&self) -> &BTreeMap<String, String> {
        &self.strings
    }

    /// Names and shapes of the tensors in the file.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let entries = self.tensors.iter();
        entries.map(|(name, info)| (name.as_str(), info.shape.as_slice()))
    }

    /// Whether a tensor has the dtype float64.
    pub(crate) fn is_f64(&self, name: &str) -> bool {
        let info = self.tensors.get(name);
        info.is_some_and(|info| info.dtype == Dtype::F64)
    }

    /// Reads a tensor as f32 and reshapes it to `shape`, which must have the same number of
    /// elements. Returns an error if the tensor does not exist, is not f32, f16, bf16 or f64, or is
    /// not finite.
    pub(crate) fn read(
        &mut self,
        name: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<Tensor, Error> {
        let info = self
            .tensors
            .get(name)
            .ok_or_else(|| Error::NotSafetensors {
                path: self.path.clone(),
                reason: format!("it has no tensor `{name}`"),
            })?;
        let (offset, _) = info.data_offsets;
        let (dtype, count) = (info.dtype, shape.iter().product::<usize>());
        let start = SeekFrom::Start(self.data + offset as u64);
        let dtype = match dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F64 => DType::F64,
            other => {
                return Err(Error::Dtype {
                    path: self.path.clone(),
                    tensor: name.into(),
                    dtype: format!("{other:?}"),
                });
            }
        };
        let io = |error| Error::io("read", &self.path, error);
        self.file.seek(start).map_err(io)?;
        let values = read_f32(&mut self.file, dtype, count).map_err(io)?;
        check_finite(&self.path, name, &values)?;
        Ok(Tensor::from_vec(values, shape, device)?)
    }
}

/// Checks that an object has no key twice. The `safetensors` crate keeps the last one of two tensors
/// with the same name.
struct UniqueKeys<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueKeys<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self(PhantomData))
    }
}

impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueKeys<V> {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if let Some(key) = keys.replace(key) {
                let key: String = key.escape_debug().take(MAX_KEY).collect();
                return Err(de::Error::custom(format_args!("`{key}` occurs twice")));
            }
            map.next_value::<V>()?;
        }
        Ok(self)
    }
}

/// Reads `count` values of dtype f32, f16, bf16 or f64 as f32. In addition to the result, this
/// allocates at most 2 MiB.
///
/// The bytes are not swapped, because the data and the supported platforms are little-endian.
pub(crate) fn read_f32(reader: &mut impl Read, dtype: DType, count: usize) -> io::Result<Vec<f32>> {
    let mut values = vec![0f32; count];
    match dtype {
        DType::F32 => reader.read_exact(bytemuck::cast_slice_mut(&mut values))?,
        DType::F64 => read_converted(reader, &mut values, |value: f64| value as f32)?,
        DType::F16 => {
            read_converted(reader, &mut values, |bits: u16| {
                f16::from_bits(bits).to_f32()
            })?;
        }
        _ => read_converted(reader, &mut values, |bits: u16| {
            bf16::from_bits(bits).to_f32()
        })?,
    }
    Ok(values)
}

fn read_converted<T: bytemuck::Pod>(
    reader: &mut impl Read,
    values: &mut [f32],
    convert: impl Fn(T) -> f32,
) -> io::Result<()> {
    const CHUNK: usize = 1 << 18;
    let mut stored = vec![T::zeroed(); CHUNK.min(values.len())];
    for chunk in values.chunks_mut(CHUNK) {
        let stored = &mut stored[..chunk.len()];
        reader.read_exact(bytemuck::cast_slice_mut(stored))?;
        for (value, &stored) in chunk.iter_mut().zip(stored.iter()) {
            *value = convert(stored);
        }
    }
    Ok(())
}

/// Returns [`Error::NonFinite`] if a value is NaN or infinite, because such a value can make the
/// logits NaN or infinite.
///
/// Each block is tested without an early exit, so that the compiler vectorizes the loop.
pub(crate) fn check_finite(path: &Path, tensor: &str, values: &[f32]) -> Result<(), Error> {
    const BLOCK: usize = 1024;
    let all_finite = |block: &&[f32]| {
        block
            .iter()
            .fold(true, |finite, value| finite & value.is_finite())
    };
    let block = values.chunks(BLOCK).find(|block| !all_finite(block));
    match block.and_then(|block| block.iter().find(|value| !value.is_finite())) {
        None => Ok(()),
        Some(&value) => Err(Error::NonFinite {
            path: path.into(),
            tensor: tensor.into(),
            value,
        }),
    }
}

/// Writes a temporary file with `write` in the folder of `path`, syncs it, and renames it to
/// `path`. Readers see either the old file or the complete new one, also after a crash.
pub(crate) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
) -> Result<(), Error> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let io = |error| Error::io("write", path, error);
    let mut builder = tempfile::Builder::new();
    // Temporary files are private by default. Let the umask determine the permissions of this one.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder.tempfile_in(folder).map_err(io)?;
    let mut out = BufWriter::with_capacity(1 << 20, file.as_file());
    write(&mut out)?;
    out.flush().map_err(io)?;
    drop(out);
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    // Sync the folder, so that the rename survives a power failure. Windows cannot open a folder as
    // a file.
    if cfg!(unix) {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| Error::io("sync", folder, error))?;
    }
    Ok(())
}

/// Writes `tensors` as f32 and `strings` as `__metadata__`. The same input gives the same bytes. Errors
/// name `path`.
pub(crate) fn write_tensors(
    out: &mut dyn Write,
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    strings: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let io = |error| Error::io("write", path, error);
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!(strings));
    let mut offset = 0;
    for (name, tensor) in tensors {
        let end = offset + 4 * tensor.elem_count();
        let info = serde_json::json!({
            "dtype": "F32", "shape": tensor.dims(), "data_offsets": [offset, end],
        });
        header.insert(name.clone(), info);
        offset = end;
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    // Pad the header to 8 bytes, so that the data is aligned for readers that map the file into
    // memory.
    header.resize(header.len().next_multiple_of(8), b' ');

    out.write_all(&(header.len() as u64).to_le_bytes())
        .map_err(io)?;
    out.write_all(&header).map_err(io)?;
    for tensor in tensors.values() {
        let tensor = tensor
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F32)?
            .contiguous()?;
        let (storage, layout) = tensor.storage_and_layout();
        let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) =
            (&*storage, layout.contiguous_offsets())
        else {
            unreachable!("the tensor was converted to a contiguous f32 tensor on the CPU");
        };
        out.write_all(bytemuck::cast_slice(&values[start..end]))
            .map_err(io)?;
    }
    Ok(())
}
