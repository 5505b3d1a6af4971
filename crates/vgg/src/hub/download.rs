//! Downloads a blob, resumes interrupted downloads with range requests, and verifies size and
//! checksum.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::Response;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE};

use super::client::{Client, Metadata};
use super::{Address, HubError, OnProgress};

/// Maximum number of retries after transient errors.
const RETRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(300);

/// Downloads a file to `path` and verifies it. Resumes an incomplete download at `path`.
///
/// A corrupt file is deleted and downloaded once more. After an interruption, the incomplete file
/// is kept.
pub(super) fn download(
    client: &Client,
    address: &Address,
    metadata: &Metadata,
    path: &Path,
    on_progress: &mut OnProgress<'_>,
) -> Result<(), HubError> {
    let mut attempt = || {
        let result = transfer_with_retries(client, address, metadata, path, on_progress)
            .and_then(|url| verify(path, metadata, &url));
        if matches!(&result, Err(error) if error.is_corruption()) && path.exists() {
            fs::remove_file(path).map_err(HubError::cache(path))?;
        }
        result
    };
    match attempt() {
        Err(error) if error.is_corruption() => attempt(),
        result => result,
    }
}

fn transfer_with_retries(
    client: &Client,
    address: &Address,
    metadata: &Metadata,
    path: &Path,
    on_progress: &mut OnProgress<'_>,
) -> Result<String, HubError> {
    let mut failures = 0;
    loop {
        match transfer(client, address, metadata, path, on_progress) {
            Err(error) if error.is_transient() && failures < RETRIES => {
                thread::sleep(FIRST_PAUSE * 2_u32.pow(failures));
                failures += 1;
            }
            result => return result,
        }
    }
}

/// Requests the missing bytes once and appends them to the file. Overwrites the file if the server
/// sends all of it. Returns the URL after redirects.
fn transfer(
    client: &Client,
    address: &Address,
    metadata: &Metadata,
    path: &Path,
    on_progress: &mut OnProgress<'_>,
) -> Result<String, HubError> {
    let failed = |error| HubError::cache(path)(error);
    let mut received = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if metadata.size.is_some_and(|size| received >= size) {
        // The file is complete or too long. Download it again.
        received = 0;
    }
    let (url, response) = client.file(address, &metadata.commit, received)?;
    let total = match response.status().as_u16() {
        // The response is the whole file. Servers that do not support ranges send it even if a
        // range was requested.
        200 => {
            received = 0;
            header(&response, CONTENT_LENGTH).and_then(|length| length.trim().parse().ok())
        }
        206 => match header(&response, CONTENT_RANGE).and_then(parse_content_range) {
            Some((start, total)) if start == received => total,
            _ => {
                return Err(HubError::UnexpectedResponse {
                    url,
                    reason: "its range differs from the requested one".into(),
                });
            }
        },
        status => {
            if status == 416 && received > 0 {
                // The file on the hub is not longer than the incomplete file. Delete the incomplete
                // file, so that the next attempt starts from the beginning.
                fs::remove_file(path).map_err(failed)?;
            }
            return Err(HubError::Status { url, status });
        }
    };
    let size = match (metadata.size, total) {
        (Some(expected), Some(actual)) if expected != actual => {
            return Err(HubError::Size {
                url,
                expected,
                actual,
            });
        }
        (Some(size), _) | (None, Some(size)) => size,
        (None, None) => {
            return Err(HubError::UnexpectedResponse {
                url,
                reason: "it has no size".into(),
            });
        }
    };
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(failed)?;
    if received == 0 {
        file.set_len(0).map_err(failed)?;
    }
    let as_usize = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    on_progress(as_usize(received), as_usize(size));
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    while received < size {
        let limit = as_usize(size - received).min(buffer.len());
        match body.read(&mut buffer[..limit]) {
            Ok(0) => break,
            Ok(count) => {
                file.write_all(&buffer[..count]).map_err(failed)?;
                received += count as u64;
                on_progress(as_usize(received), as_usize(size));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    if received < size {
        return Err(HubError::Interrupted {
            url,
            received,
            size,
        });
    }
    file.sync_all().map_err(failed)?;
    Ok(url)
}

/// Compares a file with the size and the etag of the metadata.
///
/// An etag of 64 hexadecimal digits is the SHA-256 of a file in LFS. An etag of 40 digits is a git
/// blob id, that is, the SHA-1 of a header and the content. Other etags are not compared.
pub(super) fn verify(path: &Path, metadata: &Metadata, url: &str) -> Result<(), HubError> {
    let failed = |error| HubError::cache(path)(error);
    let mut file = File::open(path).map_err(failed)?;
    let actual = file.metadata().map_err(failed)?.len();
    if let Some(expected) = metadata.size
        && expected != actual
    {
        return Err(HubError::Size {
            url: url.into(),
            expected,
            actual,
        });
    }
    let etag = &metadata.etag;
    let is_hex = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (algorithm, checksum) = match etag.len() {
        64 if is_hex => ("SHA-256", hash(&mut file, Sha256::new()).map_err(failed)?),
        40 if is_hex => {
            let header = format!("blob {actual}\0");
            let hasher = Sha1::new_with_prefix(header);
            ("git blob id", hash(&mut file, hasher).map_err(failed)?)
        }
        _ => return Ok(()),
    };
    if checksum.eq_ignore_ascii_case(etag) {
        Ok(())
    } else {
        Err(HubError::Checksum {
            url: url.into(),
            algorithm,
            expected: etag.clone(),
            actual: checksum,
        })
    }
}

/// Hashes a file. Returns the digest in hexadecimal.
fn hash(file: &mut File, mut hasher: impl Digest) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let digits = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(digits)
}

fn header(response: &Response<Body>, name: ureq::http::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

/// Parses a `Content-Range` header, `bytes START-END/TOTAL`. Returns START and TOTAL, which is
/// `None` for `*`.
fn parse_content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _end) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}
