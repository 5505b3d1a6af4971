//! Downloads to a file.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ureq::Body;
use ureq::http::Response;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE};

use crate::client::{bad_status, header, number};
use crate::{Checksum, Client, Error};

/// Maximum number of consecutive failed attempts. A failed attempt that made progress counts as the
/// first.
pub const ATTEMPTS: u32 = 4;
/// Maximum pause between two attempts, even if the server requests a longer one.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A file to download.
#[derive(Clone, Debug)]
pub struct Download<'a> {
    /// URL of the file.
    pub url: &'a ureq::http::Uri,
    /// Path of the complete file. The file `PATH.incomplete` in the same directory contains the
    /// bytes received so far.
    pub path: &'a Path,
    /// Expected size in bytes, if known.
    pub size: Option<u64>,
    /// Maximum size in bytes.
    pub max_size: u64,
    /// Expected checksum. Without one, a download that is resumed after the file has changed on the
    /// server may consist of parts of both versions.
    pub checksum: Option<Checksum>,
}

/// Progress of a download.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A response or a part of its body arrived.
    Progress {
        /// Number of bytes of the file received so far, including those of earlier attempts.
        received: u64,
        /// Size of the file in bytes, if known.
        size: Option<u64>,
    },
    /// An attempt failed and will be repeated after a pause.
    Retry {
        /// Why the attempt failed.
        error: &'a Error,
        /// Time until the next attempt. Zero after a wrong size or checksum.
        pause: Duration,
    },
}

impl Client {
    /// Downloads a file unless it exists with the expected size and checksum.
    ///
    /// Attempts that fail with a temporary error are repeated, up to [`ATTEMPTS`] in a row. A file
    /// with a wrong size or checksum is deleted and downloaded once more. [`Error::TooLarge`],
    /// [`Error::Range`] and status 416 also delete the incomplete file. After other errors, the
    /// next call resumes the download. Callers must prevent concurrent downloads to the same path.
    ///
    /// # Errors
    ///
    /// Returns any variant of [`Error`] except [`Error::Url`].
    pub fn download(
        &self,
        download: &Download<'_>,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Error> {
        if download.path.exists() && download.verify(download.path, "").is_ok() {
            return Ok(());
        }
        let incomplete = download.incomplete();
        let mut may_repeat = true;
        loop {
            let result = self
                .transfer_with_retries(download, &incomplete, on_event)
                .and_then(|url| download.verify(&incomplete, &url));
            match result {
                Ok(()) => break,
                Err(error) if error.is_corruption() => {
                    remove(&incomplete)?;
                    if !may_repeat {
                        return Err(error);
                    }
                    may_repeat = false;
                    on_event(Event::Retry {
                        error: &error,
                        pause: Duration::ZERO,
                    });
                }
                Err(error) => return Err(error),
            }
        }
        fs::rename(&incomplete, download.path).map_err(Error::io("create", download.path))
    }

