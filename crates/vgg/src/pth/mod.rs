//! Reads state dicts written by `torch.save` since PyTorch 1.6: zip archives that contain a pickle
//! and one entry for each storage.
//!
//! ```text
//! NAME/data.pkl     the tensors, as views of storages (see `pickle` and `value`)
//! NAME/byteorder    little
//! NAME/data/0 …     the values of a storage, uncompressed
//! ```
//!
//! No code in the file is run. Only requested tensors are read, and the CRC-32 of their storages is
//! verified. Older formats and TorchScript are rejected with an error that explains how to convert
//! the file.

mod pickle;
mod state_dict;
mod value;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use zip::ZipArchive;
use zip::read::ZipFile;

use crate::error::Error;
use crate::file::{check_finite, read_f32};
use value::{Element, TensorView};

/// Maximum length of the pickle in bytes. A state dict needs about 200 bytes for each tensor. In a
/// malicious pickle, each byte can create a value of up to 150 bytes, and the list of values
/// temporarily needs half as much memory again when it grows.
const MAX_PICKLE: u64 = 2 << 20;

/// Help text for archives that are not a state dict.
const SAVE_STATE_DICT: &str = "if you trust the file, save its weights in Python: torch.save(model.state_dict(), \"weights.pth\")";
const COPY_AGAIN: &str = "download or copy the file again";

/// Why a file is rejected, and how to fix it.
#[derive(Debug)]
pub(super) struct Invalid {
    pub(super) reason: String,
    pub(super) help: String,
}

impl Invalid {
    pub(super) fn new(reason: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            help: help.into(),
        }
    }
}

/// A file format, detected from the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A zip archive, the format of PyTorch since 1.6.
    Zip,
    /// A pickle or a tar archive, the formats of PyTorch before 1.6.
    Legacy,
    /// Any other format, such as safetensors.
    Other,
}

/// Detects the format of a file and rewinds it.
pub(crate) fn detect_format(file: &mut File) -> io::Result<Format> {
    /// Offset of the magic bytes of a ustar header.
    const TAR_MAGIC: usize = 257;
    let mut start = Vec::new();
    file.take(512).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    let tar = start
        .get(TAR_MAGIC..)
        .is_some_and(|rest| rest.starts_with(b"ustar"));
    // A pickle starts with 0x80 and its protocol number. A safetensors file can start with the same
    // bytes, because it starts with the length of its header. However, the upper four of the eight
    // length bytes are zero, because headers are shorter than 4 GiB.
    let pickle = matches!(start[..], [0x80, 2..=5, _, _, a, b, c, d, ..] if [a, b, c, d] != [0; 4]);
    Ok(match () {
        () if start.starts_with(b"PK\x03\x04") => Format::Zip,
        () if tar || pickle => Format::Legacy,
        () => Format::Other,
    })
}

/// Reads and discards up to `count` bytes.
fn skip(reader: &mut impl Read, count: u64) -> io::Result<u64> {
    io::copy(&mut reader.take(count), &mut io::sink())
}

/// Creates the error for files written by PyTorch before 1.6.
pub(crate) fn legacy_error(path: &Path) -> Error {
    Error::NotStateDict {
        path: path.into(),
        reason: "it has the format of PyTorch before version 1.6".into(),
        help: format!(
            "if you trust the file, convert it in Python: \
             torch.save(torch.load(\"{}\", map_location=\"cpu\"), \"new.pth\")",
            path.display()
        ),
    }
}

/// An open PyTorch state dict whose list of tensors was validated.
#[derive(Debug)]
pub(crate) struct PthFile {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    /// Length of the file in bytes, an upper bound for the length of every entry.
    length: u64,
    /// The folder in the archive that contains the entries: `NAME/`.
    root: String,
    tensors: BTreeMap<String, TensorView>,
}

impl PthFile {
    /// Lists the tensors of the archive `file`, which was opened from `path`.
    pub(crate) fn open(path: &Path, file: File) -> Result<Self, Error> {
        let invalid = |Invalid { reason, help }| Error::NotStateDict {
            path: path.into(),
            reason,
            help,
        };
        let corrupt = |error| {
            invalid(Invalid::new(
                format!("cannot open the zip archive: {error}"),
                COPY_AGAIN,
            ))
        };
        let length = file
            .metadata()
            .map_err(|error| Error::io("read", path, error))?
            .len();
        let archive = ZipArchive::new(BufReader::with_capacity(1 << 20, file)).map_err(corrupt)?;
        let names: Vec<String> = archive
            .file_names()
            .map(|name| name.map(|name| name.into_owned()))
            .collect::<Result<_, _>>()
            .map_err(corrupt)?;
        let has = |part: &str| names.iter().any(|name| name.contains(part));
        let root = names.iter().find_map(|name| {
            let root = name.strip_suffix("data.pkl")?;
            (root.ends_with('/') && root.matches('/').count() == 1).then(|| root.to_string())
        });
        let root = match root {
            Some(root) if !has("/constants.pkl") && !has("/code/") => root,
            Some(_) => {
                return Err(invalid(Invalid::new(
                    "it is a TorchScript archive",
                    format!(
                        "save its weights in Python: \
                         torch.save(torch.jit.load(\"{}\").state_dict(), \"weights.pth\")",
                        path.display()
                    ),
                )));
            }
            None => {
                return Err(invalid(Invalid::new(
                    "it is a zip archive, but not a PyTorch file",
                    "use a file written by torch.save",
                )));
            }
        };
        let mut pth = Self {
            path: path.into(),
            archive,
            length,
            root,
            tensors: BTreeMap::new(),
        };
        if names.contains(&format!("{}byteorder", pth.root)) {
            let order = pth.bytes("byteorder", 16)?;
            if order != b"little" {
                return Err(invalid(Invalid::new(
                    format!(
                        "its byte order is `{}`",
                        String::from_utf8_lossy(&order).escape_debug()
                    ),
                    "save it on a little-endian machine",
                )));
            }
        }
        let bytes = pth.bytes("data.pkl", MAX_PICKLE)?;
        let pickle = pickle::read(&bytes).map_err(invalid)?;
        pth.tensors = state_dict::tensors(pickle).map_err(invalid)?;
        Ok(pth)
    }

