//! One file over HTTP: resumed with range requests, tried again with growing pauses.
//!
//! RFC 9110: section 14 (ranges), 13.1.5 (`If-Range`: the rest if the file is unchanged, else all of
//! it), 8.8 (validators), 10.2.3 (`Retry-After`).

use super::Event;
use super::error::{Error, io};
use super::partial::{Origin, Partial};
use std::error::Error as _;
use std::io::{self as std_io, Read, Write};
use std::thread;
use std::time::Duration;
use ureq::http::header::{
    CONTENT_RANGE, ETAG, HeaderName, IF_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

/// How patient a download is, and how much it takes.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Attempts in a row that may bring nothing.
    pub attempts: u32,
    /// Pause after the first of them; it doubles from one to the next.
    pub first_pause: Duration,
    /// The longest pause, also when the server asks for a longer one.
    pub longest_pause: Duration,
    /// The largest file that is taken.
    pub max_bytes: u64,
}

impl Default for Patience {
    /// Five attempts, 1, 2, 4 and 8 seconds apart; at most 256 MiB.
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            max_bytes: 256 << 20,
        }
    }
}

/// A client that gives up on a silent server, and takes proxies from the environment if `proxies`.
pub fn client(proxies: bool) -> Agent {
    let silence = Some(Duration::from_secs(30));
    let mut config = Agent::config_builder()
        .timeout_resolve(Some(Duration::from_secs(15)))
        .timeout_connect(Some(Duration::from_secs(15)))
        // Not for the whole body: a slow line may take as long as it needs.
        .timeout_per_read(silence)
        .timeout_per_write(silence)
        .timeout_recv_response(silence)
        // Answers are judged here, and ranges count bytes as they are sent.
        .http_status_as_error(false)
        .accept_encoding("identity")
        .user_agent(concat!("waggle-xtask/", env!("CARGO_PKG_VERSION")));
    if !proxies {
        config = config.proxy(None);
    }
    config.build().new_agent()
}

/// Why an attempt ended before the file was complete.
enum Failure {
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
    fn passing(reason: impl Into<String>) -> Self {
        Self::Passing {
            reason: reason.into(),
            answered: true,
            wait: None,
        }
    }
}

/// Adds to `partial` until the file is complete.
pub(super) fn download(
    agent: &Agent,
    partial: &mut Partial,
    patience: &Patience,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<(), Error> {
    let mut failures = 0;
    let mut reached = false;
    while !partial.is_complete() {
        let before = partial.have;
        let (reason, answered, wait) = match attempt(agent, partial, patience, observer) {
            Ok(()) => break,
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing {
                reason,
                answered,
                wait,
            }) => (reason, answered, wait),
        };
        reached |= answered;
        failures = if partial.have > before {
            1
        } else {
            failures + 1
        };
        if failures >= patience.attempts {
            let url = partial.origin.url.clone();
            return Err(if reached {
                Error::Download {
                    url,
                    attempts: failures,
                    reason,
                    have: partial.have,
                }
            } else {
                Error::NoNetwork {
                    url,
                    attempts: failures,
                    reason,
                }
            });
        }
        let pause = wait
            .unwrap_or(patience.first_pause * 2_u32.saturating_pow(failures - 1))
            .min(patience.longest_pause);
        observer(Event::Retrying {
            reason: &reason,
            pause,
        });
        thread::sleep(pause);
    }
    Ok(())
}

/// One request, and its answer to the end.
fn attempt(
    agent: &Agent,
    partial: &mut Partial,
    patience: &Patience,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<(), Failure> {
    observer(Event::Connecting {
        url: &partial.origin.url,
    });
    let mut request = agent.get(&partial.origin.url);
    if partial.have > 0 {
        request = request.header(RANGE, format!("bytes={}-", partial.have));
        if let Some(validator) = &partial.origin.validator {
            request = request.header(IF_RANGE, validator);
        }
    }
    let response = request
        .call()
        .map_err(|error| not_answered(&partial.origin.url, error))?;
    accept(&response, partial)?;
    let total = partial.origin.total;
    if total.is_some_and(|total| total > patience.max_bytes) {
        return Err(too_long(partial, patience));
    }
    observer(Event::Downloading {
        have: partial.have,
        total,
    });
    receive(response, partial, patience, observer)?;
    match total {
        Some(total) if partial.have < total => Err(Failure::passing(format!(
            "the connection closed after {} of {total} bytes",
            partial.have
        ))),
        Some(total) if partial.have > total => {
            partial.discard()?;
            Err(Failure::passing("the server sent more than it announced"))
        }
        _ => Ok(()),
    }
}

/// Judges an answer's head, and makes `partial` ready for its body.
fn accept(response: &Response<Body>, partial: &mut Partial) -> Result<(), Failure> {
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

/// Writes the body to the file as it comes.
fn receive(
    response: Response<Body>,
    partial: &mut Partial,
    patience: &Patience,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<(), Failure> {
    let mut file = partial.append()?;
    let mut body = response
        .into_body()
        .into_with_config()
        .limit(u64::MAX)
        .reader();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std_io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Failure::passing(format!(
                    "the connection broke off after {} bytes: {error}",
                    partial.have
                )));
            }
        };
        if partial.have + count as u64 > patience.max_bytes {
            return Err(too_long(partial, patience));
        }
        file.write_all(&buffer[..count])
            .map_err(io("write", partial.path()))?;
        partial.have += count as u64;
        observer(Event::Received {
            bytes: count as u64,
        });
    }
}

/// A request that got no answer: nearly always for want of a network.
fn not_answered(url: &str, error: ureq::Error) -> Failure {
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

fn too_long(partial: &mut Partial, patience: &Patience) -> Failure {
    let error = Error::TooLong {
        url: partial.origin.url.clone(),
        limit: patience.max_bytes,
    };
    match partial.discard() {
        Ok(()) => Failure::Final(error),
        Err(error) => Failure::Final(error),
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