    /// Repeats [`transfer`](Self::transfer) after transient errors, up to [`ATTEMPTS`] in a row.
    fn transfer_with_retries(
        &self,
        download: &Download<'_>,
        incomplete: &Path,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<String, Error> {
        let mut failures = 0;
        // A server without range support starts over in each attempt, so progress is measured
        // against the longest file so far.
        let mut best = length(incomplete);
        loop {
            let error = match self.transfer(download, incomplete, on_event) {
                Ok(url) => return Ok(url),
                Err(error) => error,
            };
            if error.discards_file() {
                remove(incomplete)?;
            }
            if !error.is_transient() {
                return Err(error);
            }
            let received = length(incomplete);
            failures = if received > best { 1 } else { failures + 1 };
            best = best.max(received);
            if failures >= ATTEMPTS {
                return Err(error);
            }
            let requested = match error {
                Error::Status { retry_after, .. } => retry_after,
                _ => None,
            };
            let pause = requested
                .unwrap_or(self.first_pause * 2_u32.pow(failures - 1))
                .min(MAX_PAUSE);
            on_event(Event::Retry {
                error: &error,
                pause,
            });
            thread::sleep(pause);
        }
    }

    /// Requests the missing bytes once and appends them to the file. Overwrites the file if the
    /// server sends all of it. Returns the URL after redirects, for error messages.
    fn transfer(
        &self,
        download: &Download<'_>,
        incomplete: &Path,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<String, Error> {
        let mut start = length(incomplete);
        if download.size.is_some_and(|size| start >= size) {
            // The file is complete but unverified, or too long. Download it again.
            start = 0;
        }
        let (url, response) = self.get(download.url, start)?;
        let (mut received, total) = accept(&url, &response, start)?;
        if let (Some(expected), Some(actual)) = (download.size, total)
            && expected != actual
        {
            return Err(Error::Size {
                url,
                expected,
                actual,
            });
        }
        let size = download.size.or(total);
        let limit = download.max_size;
        if size.is_some_and(|size| size > limit) {
            return Err(Error::TooLarge { url, limit });
        }

        let failed = |error| Error::io("write", incomplete)(error);
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(incomplete)
            .map_err(failed)?;
        if received == 0 {
            file.set_len(0).map_err(failed)?;
        }
        on_event(Event::Progress { received, size });
        // Bytes beyond the size are not read. Without a size, one byte beyond the limit is read to
        // detect a file that is too large.
        let end = size.unwrap_or(limit.saturating_add(1));
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        let mut is_complete = true;
        while received < end && is_complete {
            let rest = usize::try_from(end - received).unwrap_or(usize::MAX);
            let rest = rest.min(buffer.len());
            match body.read(&mut buffer[..rest]) {
                Ok(0) if size.is_none() => break,
                Ok(count) if count > 0 => {
                    file.write_all(&buffer[..count]).map_err(failed)?;
                    received += count as u64;
                    on_event(Event::Progress { received, size });
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => is_complete = false,
            }
        }
        if !is_complete {
            return Err(Error::Interrupted {
                url,
                received,
                size,
            });
        }
        if received > limit {
            return Err(Error::TooLarge { url, limit });
        }
        file.sync_all().map_err(failed)?;
        Ok(url)
    }
}

/// Checks the status and range of a response to a request for the bytes from `start`. Returns the
/// position of the body in the file, and the size of the file if the response states it.
fn accept(url: &str, response: &Response<Body>, start: u64) -> Result<(u64, Option<u64>), Error> {
    match response.status().as_u16() {
        // The response is the whole file. Servers that do not support ranges send it even if a
        // range was requested.
        200 => Ok((0, number(response, CONTENT_LENGTH))),
        206 => match header(response, CONTENT_RANGE).and_then(parse_content_range) {
            Some((first, total)) if first == start => Ok((first, total)),
            _ => Err(Error::Range { url: url.into() }),
        },
        _ => Err(bad_status(url.into(), response)),
    }
}

impl Download<'_> {
    fn incomplete(&self) -> PathBuf {
        let mut path = self.path.as_os_str().to_owned();
        path.push(".incomplete");
        path.into()
    }

    /// Compares a file with the expected size and checksum. `url` is for error messages.
    fn verify(&self, path: &Path, url: &str) -> Result<(), Error> {
        let failed = |error| Error::io("read", path)(error);
        let mut file = File::open(path).map_err(failed)?;
        let actual = file.metadata().map_err(failed)?.len();
        if let Some(expected) = self.size
            && expected != actual
        {
            return Err(Error::Size {
                url: url.into(),
                expected,
                actual,
            });
        }
        let Some(checksum) = &self.checksum else {
            return Ok(());
        };
        let (algorithm, expected) = checksum.parts();
        let actual = checksum.compute(&mut file, actual).map_err(failed)?;
        if actual.eq_ignore_ascii_case(expected) {
            Ok(())
        } else {
            Err(Error::Checksum {
                url: url.into(),
                algorithm,
                expected: expected.into(),
                actual,
            })
        }
    }
}

/// The length of a file in bytes, or 0 if it does not exist or is not accessible.
fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Removes a file if it exists.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Parses a `Content-Range` header, `bytes START-END/TOTAL`. Returns START, and TOTAL unless it is
/// `*` or invalid. Returns `None` for any other format.
fn parse_content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _end) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}
