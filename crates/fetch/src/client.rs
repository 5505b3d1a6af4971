//! Requests and redirects.
//!
//! The client follows redirects itself, because ureq can only drop the token in all redirects, or
//! send it to every port of the same host.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::Duration;

use ureq::http::header::{
    AUTHORIZATION, CONTENT_ENCODING, HeaderName, LOCATION, RANGE, RETRY_AFTER,
};
use ureq::http::{HeaderMap, Method, Request, Response, Uri};
use ureq::{Agent, Body};

use crate::speed::MinSpeed;
use crate::url::{redacted, resolve, same_origin};
use crate::{Error, Event};

/// Maximum number of redirects of one request.
pub const MAX_REDIRECTS: usize = 10;
/// Maximum number of consecutive failed attempts. A failed attempt that made progress counts as the
/// first, unless the progress is slower than [`MIN_SPEED`](crate::MIN_SPEED).
pub const ATTEMPTS: u32 = 4;
/// Maximum size of the headers of a response in bytes. Their number is limited to 128 by ureq.
const MAX_HEADERS: usize = 64 << 10;
/// Maximum pause between two attempts, even if the server requests a longer one.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Settings of a [`Client`].
#[derive(Clone)]
pub struct Config {
    /// Value of the `User-Agent` header.
    pub user_agent: String,
    /// A URL, and the bearer token for requests to its scheme, host and port.
    pub token: Option<(Uri, String)>,
    /// Timeout of resolving the host, of connecting, of sending a request, of receiving the headers
    /// of a response, and of each read. A body that arrives at less than
    /// [`MIN_SPEED`](crate::MIN_SPEED) for this time also times out. The total time is not limited:
    /// files are large and connections may be slow.
    pub idle_timeout: Duration,
    /// Pause after a failed attempt of a download. It doubles with each consecutive attempt without
    /// progress. A number of seconds in `Retry-After` replaces it. No pause exceeds 30 seconds.
    pub first_pause: Duration,
}

impl Default for Config {
    /// User agent `fetch/VERSION`, no token, an idle timeout of 30 seconds, and a first pause of
    /// half a second.
    fn default() -> Self {
        Self {
            user_agent: concat!("fetch/", env!("CARGO_PKG_VERSION")).into(),
            token: None,
            idle_timeout: Duration::from_secs(30),
            first_pause: Duration::from_millis(500),
        }
    }
}

/// A blocking HTTP client.
pub struct Client {
    agent: Agent,
    token: Option<(Uri, String)>,
    pub(crate) idle_timeout: Duration,
    first_pause: Duration,
}

/// A response with a `Location` header and status 301, 302, 303, 307 or 308.
#[non_exhaustive]
pub struct Redirect<'a> {
    /// URL of the request.
    pub from: &'a Uri,
    /// Target of the redirect, resolved against `from`.
    pub to: &'a Uri,
    /// Whether the `Location` header is a path without a host.
    pub is_relative: bool,
    /// Headers of the response.
    pub headers: &'a HeaderMap,
}

impl Client {
    /// Creates a client that uses the proxies in the environment.
    pub fn new(config: &Config) -> Self {
        let timeout = Some(config.idle_timeout);
        let agent = Agent::config_builder()
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_send_request(timeout)
            .timeout_recv_response(timeout)
            .timeout_per_read(timeout)
            .max_response_header_size(MAX_HEADERS)
            .max_redirects(0)
            .http_status_as_error(false)
            // With compression, ranges and sizes would not refer to the bytes of the file.
            .accept_encoding("identity")
            .user_agent(&config.user_agent)
            .build()
            .new_agent();
        Self {
            agent,
            token: config.token.clone(),
            idle_timeout: config.idle_timeout,
            first_pause: config.first_pause,
        }
    }

