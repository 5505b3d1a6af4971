//! Whether what arrived is what the hub announced.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Compares a file with the size and the etag that the hub gave for it. The etag of a large file is its SHA-256;
/// that of a small one, which git keeps, is shorter and no checksum of the content alone.
///
/// The answer is what is wrong, if anything.
pub(super) fn objection(path: &Path, size: usize, etag: &str) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let found = file.metadata()?.len();
    if found != size as u64 {
        return Ok(Some(format!("{found} bytes arrived instead of {size}")));
    }
    if etag.len() != 64 || !etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            count => hash.update(&piece[..count]),
        }
    }
    let digits: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let same = digits.eq_ignore_ascii_case(etag);
    Ok((!same).then(|| format!("its SHA-256 is {digits} and the hub announced {etag}")))
}
