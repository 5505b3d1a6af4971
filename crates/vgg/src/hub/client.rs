//! HTTP requests to the hub.
//!
//! The token is sent only to the origin (scheme, host and port) of the endpoint. This client
//! follows redirects itself, because ureq compares only the hosts and not the ports.

use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, ETAG, LOCATION, RANGE};
use ureq::http::{HeaderMap, HeaderName, Method, Request, Response, Uri};
use ureq::{Agent, Body};

use super::address::{is_plain_id, is_plain_path};
use super::{Address, HubError};

const X_REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
const X_LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const X_LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

const MAX_REDIRECTS: usize = 10;
/// Maximum size of a repository's file listing, in bytes.
const MAX_LISTING: u64 = 4 << 20;
const WEIGHTS_EXTENSIONS: [&str; 4] = [".safetensors", ".pth", ".pt", ".bin"];

/// The metadata of a file at one revision.
#[derive(Debug)]
pub(super) struct Metadata {
    /// An identifier of the content: the SHA-256 for a file in LFS, and usually the git blob id for
    /// other files. Safe as a file name.
    pub(super) etag: String,
    /// The commit that the revision resolves to. Safe as a file name.
    pub(super) commit: String,
    /// Size in bytes. Mirrors may omit it.
    pub(super) size: Option<u64>,
}

/// An HTTP client for one endpoint.
pub(super) struct Client {
    agent: Agent,
    endpoint: Uri,
    token: Option<String>,
}

impl Client {
    pub(super) fn new(endpoint: &str, token: Option<String>) -> Result<Self, HubError> {
        let invalid = || HubError::Endpoint {
            endpoint: endpoint.into(),
        };
        let endpoint: Uri = endpoint
            .trim_end_matches('/')
            .parse()
            .map_err(|_| invalid())?;
        origin(&endpoint).ok_or_else(invalid)?;
        let idle_timeout = Some(Duration::from_secs(60));
        let agent = Agent::config_builder()
            .timeout_resolve(Some(Duration::from_secs(30)))
            .timeout_connect(Some(Duration::from_secs(30)))
            // There is no timeout for the whole body: files are large and connections may be slow.
            .timeout_per_read(idle_timeout)
            .timeout_per_write(idle_timeout)
            .timeout_recv_response(idle_timeout)
            .max_redirects(0)
            .http_status_as_error(false)
            // With compression, ranges and sizes would not refer to the bytes of the file.
            .accept_encoding("identity")
            .user_agent(concat!("vgg/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self {
            agent,
            endpoint,
            token,
        })
    }