    /// Sends a HEAD request and follows at most [`MAX_REDIRECTS`] redirects as long as `follow`
    /// returns true. Returns the URL of the last request without secrets, for error messages, and
    /// the response, which may have any status. Requests are repeated after a temporary status such
    /// as 503, up to [`ATTEMPTS`] in all, and `on_event` is called before each repetition.
    ///
    /// # Errors
    ///
    /// Returns the error of `follow`, [`Error::Unreachable`], [`Error::Redirect`],
    /// [`Error::Unencrypted`] or [`Error::TooManyRedirects`].
    pub fn head<E: From<Error>>(
        &self,
        url: &Uri,
        mut follow: impl FnMut(&Redirect<'_>) -> Result<bool, E>,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<(String, Response<()>), E> {
        let mut failures = 0;
        loop {
            let (last, response) = self.send(Method::HEAD, url, 0, &mut follow)?;
            failures += 1;
            let error = bad_status(last.clone(), &response);
            if !error.is_transient() || failures >= ATTEMPTS {
                return Ok((last, response.map(drop)));
            }
            self.pause(&error, failures, on_event);
        }
    }

    /// Waits before the next attempt after `failures` consecutive ones, of which the last failed
    /// with `error`.
    pub(crate) fn pause(&self, error: &Error, failures: u32, on_event: &mut dyn FnMut(Event<'_>)) {
        let requested = match error {
            Error::Status { retry_after, .. } => *retry_after,
            _ => None,
        };
        let pause = requested.unwrap_or(self.first_pause * 2_u32.pow(failures - 1));
        let pause = pause.min(MAX_PAUSE);
        on_event(Event::Retry { error, pause });
        thread::sleep(pause);
    }

    /// Downloads a body of at most `max_size` bytes into memory. Follows redirects and does not
    /// retry.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unreachable`], [`Error::Status`], [`Error::Redirect`],
    /// [`Error::Unencrypted`], [`Error::TooManyRedirects`], [`Error::Compressed`],
    /// [`Error::Interrupted`] or [`Error::TooLarge`].
    pub fn read(&self, url: &Uri, max_size: u64) -> Result<Vec<u8>, Error> {
        let (url, response) = self.get(url, 0)?;
        if !response.status().is_success() {
            return Err(bad_status(url, &response));
        }
        let mut bytes = Vec::new();
        let body = self.body(response);
        let mut body = body.take(max_size.saturating_add(1));
        if body.read_to_end(&mut bytes).is_err() {
            return Err(Error::Interrupted {
                url,
                received: bytes.len() as u64,
                size: None,
            });
        }
        if bytes.len() as u64 > max_size {
            return Err(Error::TooLarge {
                url,
                limit: max_size,
            });
        }
        Ok(bytes)
    }

    /// Requests the bytes from `start` to the end and follows redirects. Returns the URL of the
    /// last request, for error messages, and the response, which may have any status.
    pub(crate) fn get(&self, url: &Uri, start: u64) -> Result<(String, Response<Body>), Error> {
        let (url, response) = self.send(Method::GET, url, start, |_| Ok(true))?;
        let mut encodings = response.headers().get_all(CONTENT_ENCODING).iter();
        if response.status().is_success() && encodings.any(|value| value != "identity") {
            return Err(Error::Compressed { url });
        }
        Ok((url, response))
    }

    /// A reader of the body of a response, which fails if the body arrives too slowly.
    pub(crate) fn body(&self, response: Response<Body>) -> impl Read + use<> {
        MinSpeed::new(response.into_body().into_reader(), self.idle_timeout)
    }

    fn send<E: From<Error>>(
        &self,
        method: Method,
        first: &Uri,
        start: u64,
        mut follow: impl FnMut(&Redirect<'_>) -> Result<bool, E>,
    ) -> Result<(String, Response<Body>), E> {
        let mut url = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_once(&method, &url, start)?;
            let Some(location) = location(&response) else {
                return Ok((redacted(&url), response));
            };
            let redirect = Redirect {
                from: &url,
                to: &resolve(&url, location)?,
                is_relative: location.starts_with('/') && !location.starts_with("//"),
                headers: response.headers(),
            };
            if !follow(&redirect)? {
                return Ok((redacted(&url), response));
            }
            url = redirect.to.clone();
        }
        Err(E::from(Error::TooManyRedirects {
            url: redacted(first),
            limit: MAX_REDIRECTS,
        }))
    }

    /// Sends one request, with the token if `url` has the origin of the token.
    fn send_once(&self, method: &Method, url: &Uri, start: u64) -> Result<Response<Body>, Error> {
        let mut request = Request::builder().method(method).uri(url);
        if start > 0 {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        if let Some((origin, token)) = &self.token
            && same_origin(url, origin)
        {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        request
            .body(())
            .map_err(ureq::Error::from)
            .and_then(|request| self.agent.run(request))
            .map_err(|error| Error::Unreachable {
                url: redacted(url),
                reason: self.reason(&error),
            })
    }

    /// Describes the error of a request. Replaces control characters, which may come from a proxy.
    fn reason(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(_) => {
                format!("no response within {} s", self.idle_timeout.as_secs_f32())
            }
            ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                error.kind().to_string()
            }
            error => error.to_string().replace(char::is_control, "?"),
        }
    }
}

/// Returns the `Location` header if the status of the response is a redirect.
fn location(response: &Response<Body>) -> Option<&str> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(LOCATION).filter(|_| is_redirect)?;
    // URLs are ASCII. Other values are replaced by an empty one, which `resolve` rejects.
    Some(location.to_str().unwrap_or_default())
}

/// The error for a response whose status is not the expected one.
pub(crate) fn bad_status(url: String, response: &Response<Body>) -> Error {
    Error::Status {
        url,
        status: response.status().as_u16(),
        // Retry-After can also be a date. This is rare, and then the default pause is used.
        retry_after: number(response, RETRY_AFTER).map(Duration::from_secs),
    }
}

pub(crate) fn header(response: &Response<Body>, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

pub(crate) fn number(response: &Response<Body>, name: HeaderName) -> Option<u64> {
    header(response, name)?.trim().parse().ok()
}
