//! Safetensors files: read tensor by tensor, written beside and renamed.
//!
//! Reading streams: at most one tensor more than what is kept is in memory, and the header is checked against
//! the file's length before anything is allocated. Writing is ours because the `safetensors` crate writes its
//! metadata in the order of a `HashMap`, which differs from run to run: the same weights must give the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata as Header, TensorInfo};

use crate::error::Error;
use crate::foreign;

/// The longest header that is believed: 16 MiB describe a hundred thousand tensors, a network of ours has 38. The
/// `safetensors` crate believes 100 MB, which take a gigabyte once they are parsed.
const LONGEST_HEADER: u64 = 16 << 20;

/// An open safetensors file, its header read and checked.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    file: File,
    data: u64,
    tensors: BTreeMap<String, TensorInfo>,
    strings: BTreeMap<String, String>,
}

impl TensorFile {
    /// Reads and checks the header of the open `file` of `path`.
    pub(crate) fn open(path: &Path, mut file: File) -> Result<Self, Error> {
        let io = |error| Error::io("read", path, error);
        let broken = |reason: String| Error::NotSafetensors {
            path: path.into(),
            reason,
        };
        let about = file.metadata().map_err(io)?;
        let mut start = Vec::new();
        (&mut file)
            .take(foreign::START as u64)
            .read_to_end(&mut start)
            .map_err(io)?;
        file.seek(SeekFrom::Start(8)).map_err(io)?;
        let length = start.first_chunk().map(|first| u64::from_le_bytes(*first));
        let length = match length {
            Some(length) if length <= LONGEST_HEADER.min(about.len().saturating_sub(8)) => length,
            // What comes after the length in every safetensors file: one that is cut off or damaged.
            Some(length) if start.get(8).is_none_or(|&next| next == b'{') => {
                return Err(broken(format!(
                    "its header claims {length} bytes of a file of {}",
                    about.len()
                )));
            }
            None if start.is_empty() => return Err(broken("it is empty".into())),
            None if !foreign::is_text(&start) => {
                return Err(broken(format!("it has {} bytes", about.len())));
            }
            _ => {
                let (what, advice) = foreign::kind(&start);
                return Err(Error::NotWeights {
                    path: path.into(),
                    what,
                    advice,
                });
            }
        };
        let mut header = vec![0u8; length as usize];
        file.read_exact(&mut header).map_err(io)?;
        // This also checks that each tensor's bytes follow those before it and are as many as its shape and number
        // format say, without overflow: none lies outside of the data, and no two share any.
        let header: Header = serde_json::from_slice(&header)
            .map_err(|error| broken(format!("its header cannot be read: {error}")))?;
        let expected = (8 + length).saturating_add(header.data_len() as u64);
        if expected != about.len() {
            return Err(broken(format!(
                "its header describes {expected} bytes and the file has {}",
                about.len()
            )));
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

    /// The strings of `__metadata__`.
    pub(crate) fn strings(&self) -> &BTreeMap<String, String> {
        &self.strings
    }

    /// Names and shapes as they stand in the file.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let entries = self.tensors.iter();
        entries.map(|(name, info)| (name.as_str(), info.shape.as_slice()))
    }

    /// Reads a tensor as f32 in `shape`, which has as many elements as the file's.
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
                reason: format!("tensor {name} is missing"),
            })?;
        let (from, _) = info.data_offsets;
        let (dtype, count) = (info.dtype, shape.iter().product::<usize>());
        let at = SeekFrom::Start(self.data + from as u64);
        let dtype = match dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => {
                return Err(Error::Dtype {
                    path: self.path.clone(),
                    tensor: name.into(),
                    dtype: format!("{other:?}"),
                });
            }
        };
        let io = |error| Error::io("read", &self.path, error);
        self.file.seek(at).map_err(io)?;
        let values = read_f32(&mut self.file, dtype, count).map_err(io)?;
        check_finite(&self.path, name, &values)?;
        Ok(Tensor::from_vec(values, shape, device)?)
    }
}

/// Reads `count` numbers of type f32, f16 or bf16 as f32, without a copy of them all in between.
///
/// Both formats are little-endian, and so is every machine that candle runs on.
pub(crate) fn read_f32(from: &mut impl Read, dtype: DType, count: usize) -> io::Result<Vec<f32>> {
    const PIECE: usize = 1 << 18;
    let mut values = vec![0f32; count];
    if dtype == DType::F32 {
        from.read_exact(bytemuck::cast_slice_mut(&mut values))?;
        return Ok(values);
    }
    let mut halves = vec![0u16; PIECE.min(count)];
    for piece in values.chunks_mut(PIECE) {
        let halves = &mut halves[..piece.len()];
        from.read_exact(bytemuck::cast_slice_mut(halves))?;
        for (value, &half) in piece.iter_mut().zip(halves.iter()) {
            *value = match dtype {
                DType::F16 => f16::from_bits(half).to_f32(),
                _ => bf16::from_bits(half).to_f32(),
            };
        }
    }
    Ok(values)
}

/// Refuses values that are NaN or infinite: a network with such weights predicts nothing.
///
/// Values are compared in blocks without an early exit, which compilers vectorize.
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

/// Writes `tensors` (f32) and `strings` to `path`, [`atomically`]. The same input gives the same bytes.
pub(crate) fn write(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    strings: &BTreeMap<String, String>,
) -> Result<(), Error> {
    atomically(path, |out| write_all(out, path, tensors, strings))
}

/// A file that `fill` writes: beside `path` first, synced, then renamed, so that a reader and a crash see the old
/// file or the new one.
pub(crate) fn atomically(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), Error>,
) -> Result<(), Error> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.{}", std::process::id()));
    let io = |error| Error::io("write", path, error);
    let fill_and_sync = || {
        let file = File::create(&beside).map_err(io)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        fill(&mut out)?;
        let file = out.into_inner().map_err(|error| io(error.into_error()))?;
        file.sync_all().map_err(io)
    };
    let written = fill_and_sync().and_then(|()| {
        std::fs::rename(&beside, path).map_err(io)?;
        // The rename itself must survive a power cut. Windows opens no folder as a file.
        if cfg!(unix) {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|error| Error::io("sync", folder, error))?;
        }
        Ok(())
    });
    if written.is_err() {
        // What was half written helps nobody; the first error is the one to report.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn write_all(
    out: &mut impl Write,
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
    // Readers map the data into memory, where it must be aligned.
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
        let (Storage::Cpu(CpuStorage::F32(values)), Some((from, to))) =
            (&*storage, layout.contiguous_offsets())
        else {
            unreachable!("the tensor was just brought to the CPU, to f32 and to one piece");
        };
        out.write_all(bytemuck::cast_slice(&values[from..to]))
            .map_err(io)?;
    }
    Ok(())
}
