//! Downloads to a file.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ureq::Body;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use ureq::http::{HeaderValue, Response};

use crate::client::{bad_status, header, number};
use crate::open::open_without_waiting;
use crate::speed::is_fast_enough;
use crate::{ATTEMPTS, Checksum, Client, Error, Event, free_space, redacted};

/// A file to download.
// Not `Debug`: the URL may contain a password.
#[derive(Clone)]
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
    /// Expected checksum. Without one, a download that is resumed by a later call, after the file has
    /// changed on the server, may consist of parts of both versions.
    pub checksum: Option<Checksum>,
}

impl Client {
    /// Downloads a file unless it exists with the expected size and checksum.
    ///
    /// Attempts that fail with a temporary error are repeated, up to [`ATTEMPTS`] in a row, unless
    /// they have taken twice the [idle timeout](crate::Config::idle_timeout) without a new byte. A
    /// file with a wrong size or checksum is deleted and downloaded once more. [`Error::TooLarge`],
    /// [`Error::Range`], [`Error::Changed`] and status 416 also delete the incomplete file. After
    /// other errors, the next call resumes the download. Callers must prevent concurrent downloads
    /// to the same path.
    ///
    /// # Errors
    ///
    /// Returns any variant of [`Error`] except [`Error::Url`].
    pub fn download(
        &self,
        download: &Download<'_>,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Error> {
        if download.path.is_file() && download.verify(download.path, "").is_ok() {
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

    /// Repeats [`transfer`](Self::transfer) after transient errors, within the limits of
    /// [`download`](Self::download).
    fn transfer_with_retries(
        &self,
        download: &Download<'_>,
        incomplete: &Path,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<String, Error> {
        let mut failures = 0;
        let mut etag = None;
        // A server without range support starts over in each attempt, so progress is measured
        // against the longest file so far.
        let mut best = length(incomplete);
        let (mut start, mut start_length) = (Instant::now(), best);
        // Time of the attempts since the last new byte, without pauses.
        let mut silence = Duration::ZERO;
        loop {
            let attempt = Instant::now();
            let error = match self.transfer(download, incomplete, &mut etag, on_event) {
                Ok(url) => return Ok(url),
                Err(error) => error,
            };
            if error.discards_file() {
                remove(incomplete)?;
            }
            if !error.is_transient() {
                return Err(error);
            }
            let (received, time) = (length(incomplete), start.elapsed());
            let is_progress = received > best
                && (time < self.idle_timeout || is_fast_enough(received - start_length, time));
            failures = if is_progress { 1 } else { failures + 1 };
            silence = match received > best {
                true => Duration::ZERO,
                false => silence + attempt.elapsed(),
            };
            best = best.max(received);
            if failures >= ATTEMPTS || silence >= 2 * self.idle_timeout {
                return Err(error);
            }
            if is_progress && time >= self.idle_timeout {
                (start, start_length) = (Instant::now(), best);
            }
            self.pause(&error, failures, on_event);
        }
    }

    /// Requests the missing bytes once and appends them to the file. Overwrites the file if the
    /// server sends all of it. Returns the URL after redirects, for error messages. `known_etag` is
    /// the ETag of an earlier response, if any.
    fn transfer(
        &self,
        download: &Download<'_>,
        incomplete: &Path,
        known_etag: &mut Option<HeaderValue>,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<String, Error> {
        let mut start = length(incomplete);
        if download.size.is_some_and(|size| start >= size) {
            // The file is complete but unverified, or too long. Download it again.
            start = 0;
        }
        download.check_room(download.size, start, &redacted(download.url))?;
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
        download.check_room(size, received, &url)?;
        let etag = response.headers().get(ETAG).cloned();
        // With a checksum, a mixture of two versions is detected at the end. Mirrors may send
        // different ETags for the same file.
        if download.checksum.is_none()
            && received > 0
            && known_etag.is_some()
            && *known_etag != etag
        {
            return Err(Error::Changed { url });
        }
        *known_etag = etag;

        let mut file = open(incomplete, received)?;
        on_event(Event::Progress { received, size });
        let failed = |error| Error::io("write", incomplete)(error);
        let end = size.unwrap_or(limit);
        let mut body = self.body(response);
        let mut buffer = vec![0; 1 << 16];
        // One byte beyond the end is requested, to detect a body that is too long.
        let is_interrupted = loop {
            let rest = usize::try_from(end.saturating_sub(received)).unwrap_or(usize::MAX);
            let rest = rest.saturating_add(1).min(buffer.len());
            match body.read(&mut buffer[..rest]) {
                Ok(0) => break false,
                Ok(count) if received + count as u64 > end => {
                    return Err(match size {
                        Some(expected) => Error::Size {
                            url,
                            expected,
                            actual: received + count as u64,
                        },
                        None => Error::TooLarge { url, limit },
                    });
                }
                Ok(count) => {
                    file.write_all(&buffer[..count]).map_err(failed)?;
                    received += count as u64;
                    on_event(Event::Progress { received, size });
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
        };
        // If all bytes have arrived, an error after them does not matter.
        if size.map_or(is_interrupted, |size| received < size) {
            return Err(Error::Interrupted {
                url,
                received,
                size,
            });
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
            Some((first, last, total))
                if first == start
                    && last >= first
                    && total.is_none_or(|total| last < total)
                    && number(response, CONTENT_LENGTH)
                        .is_none_or(|length| Some(length) == (last - first).checked_add(1)) =>
            {
                Ok((first, total))
            }
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

    /// Checks the size of the file, if it is known, against the limit, and the bytes that are still
    /// missing after `received` bytes against the free disk space.
    fn check_room(&self, size: Option<u64>, received: u64, url: &str) -> Result<(), Error> {
        let Some(size) = size else { return Ok(()) };
        if size > self.max_size {
            return Err(Error::TooLarge {
                url: url.into(),
                limit: self.max_size,
            });
        }
        let needed = size.saturating_sub(received);
        match self.path.parent().and_then(free_space) {
            Some(free) if needed > free => Err(Error::NoSpace {
                path: self.incomplete(),
                needed,
                free,
            }),
            _ => Ok(()),
        }
    }

    /// Compares a file with the expected size and checksum. `url` is for error messages.
    fn verify(&self, path: &Path, url: &str) -> Result<(), Error> {
        let failed = |error| Error::io("read", path)(error);
        let mut file = open_without_waiting(path).map_err(failed)?;
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

/// The length of a file in bytes, or 0 if it does not exist, is not accessible or is not a regular
/// file.
fn length(path: &Path) -> u64 {
    let metadata = fs::symlink_metadata(path).ok();
    let metadata = metadata.filter(|metadata| metadata.is_file());
    metadata.map_or(0, |metadata| metadata.len())
}

/// Removes a file if it exists.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Opens the incomplete file for appending, with at most `length` bytes. The path may be that of a
/// link or a FIFO, which is replaced: nothing is written to other files.
fn open(incomplete: &Path, length: u64) -> Result<File, Error> {
    let is_file = fs::symlink_metadata(incomplete).is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        remove(incomplete)?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create_new(!is_file);
    let file = options
        .open(incomplete)
        .map_err(Error::io("create", incomplete))?;
    if length == 0 {
        file.set_len(0).map_err(Error::io("write", incomplete))?;
    }
    Ok(file)
}

/// Parses a `Content-Range` header, `bytes START-END/TOTAL`. Returns START, END, and TOTAL unless it
/// is `*` or invalid. Returns `None` for any other format.
fn parse_content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let [first, last, total] = [first, last, total].map(|number| number.trim().parse().ok());
    Some((first?, last?, total))
}