    /// Requests the metadata of a file. All of it is taken from a single response of the endpoint.
    ///
    /// As in `huggingface_hub`, relative redirects are followed (the hub sends them for renamed
    /// repositories). An absolute redirect with an `X-Repo-Commit` header, such as the one to the
    /// storage for LFS files, contains the metadata and is not followed. Other absolute redirects
    /// are followed only within the origin of the endpoint.
    pub(super) fn metadata(&self, address: &Address) -> Result<Metadata, HubError> {
        let first = self.file_url(address, &address.revision)?;
        let mut url = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(Method::HEAD, &url, 0)?;
            let headers = response.headers();
            if let Some(location) = location(&response)
                && (is_relative(location) || !headers.contains_key(X_REPO_COMMIT))
            {
                let next = resolve(&url, location)?;
                if origin(&next) != origin(&self.endpoint) {
                    return Err(HubError::UnexpectedResponse {
                        url: redacted(&url),
                        reason: format!(
                            "the redirect to {} has no X-Repo-Commit header",
                            redacted(&next)
                        ),
                    });
                }
                url = next;
                continue;
            }
            let status = response.status();
            if !status.is_success() && !status.is_redirection() {
                return Err(bad_status(&url, &response));
            }
            let etag = match headers.get(&X_LINKED_ETAG) {
                Some(_) => id(&url, headers, &X_LINKED_ETAG, "X-Linked-ETag")?,
                None => id(&url, headers, &ETAG, "ETag")?,
            };
            let size = number(headers, &X_LINKED_SIZE).or_else(|| {
                // In a redirect, Content-Length is the length of the redirect's own body.
                let length = number(headers, &CONTENT_LENGTH);
                length.filter(|_| status.is_success())
            });
            return Ok(Metadata {
                etag,
                commit: id(&url, headers, &X_REPO_COMMIT, "X-Repo-Commit")?,
                size,
            });
        }
        Err(HubError::TooManyRedirects {
            url: redacted(&first),
            limit: MAX_REDIRECTS,
        })
    }

    /// Requests the bytes of a file from `start` to the end. Returns the URL after redirects and
    /// the response.
    pub(super) fn file(
        &self,
        address: &Address,
        commit: &str,
        start: u64,
    ) -> Result<(String, Response<Body>), HubError> {
        self.get(self.file_url(address, commit)?, start)
    }

    /// Requests the names of at most 20 weights files in a repository.
    pub(super) fn weights_files(&self, address: &Address) -> Result<Vec<String>, HubError> {
        #[derive(Deserialize)]
        struct Listing {
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let revision = encode(&address.revision);
        let path = format!("api/models/{}/revision/{revision}", address.repository);
        let (url, response) = self.get(self.url(&path)?, 0)?;
        if !response.status().is_success() {
            return Err(HubError::Status {
                url,
                status: response.status().as_u16(),
            });
        }
        let body = response.into_body().into_reader().take(MAX_LISTING);
        let listing: Listing =
            serde_json::from_reader(body).map_err(|error| HubError::UnexpectedResponse {
                url,
                reason: error.to_string(),
            })?;
        let names = listing.siblings.into_iter().map(|file| file.rfilename);
        let is_weights = |name: &String| WEIGHTS_EXTENSIONS.iter().any(|end| name.ends_with(end));
        let weights = names.filter(|name| is_weights(name) && is_plain_path(name));
        Ok(weights.take(20).collect())
    }

    fn file_url(&self, address: &Address, revision: &str) -> Result<Uri, HubError> {
        let Address {
            repository, file, ..
        } = address;
        let file: Vec<String> = file.split('/').map(encode).collect();
        let (revision, file) = (encode(revision), file.join("/"));
        self.url(&format!("{repository}/resolve/{revision}/{file}"))
    }

    fn url(&self, path: &str) -> Result<Uri, HubError> {
        let url = format!("{}/{path}", self.endpoint.to_string().trim_end_matches('/'));
        url.parse().map_err(|_| HubError::Endpoint {
            endpoint: self.endpoint.to_string(),
        })
    }

    /// Sends a GET request and follows redirects.
    fn get(&self, first: Uri, start: u64) -> Result<(String, Response<Body>), HubError> {
        let mut url = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(Method::GET, &url, start)?;
            match location(&response) {
                Some(location) => url = resolve(&url, location)?,
                None => return Ok((redacted(&url), response)),
            }
        }
        Err(HubError::TooManyRedirects {
            url: redacted(&first),
            limit: MAX_REDIRECTS,
        })
    }

    /// Sends one request, with the token if `url` has the origin of the endpoint.
    fn send(&self, method: Method, url: &Uri, start: u64) -> Result<Response<Body>, HubError> {
        let failed = |reason: String| HubError::Unreachable {
            url: redacted(url),
            reason,
        };
        let mut request = Request::builder().method(method).uri(url);
        if start > 0 {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        if let Some(token) = &self.token
            && origin(url) == origin(&self.endpoint)
        {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(())
            .map_err(|error| failed(error.to_string()))?;
        self.agent
            .run(request)
            .map_err(|error| failed(error.to_string()))
    }
}

fn bad_status(url: &Uri, response: &Response<Body>) -> HubError {
    HubError::Status {
        url: redacted(url),
        status: response.status().as_u16(),
    }
}

/// Returns scheme, host and port of an http or https URL.
fn origin(url: &Uri) -> Option<(&str, String, u16)> {
    let scheme = url.scheme_str()?;
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let host = url.host()?.to_ascii_lowercase();
    Some((scheme, host, url.port_u16().unwrap_or(default_port)))
}

/// Formats a URL without its user name, password and query, which may contain secrets.
fn redacted(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or_default();
    let host = url.host().unwrap_or_default();
    let port = url
        .port_u16()
        .map_or(String::new(), |port| format!(":{port}"));
    format!("{scheme}://{host}{port}{}", url.path())
}

/// Returns the target URL if the response is a redirect.
fn location(response: &Response<Body>) -> Option<&str> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(LOCATION).filter(|_| is_redirect)?;
    // URLs are ASCII. Any other value is replaced by an empty one, which `resolve` rejects.
    Some(location.to_str().unwrap_or_default())
}

