//! Downloads one file over HTTP, with range requests and retries.
//!
//! The relevant sections of RFC 9110 are 14 (ranges), 13.1.5 (`If-Range`: the server sends the rest
//! if the file is unchanged, and the whole file otherwise), 8.8 (validators) and 10.2.3
//! (`Retry-After`).

use super::Event;
use super::error::{Error, io};
use super::partial::Partial;
use super::response::{Failure, accept, no_response};
use std::io::{self as std_io, Read, Write};
use std::thread;
use std::time::Duration;
use ureq::http::Response;
use ureq::http::header::{IF_RANGE, RANGE};
use ureq::{Agent, Body};

/// Limits on a download's retries and size.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Maximum number of consecutive attempts without progress.
    pub attempts: u32,
    /// Pause after the first failed attempt. It doubles with each further one.
    pub first_pause: Duration,
    /// Maximum pause, even if the server requests a longer one.
    pub max_pause: Duration,
    /// Maximum size of the file.
    pub max_bytes: u64,
}

impl Default for RetryPolicy {
    /// Four attempts with pauses of 1, 2 and 4 seconds, and at most 256 MiB.
    fn default() -> Self {
        Self {
            attempts: 4,
            first_pause: Duration::from_secs(1),
            max_pause: Duration::from_secs(30),
            max_bytes: 256 << 20,
        }
    }
}

/// Creates a client with timeouts. It uses the proxies from the environment if `proxies` is true.
pub fn client(proxies: bool) -> Agent {
    let timeout = Some(Duration::from_secs(30));
    let mut config = Agent::config_builder()
        .timeout_resolve(Some(Duration::from_secs(15)))
        .timeout_connect(Some(Duration::from_secs(15)))
        // There is no limit for the whole body, so slow connections work.
        .timeout_per_read(timeout)
        .timeout_per_write(timeout)
        .timeout_recv_response(timeout)
        // The module `response` handles error statuses. Compression is disabled because ranges must
        // count the archive's own bytes.
        .http_status_as_error(false)
        .accept_encoding("identity")
        .user_agent(concat!("waggle-xtask/", env!("CARGO_PKG_VERSION")));
    if !proxies {
        config = config.proxy(None);
    }
    config.build().new_agent()
}

/// Appends to `partial` until the file is complete.
pub(super) fn download(
    agent: &Agent,
    partial: &mut Partial,
    retry: &RetryPolicy,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<(), Error> {
    let mut failures = 0;
    let mut reached_server = false;
    while !partial.is_complete() {
        let before = partial.received;
        let (reason, responded, wait) = match attempt(agent, partial, retry, observer) {
            Ok(()) => break,
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Transient {
                reason,
                responded,
                wait,
            }) => (reason, responded, wait),
        };
        reached_server |= responded;
        failures = if partial.received > before {
            1
        } else {
            failures + 1
        };
        if failures >= retry.attempts {
            let url = partial.origin.url.clone();
            return Err(if reached_server {
                Error::Download {
                    url,
                    attempts: failures,
                    reason,
                    received: partial.received,
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
            .unwrap_or(retry.first_pause * 2_u32.saturating_pow(failures - 1))
            .min(retry.max_pause);
        observer(Event::Retrying {
            reason: &reason,
            pause,
        });
        thread::sleep(pause);
    }
    Ok(())
}

/// Sends one request and reads the response to its end.
fn attempt(
    agent: &Agent,
    partial: &mut Partial,
    retry: &RetryPolicy,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<(), Failure> {
    observer(Event::Connecting {
        url: &partial.origin.url,
    });
    let mut request = agent.get(&partial.origin.url);
    if partial.received > 0 {
        request = request.header(RANGE, format!("bytes={}-", partial.received));
        if let Some(validator) = &partial.origin.validator {
            request = request.header(IF_RANGE, validator);
        }
    }
    let response = request
        .call()
        .map_err(|error| no_response(&partial.origin.url, error))?;
    accept(&response, partial)?;
    let total = partial.origin.total;
    if total.is_some_and(|total| total > retry.max_bytes) {
        return Err(too_large(partial, retry));
    }
    observer(Event::Downloading {
        received: partial.received,
        total,
    });
    receive(response, partial, retry, observer)?;
    match total {
        Some(total) if partial.received < total => Err(Failure::transient(format!(
            "the connection closed after {} of {total} bytes",
            partial.received
        ))),
        Some(total) if partial.received > total => {
            partial.discard()?;
            Err(Failure::transient(
                "the server sent more bytes than Content-Length",
            ))
        }
        _ => Ok(()),
    }
}

/// Appends the body to the file while it arrives.
fn receive(
    response: Response<Body>,
    partial: &mut Partial,
    retry: &RetryPolicy,
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
                return Err(Failure::transient(format!(
                    "the connection failed after {} bytes: {error}",
                    partial.received
                )));
            }
        };
        if partial.received + count as u64 > retry.max_bytes {
            return Err(too_large(partial, retry));
        }
        file.write_all(&buffer[..count])
            .map_err(io("write", partial.path()))?;
        partial.received += count as u64;
        observer(Event::Received {
            bytes: count as u64,
        });
    }
}

/// Discards the download and returns the error for a file over the limit.
fn too_large(partial: &mut Partial, retry: &RetryPolicy) -> Failure {
    let error = Error::TooLarge {
        url: partial.origin.url.clone(),
        limit: retry.max_bytes,
    };
    match partial.discard() {
        Ok(()) => Failure::Final(error),
        Err(error) => Failure::Final(error),
    }
}
