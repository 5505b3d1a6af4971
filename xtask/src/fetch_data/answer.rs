//! Judging what a server answered: take it, start afresh, try again, or give up.

use super::error::Error;
use super::partial::{Origin, Partial};
use std::error::Error as _;
use std::time::Duration;
use ureq::Body;
use ureq::http::header::{CONTENT_RANGE, ETAG, HeaderName, LAST_MODIFIED, RETRY_AFTER};
use ureq::http::{Response, StatusCode};

/// Why an attempt ended before the file was complete.
pub(super) enum Failure {
    /// Trying again cannot help.
    Final(Error),
    /// Trying again may help.
    Passing {
        reason: String,
        /// Whether a server answered.
        answered: bool,
        /// How long the server asks to wait.
        wait: Option<Duration>,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Failure {
    /// A server answered, but not well.
    pub(super) fn passing(reason: impl Into<String>) -> Self {
        Self::Passing {
            reason: reason.into(),
            answered: true,
            wait: None,
        }
    }
}

/// Judges an answer's head, and makes `partial` ready for its body.
pub(super) fn accept(response: &Response<Body>, partial: &mut Partial) -> Result<(), Failure> {
    let status = response.status();
    match status {
        // All of it: the first answer, or the server knows no ranges, or the file has changed.
        StatusCode::OK => partial.restart(Origin {
            url: partial.origin.url.clone(),
            validator: validator(response),
            total: response.body().content_length(),
        })?,
        StatusCode::PARTIAL_CONTENT => {
            let range = header(response, CONTENT_RANGE).and_then(parse_content_range);
            let fits = range.is_some_and(|(start, total)| {
                start == partial.have
                    && (partial.origin.total.is_none()
                        || total.is_none()
                        || total == partial.origin.total)
            });
            // A server that ignores If-Range still shows that it has another version.
            let same = partial.origin.validator.is_none()
                || validator(response).is_none()
                || validator(response) == partial.origin.validator;
            if !fits || !same {
                partial.discard()?;
                return Err(Failure::passing(
                    "the server's file changed; starting afresh",
                ));
            }
            partial.in_pieces = partial.have > 0;
            if partial.origin.total.is_none() {
                partial.origin.total = range.and_then(|(_, total)| total);
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            partial.discard()?;
            return Err(Failure::passing(
                "the server's file is shorter than what arrived before; starting afresh",
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

/// A request that got no answer: nearly always for want of a network.
pub(super) fn not_answered(url: &str, error: ureq::Error) -> Failure {
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Final(Error::Address {
            given: url.to_owned(),
        }),
        error => {
            let mut reason = error.to_string();
            let mut source = error.source();
            while let Some(inner) = source {
                // Some errors print their source themselves.
                let inner_text = inner.to_string();
                if !reason.contains(&inner_text) {
                    reason = format!("{reason}: {inner_text}");
                }
                source = inner.source();
            }
            let answered = matches!(
                error,
                ureq::Error::Protocol(_)
                    | ureq::Error::TooManyRedirects
                    | ureq::Error::RedirectFailed
                    | ureq::Error::LargeResponseHeader(..)
            );
            Failure::Passing {
                reason,
                answered,
                wait: None,
            }
        }
    }
}

/// The server asks for patience.
fn busy(response: &Response<Body>) -> Failure {
    Failure::Passing {
        reason: format!("the server answered {}", response.status()),
        answered: true,
        // The other form, a date, is rare; the usual pause serves for it.
        wait: header(response, RETRY_AFTER)
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs),
    }
}

/// What may be sent as If-Range: a strong ETag, else the date.
fn validator(response: &Response<Body>) -> Option<String> {
    header(response, ETAG)
        .filter(|tag| !tag.starts_with("W/"))
        .or_else(|| header(response, LAST_MODIFIED))
        .map(str::to_owned)
}

fn header(response: &Response<Body>, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

/// `bytes START-END/TOTAL` as start and total, the latter if it is known.
fn parse_content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _end) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}