fn is_relative(location: &str) -> bool {
    location.starts_with('/') && !location.starts_with("//")
}

/// Resolves a `Location` header, which is absolute or relative to the scheme or origin of `base`.
fn resolve(base: &Uri, location: &str) -> Result<Uri, HubError> {
    let scheme = base.scheme_str().unwrap_or("https");
    let absolute = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        let authority = base.authority().map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}{location}")
    } else {
        location.into()
    };
    let url = absolute.parse::<Uri>().ok();
    url.filter(|url| origin(url).is_some())
        .ok_or_else(|| HubError::Redirect {
            url: redacted(base),
            location: location.into(),
        })
}

/// Reads an etag or a commit from a header. Quotes and the prefix `W/` of etags are removed.
fn id(
    url: &Uri,
    headers: &HeaderMap,
    name: &HeaderName,
    header: &'static str,
) -> Result<String, HubError> {
    let value = headers
        .get(name)
        .ok_or_else(|| HubError::UnexpectedResponse {
            url: redacted(url),
            reason: format!("it has no {header} header"),
        })?;
    let value = String::from_utf8_lossy(value.as_bytes());
    let id = value.strip_prefix("W/").unwrap_or(&value);
    let quoted = id.strip_prefix('"').and_then(|id| id.strip_suffix('"'));
    let id = quoted.unwrap_or(id);
    if is_plain_id(id) {
        Ok(id.into())
    } else {
        Err(HubError::UnsafeName {
            url: redacted(url),
            header,
            value: id.chars().take(200).collect(),
        })
    }
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Percent-encodes one segment of a path.
fn encode(segment: &str) -> String {
    let mut encoded = String::new();
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().expect(text)
    }

    #[test]
    fn origins_compare_scheme_host_and_port() {
        let url = uri("https://hub.example/a");
        let hub = origin(&url).expect("an origin");
        for same in [
            "https://HUB.example/b",
            "https://hub.example:443",
            "https://me@hub.example",
        ] {
            assert_eq!(origin(&uri(same)), Some(hub.clone()), "{same}");
        }
        for other in [
            "http://hub.example/a",
            "https://hub.example:8443/a",
            "https://hub.example.org/a",
            "https://hub.example@evil.example/a",
        ] {
            assert_ne!(origin(&uri(other)), Some(hub.clone()), "{other}");
        }
        assert_eq!(origin(&uri("ftp://hub.example/a")), None);
        assert_eq!(origin(&uri("/a")), None);
    }

    #[test]
    fn locations_are_resolved_against_the_request() {
        let base = uri("https://hub.example:8443/a/b?c");
        for (location, expected) in [
            ("/x/y?z", "https://hub.example:8443/x/y?z"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("http://cdn.example/x", "http://cdn.example/x"),
        ] {
            assert_eq!(resolve(&base, location).expect(location), uri(expected));
        }
        for location in ["", "x", "file:///etc/passwd", "ftp://x/y", "http://"] {
            assert!(resolve(&base, location).is_err(), "{location}");
        }
    }

    #[test]
    fn displayed_urls_contain_no_secrets() {
        let url = uri("https://user:password@hub.example:8443/a/b?signature=secret");
        assert_eq!(redacted(&url), "https://hub.example:8443/a/b");
    }

    #[test]
    fn segments_are_percent_encoded() {
        assert_eq!(encode("refs/pr/3"), "refs%2Fpr%2F3");
        assert_eq!(encode("vgg 16+x=1.pth"), "vgg%2016%2Bx%3D1.pth");
    }
}
