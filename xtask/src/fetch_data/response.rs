//! Classifies responses: accept the body, start over, retry, or fail.

use super::error::Error;
use super::partial::{Origin, Partial};
use std::error::Error as _;
use std::time::Duration;
use ureq::Body;
use ureq::http::header::{CONTENT_RANGE, ETAG, HeaderName, LAST_MODIFIED, RETRY_AFTER};
use ureq::http::{Response, StatusCode};

/// Why an attempt failed.
pub(super) enum Failure {
    /// A retry cannot succeed.
    Final(Error),
    /// A retry may succeed.
    Transient {
        reason: String,
        /// Whether the server sent a response.
        responded: bool,
        /// Delay that the server requests with `Retry-After`.
        wait: Option<Duration>,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Failure {
    /// A transient failure after the server sent a response.
    pub(super) fn transient(reason: impl Into<String>) -> Self {
        Self::Transient {
            reason: reason.into(),
            responded: true,
            wait: None,
        }
    }
}

/// Checks the status and headers of a response, and prepares `partial` for the body.
pub(super) fn accept(response: &Response<Body>, partial: &mut Partial) -> Result<(), Failure> {
    let status = response.status();
    match status {
        // The server sends the whole file, because this is the first request, the server does not
        // support ranges, or the file has changed.
        StatusCode::OK => partial.restart(Origin {
            url: partial.origin.url.clone(),
            validator: validator(response),
            total: response.body().content_length(),
        })?,
        StatusCode::PARTIAL_CONTENT => {
            let range = header(response, CONTENT_RANGE).and_then(parse_content_range);
            let fits = range.is_some_and(|(start, total)| {
                start == partial.received
                    && (partial.origin.total.is_none()
                        || total.is_none()
                        || total == partial.origin.total)
            });
            // A server that ignores If-Range still sends the validator of its version.
            let same = partial.origin.validator.is_none()
                || validator(response).is_none()
                || validator(response) == partial.origin.validator;
            if !fits || !same {
                partial.discard()?;
                return Err(Failure::transient("the file on the server has changed"));
            }
            partial.resumed = partial.received > 0;
            if partial.origin.total.is_none() {
                partial.origin.total = range.and_then(|(_, total)| total);
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            partial.discard()?;
            return Err(Failure::transient(
                "the file on the server is shorter than the partial download",
            ));
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            return Err(busy(response));
        }
        _ if status.is_server_error() => return Err(busy(response)),
        _ => {
            return Err(Failure::Final(Error::Status {
                url: partial.origin.url.clone(),
                status: status.to_string(),
            }));
        }
    }
    Ok(())
}

/// Classifies a request that got no valid response, usually because there is no network.
pub(super) fn no_response(url: &str, error: ureq::Error) -> Failure {
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Final(Error::Address {
            given: url.to_owned(),
        }),
        error => {
            let mut reason = error.to_string();
            let mut source = error.source();
            while let Some(inner) = source {
                // Some errors include the text of their source.
                let inner_text = inner.to_string();
                if !reason.contains(&inner_text) {
                    reason = format!("{reason}: {inner_text}");
                }
                source = inner.source();
            }
            let responded = matches!(
                error,
                ureq::Error::Protocol(_)
                    | ureq::Error::TooManyRedirects
                    | ureq::Error::RedirectFailed
                    | ureq::Error::LargeResponseHeader(..)
            );
            Failure::Transient {
                reason,
                responded,
                wait: None,
            }
        }
    }
}

/// The failure for a status that may be temporary: 408, 425, 429 or a server error.
fn busy(response: &Response<Body>) -> Failure {
    Failure::Transient {
        reason: format!("the server responded with {}", response.status()),
        responded: true,
        // Retry-After can also be a date. This is rare, and the default pause is used.
        wait: header(response, RETRY_AFTER)
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs),
    }
}

/// The validator to send as If-Range: a strong ETag, or else the Last-Modified date.
fn validator(response: &Response<Body>) -> Option<String> {
    header(response, ETAG)
        .filter(|tag| !tag.starts_with("W/"))
        .or_else(|| header(response, LAST_MODIFIED))
        .map(str::to_owned)
}

fn header(response: &Response<Body>, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

/// Parses `bytes START-END/TOTAL` into the start and the total, which may be unknown.
fn parse_content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _end) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}
