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
//! verified. Archives may have been packed again: entries may be compressed with DEFLATE, and the
//! folder `NAME` may be missing or nested. TorchScript and other archives are rejected with an error
//! that explains how to convert the file.

mod directory;
mod objects;
mod op;
mod pickle;
mod reader;
mod state_dict;
mod value;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use zip::read::{ArchiveOffset, Config, ZipFile};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::error::Error;
use crate::file::{check_finite, read_f32};
use crate::python;
use state_dict::Tensors;
use value::Element;

/// The first bytes of a zip archive.
pub(crate) const SIGNATURE: &[u8] = b"PK\x03\x04";

/// Maximum length of the pickle in bytes. A state dict needs about 200 bytes for each tensor, but
/// training scripts also save lists and NumPy arrays.
const MAX_PICKLE: u64 = 64 << 20;

/// DEFLATE expands data by at most this factor.
const MAX_EXPANSION: u64 = 1032;

/// Maximum number of elements between the first and the last one of a tensor, as a multiple of its
/// own elements. All of them are kept in memory while a tensor with strides is read.
const MAX_SPREAD: usize = 16;

const COPY_AGAIN: &str = "download or copy the file again";
const PACK_AGAIN: &str =
    "unpack the archive, and pack it again without a password, uncompressed or with DEFLATE";

/// Reads and discards up to `count` bytes.
fn skip(reader: &mut impl Read, count: u64) -> io::Result<u64> {
    io::copy(&mut reader.take(count), &mut io::sink())
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
    tensors: Tensors,
}

impl PthFile {
    /// Lists the tensors of the archive `file`, which was opened from `path`.
    pub(crate) fn open(path: &Path, file: File) -> Result<Self, Error> {
        let invalid = |reason: String, help: String| Error::NotStateDict {
            path: path.into(),
            reason,
            help,
        };
        let corrupt = |error| {
            invalid(
                format!("cannot open the zip archive: {error}"),
                COPY_AGAIN.into(),
            )
        };
        let length = file
            .metadata()
            .map_err(|error| Error::io("read", path, error))?
            .len();
        // Detection of the offset fails for some names of the root folder, because PyTorch writes
        // zip64 records between the central directory and its end record. The archive starts at 0,
        // because the file starts with its signature.
        let config = Config {
            archive_offset: ArchiveOffset::Known(0),
        };
        directory::check(&file, config).map_err(corrupt)?;
        let reader = BufReader::with_capacity(1 << 20, file);
        let archive = ZipArchive::with_config(config, reader).map_err(corrupt)?;
        if archive.has_duplicate_names() {
            return Err(invalid(
                "two entries of the zip archive have the same name".into(),
                COPY_AGAIN.into(),
            ));
        }
        let names: Vec<String> = archive
            .file_names()
            .map(|name| name.map(|name| name.into_owned()))
            .collect::<Result<_, _>>()
            .map_err(corrupt)?;
        let root = root(path, &names)?;
        let mut pth = Self {
            path: path.into(),
            archive,
            length,
            root,
            tensors: Tensors::default(),
        };
        if names.contains(&format!("{}byteorder", pth.root)) {
            let order = pth.bytes("byteorder", 16)?;
            if order != b"little" {
                return Err(invalid(
                    format!(
                        "its byte order is `{}`",
                        String::from_utf8_lossy(&order).escape_debug()
                    ),
                    "save it on a little-endian machine".into(),
                ));
            }
        }
        let bytes = pth.bytes("data.pkl", MAX_PICKLE)?;
        let state_dict = python::save("model.state_dict()");
        let pickle = pickle::read(&bytes).map_err(|reason| invalid(reason, state_dict.clone()))?;
        let tensors = state_dict::tensors(&pickle);
        pth.tensors = tensors.map_err(|reason| invalid(reason, state_dict))?;
        // A module may be next to tensors that are not weights, such as the best accuracy.
        let mut readable = pth.tensors.readable.values();
        if readable.any(|view| view.sizes.len() == 4) {
            return Ok(pth);
        }
        if let Some(subscripts) = &pth.tensors.module {
            return Err(invalid(
                "it contains a whole module, which was not run".into(),
                python::save(&format!("{}{subscripts}.state_dict()", python::load(path))),
            ));
        }
        if pth.tensors.readable.is_empty() && pth.tensors.unreadable.is_empty() {
            let (reason, expression) = match pickle.has_arrays() {
                true => (
                    "it contains NumPy arrays instead of tensors".into(),
                    format!(
                        "{{k: torch.as_tensor(v) for k, v in {}.items()}}",
                        python::load(path)
                    ),
                ),
                false => {
                    let kind = value::Value::kind(&pickle.values, pickle.top);
                    (
                        format!("it contains {kind}, and no tensors"),
                        "model.state_dict()".into(),
                    )
                }
            };
            return Err(invalid(reason, python::save(&expression)));
        }
        Ok(pth)
    }

