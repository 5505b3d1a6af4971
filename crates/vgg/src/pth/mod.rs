//! State dicts as `torch.save` writes them since PyTorch 1.6: a zip archive with a pickle and one file a storage.
//!
//! ```text
//! NAME/data.pkl     which tensors there are, as views of storages        (pickle, value)
//! NAME/byteorder    little
//! NAME/data/0 …     the numbers, not compressed
//! ```
//!
//! Nothing in the file is run, and only the tensors that are asked for are read; each storage is checked against
//! the archive's CRC-32 on the way. Older formats and TorchScript are recognised, and answered with how to
//! convert them.

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

/// The longest pickle that is believed. A state dict needs about 200 bytes a tensor; a hostile pickle can make a value
/// of 150 bytes of each of its own, and a list that grows has half of them twice.
const LONGEST_PICKLE: u64 = 2 << 20;

/// What a file looks like from its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A zip archive: PyTorch since 1.6.
    Zip,
    /// A pickle or a tar archive: PyTorch before 1.6.
    Legacy,
    /// Something else.
    Other,
}

/// Looks at the first bytes of a file and goes back to its start.
pub(crate) fn kind(file: &mut File) -> io::Result<Kind> {
    /// A ustar header has its magic here.
    const TAR_MAGIC: usize = 257;
    let mut start = Vec::new();
    file.take(512).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    let tar = start
        .get(TAR_MAGIC..)
        .is_some_and(|rest| rest.starts_with(b"ustar"));
    // A pickle begins with its protocol. So can a safetensors file, with the length of its header, but no header
    // is so long that the upper half of the eight bytes were not zero.
    let pickle = matches!(start[..], [0x80, 2..=5, _, _, a, b, c, d, ..] if [a, b, c, d] != [0; 4]);
    Ok(match () {
        () if start.starts_with(b"PK\x03\x04") => Kind::Zip,
        () if tar || pickle => Kind::Legacy,
        () => Kind::Other,
    })
}

/// Reads `count` bytes, or those that are left, and drops them.
fn skip(from: &mut impl Read, count: u64) -> io::Result<u64> {
    io::copy(&mut from.take(count), &mut io::sink())
}

/// The error for the format before PyTorch 1.6.
pub(crate) fn legacy(path: &Path) -> Error {
    Error::NotStateDict {
        path: path.into(),
        reason: format!(
            "it is in PyTorch's format from before version 1.6. If you trust it, convert it in Python: \
             torch.save(torch.load(\"{}\", map_location=\"cpu\"), \"new.pth\")",
            path.display()
        ),
    }
}

/// An open state dict, its tensors listed and checked.
#[derive(Debug)]
pub(crate) struct PthFile {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    /// Bytes of the whole file: nothing in it is longer, whatever it claims.
    length: u64,
    root: String,
    tensors: BTreeMap<String, TensorView>,
}

impl PthFile {
    /// Opens the archive `file` of `path` and lists its tensors.
    pub(crate) fn open(path: &Path, file: File) -> Result<Self, Error> {
        let wrong = |reason: String| Error::NotStateDict {
            path: path.into(),
            reason,
        };
        let broken = |error| {
            wrong(format!(
                "its zip archive is broken ({error}); fetch or copy it again"
            ))
        };
        let length = file
            .metadata()
            .map_err(|error| Error::io("read", path, error))?
            .len();
        let archive = ZipArchive::new(BufReader::with_capacity(1 << 20, file)).map_err(broken)?;
        let names: Vec<String> = archive
            .file_names()
            .map(|name| name.map(|name| name.into_owned()))
            .collect::<Result<_, _>>()
            .map_err(broken)?;
        let has = |end: &str| names.iter().any(|name| name.contains(end));
        let root = names.iter().find_map(|name| {
            let root = name.strip_suffix("data.pkl")?;
            (root.ends_with('/') && root.matches('/').count() == 1).then(|| root.to_string())
        });
        let root = match root {
            Some(root) if !has("/constants.pkl") && !has("/code/") => root,
            Some(_) => {
                return Err(wrong(format!(
                    "it is a TorchScript archive. Save its weights alone in Python: \
                     torch.save(torch.jit.load(\"{}\").state_dict(), \"weights.pth\")",
                    path.display()
                )));
            }
            None => {
                return Err(wrong(
                    "it is a zip archive that torch.save did not write".into(),
                ));
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
                return Err(wrong(format!(
                    "its numbers are {}-endian; save it again on a little-endian machine",
                    String::from_utf8_lossy(&order).escape_debug()
                )));
            }
        }
        let bytes = pth.bytes("data.pkl", LONGEST_PICKLE)?;
        let pickle = pickle::read(&bytes).map_err(wrong)?;
        pth.tensors = state_dict::tensors(pickle).map_err(wrong)?;
        Ok(pth)
    }