    /// Names and shapes of the tensors in the file.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, view)| (name.as_str(), view.sizes.as_slice()))
    }

    /// Reads a tensor as f32 and reshapes it to `shape`, which has the same number of elements.
    pub(crate) fn read(
        &mut self,
        name: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<Tensor, Error> {
        let view = self.tensors.get(name).cloned();
        let view = view.ok_or_else(|| self.invalid(format!("it has no tensor `{name}`")))?;
        let dtype = match view.storage.element {
            Element::Float => DType::F32,
            Element::Half => DType::F16,
            Element::BFloat16 => DType::BF16,
            Element::Other(dtype, _) => {
                return Err(Error::Dtype {
                    path: self.path.clone(),
                    tensor: name.into(),
                    dtype: dtype.into(),
                });
            }
        };
        let entry_name = format!("data/{}", view.storage.key);
        let expected = view.storage.count.checked_mul(view.storage.element.bytes());
        let expected =
            expected.ok_or_else(|| self.invalid(format!("the size of {entry_name} overflows")))?;
        let length = self.entry_length(&entry_name, expected as u64)?;
        if length != expected {
            return Err(self.invalid(format!(
                "{entry_name} has {length} bytes instead of {expected}"
            )));
        }
        // `gather` allocates all elements of the tensor. With strides of 0 there can be more of
        // them than the storage contains.
        if view.sizes.iter().product::<usize>() != shape.iter().product::<usize>() {
            return Err(self.invalid(format!(
                "tensor `{name}` has shape {:?} instead of {shape:?}",
                view.sizes
            )));
        }
        // Several tensors may share a storage. Only the span of this tensor is kept in memory.
        let (span, bytes) = (view.span(), view.storage.element.bytes());
        let mut values = self.read_entry(&entry_name, |entry| {
            skip(entry, (span.start * bytes) as u64)?;
            let values = read_f32(entry, dtype, span.len())?;
            skip(entry, u64::MAX)?;
            Ok(values)
        })?;
        if !view.is_contiguous() {
            values = view.gather(&values);
        }
        check_finite(&self.path, name, &values)?;
        Ok(Tensor::from_vec(values, shape, device)?)
    }

    /// Returns the length of an entry in bytes. The entry must be uncompressed, and no longer than
    /// `limit` bytes or the file.
    fn entry_length(&mut self, name: &str, limit: u64) -> Result<usize, Error> {
        let full = format!("{}{name}", self.root);
        let limit = limit.min(self.length);
        let lengths = match self.archive.by_name(&full) {
            Ok(entry) if entry.compression() == zip::CompressionMethod::Stored => {
                Ok((entry.size(), entry.compressed_size()))
            }
            Ok(_) => Err(format!("{name} is compressed")),
            Err(error) => Err(format!("cannot read {name}: {error}")),
        };
        match lengths {
            Err(reason) => Err(self.invalid(reason)),
            // The compressed and uncompressed lengths of an uncompressed entry are equal.
            Ok((size, stored)) if size != stored || size > limit => Err(self.invalid(format!(
                "{name} declares {size} bytes and stores {stored}, but the limit is {limit}"
            ))),
            Ok((size, _)) => Ok(size as usize),
        }
    }

    /// Calls `read` with an entry. The CRC-32 is verified at the end of the entry.
    fn read_entry<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut ZipFile<'_, BufReader<File>>) -> io::Result<T>,
    ) -> Result<T, Error> {
        let full = format!("{}{name}", self.root);
        let result = match self.archive.by_name(&full) {
            Ok(mut entry) => read(&mut entry).and_then(|value| Ok((value, entry.read(&mut [0])?))),
            Err(error) => Err(error.into()),
        };
        match result {
            Ok((value, 0)) => Ok(value),
            Ok(_) => Err(self.invalid(format!("{name} is longer than its header states"))),
            Err(error) => Err(self.invalid(format!("cannot read {name}: {error}"))),
        }
    }

    /// Reads an entry of at most `limit` bytes.
    fn bytes(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; self.entry_length(name, limit)?];
        self.read_entry(name, |entry| entry.read_exact(&mut bytes))?;
        Ok(bytes)
    }

    fn invalid(&self, reason: String) -> Error {
        Error::NotStateDict {
            path: self.path.clone(),
            reason,
            help: COPY_AGAIN.into(),
        }
    }
}
