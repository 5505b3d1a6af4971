//! Checksums of files.

use std::io::{self, Read};

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The expected checksum of a file, in hexadecimal digits of either case.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Checksum {
    /// The SHA-256 of the content.
    Sha256(String),
    /// The id of a git blob: the SHA-1 of `blob SIZE`, a zero byte, and the content.
    GitBlob(String),
}

impl Checksum {
    /// The name of the algorithm and the expected digits.
    pub(crate) fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Sha256(digits) => ("SHA-256", digits),
            Self::GitBlob(digits) => ("git blob id", digits),
        }
    }

    /// Computes the checksum of `content`, which has `size` bytes. Returns lower-case hexadecimal
    /// digits.
    pub(crate) fn compute(&self, content: &mut impl Read, size: u64) -> io::Result<String> {
        match self {
            Self::Sha256(_) => sha256(content),
            Self::GitBlob(_) => hash(
                content,
                Sha1::new_with_prefix(format!("blob {size}\0").as_bytes()),
            ),
        }
    }
}

/// Reads `content` to its end. Returns the SHA-256 in lower-case hexadecimal digits.
///
/// # Errors
///
/// Returns an error if reading fails.
pub fn sha256(content: &mut impl Read) -> io::Result<String> {
    hash(content, Sha256::new())
}

fn hash(content: &mut impl Read, mut hasher: impl Digest) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
