//! Requests and redirects.
//!
//! The client follows redirects itself, because ureq can only drop the token in all redirects, or
//! send it to every port of the same host.

use std::io::Read;
use std::time::Duration;

use ureq::http::header::{AUTHORIZATION, HeaderName, LOCATION, RANGE, RETRY_AFTER};
use ureq::http::{HeaderMap, Method, Request, Response, Uri};
use ureq::{Agent, Body};

use crate::Error;
use crate::url::{redacted, resolve, same_origin};

/// Maximum number of redirects of one request.
pub const MAX_REDIRECTS: usize = 10;

/// Settings of a [`Client`].
#[derive(Clone)]
pub struct Config {
    /// Value of the `User-Agent` header.
    pub user_agent: String,
    /// A URL, and the bearer token for requests to its scheme, host and port.
    pub token: Option<(Uri, String)>,
    /// Timeout of each network read and write, and of receiving the headers of a response.
    /// Resolving the host and connecting have the same timeout, but at most 30 seconds. The total
    /// time is not limited: files are large and connections may be slow.
    pub idle_timeout: Duration,
    /// Pause after a failed attempt of a download. It doubles with each consecutive attempt without
    /// progress. A number of seconds in `Retry-After` replaces it. No pause exceeds 30 seconds.
    pub first_pause: Duration,
}

impl Default for Config {
    /// User agent `fetch/VERSION`, no token, an idle timeout of 60 seconds, and a first pause of
    /// half a second.
    fn default() -> Self {
        Self {
            user_agent: concat!("fetch/", env!("CARGO_PKG_VERSION")).into(),
            token: None,
            idle_timeout: Duration::from_secs(60),
            first_pause: Duration::from_millis(500),
        }
    }
}

/// A blocking HTTP client.
pub struct Client {
    agent: Agent,
    token: Option<(Uri, String)>,
    pub(crate) first_pause: Duration,
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
        let connect_timeout = Some(config.idle_timeout.min(Duration::from_secs(30)));
        let idle_timeout = Some(config.idle_timeout);
        let agent = Agent::config_builder()
            .timeout_resolve(connect_timeout)
            .timeout_connect(connect_timeout)
            .timeout_per_read(idle_timeout)
            .timeout_per_write(idle_timeout)
            .timeout_recv_response(idle_timeout)
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
            first_pause: config.first_pause,
        }
    }

    /// Sends a HEAD request and follows at most [`MAX_REDIRECTS`] redirects as long as `follow`
    /// returns true. Returns the URL of the last request without secrets, for error messages, and
    /// the response, which may have any status.
    ///
    /// # Errors
    ///
    /// Returns the error of `follow`, [`Error::Unreachable`], [`Error::Redirect`] or
    /// [`Error::TooManyRedirects`].
    pub fn head<E: From<Error>>(
        &self,
        url: &Uri,
        follow: impl FnMut(&Redirect<'_>) -> Result<bool, E>,
    ) -> Result<(String, Response<()>), E> {
        let (url, response) = self.send(Method::HEAD, url, 0, follow)?;
        Ok((url, response.map(drop)))
    }

    /// Downloads a body of at most `max_size` bytes into memory. Follows redirects and does not
    /// retry.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unreachable`], [`Error::Status`], [`Error::Redirect`],
    /// [`Error::TooManyRedirects`], [`Error::Interrupted`] or [`Error::TooLarge`].
    pub fn read(&self, url: &Uri, max_size: u64) -> Result<Vec<u8>, Error> {
        let (url, response) = self.get(url, 0)?;
        if !response.status().is_success() {
            return Err(bad_status(url, &response));
        }
        let mut bytes = Vec::new();
        let mut body = response
            .into_body()
            .into_reader()
            .take(max_size.saturating_add(1));
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
        self.send(Method::GET, url, start, |_| Ok(true))
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
                reason: error.to_string(),
            })
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