    /// Names and shapes as they stand in the file.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, view)| (name.as_str(), view.sizes.as_slice()))
    }

    /// Reads a tensor as f32 in `shape`, which has as many elements as the file's.
    pub(crate) fn read(
        &mut self,
        name: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<Tensor, Error> {
        let view = self.tensors.get(name).cloned();
        let view = view.ok_or_else(|| self.wrong(format!("tensor {name} is missing")))?;
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
        let place = format!("data/{}", view.storage.key);
        let expected = view.storage.count.checked_mul(view.storage.element.bytes());
        let expected =
            expected.ok_or_else(|| self.wrong(format!("{place} is beyond all memory")))?;
        let length = self.entry(&place, expected as u64)?;
        if length != expected {
            return Err(self.wrong(format!(
                "{place} has {length} bytes and its pickle says {expected}; fetch or copy it again"
            )));
        }
        // `gather` makes as many as the tensor has, which the storage does not bound where strides are 0.
        if view.sizes.iter().product::<usize>() != shape.iter().product::<usize>() {
            return Err(self.wrong(format!("tensor {name} is {:?}, not {shape:?}", view.sizes)));
        }
        // Several tensors may share a storage: what belongs to others passes by without being kept.
        let (span, bytes) = (view.span(), view.storage.element.bytes());
        let mut values = self.whole(&place, |entry| {
            skip(entry, (span.start * bytes) as u64)?;
            let values = read_f32(entry, dtype, span.len())?;
            skip(entry, u64::MAX)?;
            Ok(values)
        })?;
        if !view.is_in_order() {
            values = view.gather(&values);
        }
        check_finite(&self.path, name, &values)?;
        Ok(Tensor::from_vec(values, shape, device)?)
    }

    /// The length of a file of the archive, which must be stored as it is and not be longer than `most`.
    fn entry(&mut self, name: &str, most: u64) -> Result<usize, Error> {
        let full = format!("{}{name}", self.root);
        let most = most.min(self.length);
        let found = match self.archive.by_name(&full) {
            Ok(entry) if entry.compression() == zip::CompressionMethod::Stored => {
                Ok((entry.size(), entry.compressed_size()))
            }
            Ok(_) => Err(format!(
                "{name} is compressed, which torch.save does not do"
            )),
            Err(error) => Err(format!("{name} cannot be read: {error}")),
        };
        match found {
            Err(reason) => Err(self.wrong(reason)),
            // What is stored is as long inside as outside, so that no length is believed that is not there.
            Ok((size, stored)) if size != stored || size > most => Err(self.wrong(format!(
                "{name} claims {size} bytes where {most} are the most"
            ))),
            Ok((size, _)) => Ok(size as usize),
        }
    }

    /// What `read` makes of a whole file of the archive; the archive's checksum is compared at its end.
    fn whole<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut ZipFile<'_, BufReader<File>>) -> io::Result<T>,
    ) -> Result<T, Error> {
        let full = format!("{}{name}", self.root);
        let done = match self.archive.by_name(&full) {
            Ok(mut entry) => read(&mut entry).and_then(|value| Ok((value, entry.read(&mut [0])?))),
            Err(error) => Err(error.into()),
        };
        match done {
            Ok((value, 0)) => Ok(value),
            Ok(_) => Err(self.wrong(format!("{name} is longer than it claims"))),
            Err(error) => Err(self.wrong(format!(
                "{name} cannot be read ({error}); fetch or copy it again"
            ))),
        }
    }

    /// The bytes of a short file of the archive.
    fn bytes(&mut self, name: &str, most: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; self.entry(name, most)?];
        self.whole(name, |entry| entry.read_exact(&mut bytes))?;
        Ok(bytes)
    }

    fn wrong(&self, reason: String) -> Error {
        Error::NotStateDict {
            path: self.path.clone(),
            reason,
        }
    }
}
