//! One file over HTTP: resumed with range requests, tried again with growing pauses.
//!
//! RFC 9110: section 14 (ranges), 13.1.5 (`If-Range`: the rest if the file is unchanged, else all of
//! it), 8.8 (validators), 10.2.3 (`Retry-After`).

use super::Event;
use super::answer::{Failure, accept, not_answered};
use super::error::{Error, io};
use super::partial::Partial;
use std::io::{self as std_io, Read, Write};
use std::thread;
use std::time::Duration;
use ureq::http::Response;
use ureq::http::header::{IF_RANGE, RANGE};
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
    /// Four attempts, 1, 2 and 4 seconds apart; at most 256 MiB.
    fn default() -> Self {
        Self {
            attempts: 4,
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