    /// Names of values that are next to tensors but cannot be read, and what each one is.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = (&str, &str)> {
        let values = self.tensors.unreadable.iter();
        values.map(|(name, kind)| (name.as_str(), kind.as_str()))
    }

    /// Whether a tensor has the dtype float64.
    pub(crate) fn is_f64(&self, name: &str) -> bool {
        let view = self.tensors.readable.get(name);
        view.is_some_and(|view| view.storage.element == Element::Double)
    }

    /// Names and shapes of the tensors in the file.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let tensors = self.tensors.readable.iter();
        tensors.map(|(name, view)| (name.as_str(), view.sizes.as_slice()))
    }

    /// Reads a tensor as f32 and reshapes it to `shape`, which has the same number of elements.
    pub(crate) fn read(
        &mut self,
        name: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<Tensor, Error> {
        let view = self.tensors.readable.get(name).cloned();
        let view = view.ok_or_else(|| self.corrupt(format!("it has no tensor `{name}`")))?;
        let dtype = match view.storage.element {
            Element::Float => DType::F32,
            Element::Half => DType::F16,
            Element::BFloat16 => DType::BF16,
            Element::Double => DType::F64,
            Element::Untyped => {
                return Err(self.corrupt(format!("tensor `{name}` has no dtype")));
            }
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
            expected.ok_or_else(|| self.corrupt(format!("the size of {entry_name} overflows")))?;
        let length = self.entry_length(&entry_name, expected as u64)?;
        if length != expected {
            return Err(self.corrupt(format!(
                "{entry_name} has {length} bytes instead of {expected}"
            )));
        }
        // `gather` allocates all elements of the tensor. With strides of 0 there can be more of
        // them than the storage contains.
        if view.sizes.iter().product::<usize>() != shape.iter().product::<usize>() {
            return Err(self.corrupt(format!(
                "tensor `{name}` has shape {:?} instead of {shape:?}",
                view.sizes
            )));
        }
        // Several tensors may share a storage. Only the span of this tensor is kept in memory.
        let (span, bytes) = (view.span(), view.storage.element.bytes());
        let count = shape.iter().product::<usize>();
        if span.len() > count.saturating_mul(MAX_SPREAD) {
            return Err(Error::NotStateDict {
                path: self.path.clone(),
                reason: format!(
                    "the {count} elements of `{name}` are spread over {} elements",
                    span.len()
                ),
                help: "save a contiguous copy of the tensor".into(),
            });
        }
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

    /// Returns the length of an entry in bytes, which is no longer than `limit` bytes, and than the
    /// file or what DEFLATE can expand the entry to.
    fn entry_length(&mut self, name: &str, limit: u64) -> Result<usize, Error> {
        let full = format!("{}{name}", self.root);
        let file = self.length;
        let length = match self.archive.by_name(&full) {
            Ok(entry) => {
                let (size, stored) = (entry.size(), entry.compressed_size());
                let expands_to = match entry.compression() {
                    CompressionMethod::Stored => Ok(stored),
                    CompressionMethod::DEFLATE => Ok(stored.saturating_mul(MAX_EXPANSION)),
                    other => Err((format!("{name} is compressed with {other}"), PACK_AGAIN)),
                };
                expands_to.and_then(|most| match stored <= file && size <= limit.min(most) {
                    true => Ok(size as usize),
                    false => {
                        let limit = limit.min(file);
                        let reason = format!(
                            "{name} declares {size} bytes and stores {stored}, but the limit is {limit}"
                        );
                        Err((reason, COPY_AGAIN))
                    }
                })
            }
            Err(error) => {
                let help = match error {
                    ZipError::UnsupportedArchive(_) => PACK_AGAIN,
                    _ => COPY_AGAIN,
                };
                Err((format!("cannot read {name}: {error}"), help))
            }
        };
        length.map_err(|(reason, help)| self.invalid(reason, help))
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
            Ok(_) => Err(self.corrupt(format!("{name} is longer than its header states"))),
            Err(error) => Err(self.corrupt(format!("cannot read {name}: {error}"))),
        }
    }

    /// Reads an entry of at most `limit` bytes.
    fn bytes(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; self.entry_length(name, limit)?];
        self.read_entry(name, |entry| entry.read_exact(&mut bytes))?;
        Ok(bytes)
    }

    fn corrupt(&self, reason: String) -> Error {
        self.invalid(reason, COPY_AGAIN)
    }

    fn invalid(&self, reason: String, help: &str) -> Error {
        Error::NotStateDict {
            path: self.path.clone(),
            reason,
            help: help.into(),
        }
    }
}

/// Returns the folder of `data.pkl` in the archive at `path`, from the names of its entries.
fn root(path: &Path, names: &[String]) -> Result<String, Error> {
    let invalid = |reason: &str, help: String| Error::NotStateDict {
        path: path.into(),
        reason: reason.into(),
        help,
    };
    let roots = names.iter().filter_map(|name| {
        let root = name.strip_suffix("data.pkl")?;
        (root.is_empty() || root.ends_with('/')).then_some(root)
    });
    let has = |name: &str| names.iter().any(|entry| entry == name);
    let ends_with = |suffix: &str| names.iter().find(|name| name.ends_with(suffix));
    match roots.min_by_key(|root| (root.matches('/').count(), root.len())) {
        Some(root) => {
            let code = format!("{root}code/");
            let has_code = names.iter().any(|name| name.starts_with(&code));
            if has_code || has(&format!("{root}constants.pkl")) {
                let load = python::quote(&path.to_string_lossy());
                let load = format!("torch.jit.load({load}, map_location=\"cpu\").state_dict()");
                return Err(invalid("it is a TorchScript archive", python::save(&load)));
            }
            Ok(root.to_string())
        }
        None => {
            let inner = [".pth", ".pt", ".ckpt", ".bin", ".safetensors"].iter();
            let inner = inner.filter_map(|suffix| ends_with(suffix)).next();
            Err(if let Some(inner) = inner {
                let help = format!("unpack the archive and use {}", inner.escape_debug());
                invalid("it is a zip archive that contains weights", help)
            } else if ends_with(".npy").is_some() {
                let load = python::quote(&path.to_string_lossy());
                let load =
                    format!("{{k: torch.from_numpy(v) for k, v in numpy.load({load}).items()}}");
                invalid("it is a NumPy archive", python::save(&load))
            } else if has("model.weights.h5") {
                let help = "use weights of PyTorch or safetensors".into();
                invalid("it is a Keras model", help)
            } else {
                let help = "use a file written by torch.save".into();
                invalid("it is a zip archive, but not a PyTorch file", help)
            })
        }
    }
}
