//! Loads PyTorch state dicts. The seeds are files written by PyTorch for `vgg`'s tests.
//!
//! An input is either a whole file, or one byte with the index of a seed and a pickle that replaces
//! the one in this seed. Without the second form, the checksums in the archive would reject almost
//! every mutation.

use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use candle_core::Device;
use vgg::{Head, VggConfig};
use zip::read::ZipArchive;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::Target;

/// `vgg`'s test files: plain f32 tensors, parameters from `named_parameters`, a training checkpoint
/// with strided tensors, and tensors in f16, bf16 and f64. The last three are not state dicts.
const FILES: [&str; 9] = [
    "plain.pth",
    "parameters.pth",
    "checkpoint.pth",
    "cuda_half.pth",
    "bfloat.pth",
    "double.pth",
    "evil.pth",
    "module.pth",
    "script.pt",
];

pub(super) struct StateDict {
    file: PathBuf,
    archives: Vec<Archive>,
    config: VggConfig,
}

/// The names and contents of an archive's files.
struct Archive(Vec<(String, Vec<u8>)>);

impl Archive {
    fn read(path: &Path) -> zip::result::ZipResult<Self> {
        let mut archive = ZipArchive::new(File::open(path)?)?;
        let mut files = Vec::with_capacity(archive.len());
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index)?;
            let name = entry.name()?.into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            files.push((name, bytes));
        }
        Ok(Self(files))
    }

    /// The pickle, or an empty slice if there is none.
    fn pickle(&self) -> &[u8] {
        let pickle = self.0.iter().find(|(name, _)| is_pickle(name));
        pickle.map_or(&[], |(_, bytes)| bytes)
    }

    /// Writes the archive with another pickle and valid checksums.
    fn with_pickle(&self, pickle: &[u8]) -> zip::result::ZipResult<Vec<u8>> {
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in &self.0 {
            zip.start_file(name.as_str(), stored)?;
            zip.write_all(if is_pickle(name) { pickle } else { bytes })?;
        }
        Ok(zip.finish()?.into_inner())
    }
}

fn is_pickle(name: &str) -> bool {
    name.ends_with("/data.pkl")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/vgg/tests/pth")
}

impl StateDict {
    pub(super) fn new(scratch: &Path) -> Self {
        let read = |name| Archive::read(&folder().join(name));
        let archives = FILES.iter().map(read).collect::<Result<_, _>>();
        Self {
            file: scratch.join("weights.pth"),
            archives: archives.expect("the seeds are valid archives"),
            // The network whose weights the seeds contain.
            config: VggConfig::slim_vgg16([2; 5], 4, 1, 32, 3),
        }
    }
}

impl Target for StateDict {
    fn name(&self) -> &'static str {
        "pth"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let whole = FILES.iter().chain(["legacy.pth"].iter());
        let whole = whole.map(|name| fs::read(folder().join(name)).expect("the seed exists"));
        let inside = (0u8..).zip(&self.archives);
        let inside = inside.map(|(number, archive)| [&[number], archive.pickle()].concat());
        whole.chain(inside).collect()
    }

    fn dictionary(&self) -> &'static [&'static [u8]] {
        &[
            b"PK\x01\x02",
            b"PK\x03\x04",
            b"PK\x05\x06",
            b"PK\x06\x06",
            b"PK\x06\x07",
            b"/data.pkl",
            b"/data/0",
            b"/byteorder",
            b"\x80\x02",
            b"}q\x00",
            b"(",
            b")",
            b"]",
            b"}",
            b"N",
            b"Q",
            b"R",
            b"b",
            b"e",
            b"s",
            b"t",
            b"u",
            b".",
            b"\x85",
            b"\x86",
            b"\x87",
            b"h\x01",
            b"q\x01",
            b"j\0\0\x01\0",
            b"r\xff\xff\xff\xff",
            b"K\0",
            b"M\xff\xff",
            b"J\xff\xff\xff\xff",
            b"J\xff\xff\xff\x7f",
            b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x8a\x08\0\0\0\0\x01\0\0\0",
            b"X\x01\x00\x00\x00000",
            b"X\x07\0\0\0storage",
            b"X\x0a\0\0\0state_dict",
            b"X\xff\xff\xff\xff",
            b"ccollections\nOrderedDict\n",
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            b"ctorch._utils\n_rebuild_parameter\n",
            b"ctorch\nSize\n",
            b"ctorch\nFloatStorage\n",
            b"ctorch\nHalfStorage\n",
            b"ctorch\nBFloat16Storage\n",
            b"ctorch\nLongStorage\n",
        ]
    }

    fn run(&mut self, input: &[u8]) -> bool {
        let number = input.first().map_or(usize::MAX, |&byte| byte.into());
        let built = match self.archives.get(number) {
            Some(archive) => archive
                .with_pickle(&input[1..])
                .expect("an archive in memory can be written"),
            None => input.to_vec(),
        };
        fs::write(&self.file, built).expect("the temporary directory can be written");
        match vgg::load_pretrained(&self.file, &self.config, Head::Keep, 0, &Device::Cpu) {
            Ok(loaded) => {
                // Accepted files give a complete network, even if they contain only some of its
                // tensors.
                let shapes = self.config.tensor_shapes().expect("the network is valid");
                for (name, shape) in shapes {
                    assert_eq!(loaded.tensors[&name].dims(), shape, "{name}");
                }
                true
            }
            Err(_) => false,
        }
    }
}
