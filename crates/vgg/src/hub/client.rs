//! Requests to the hub: metadata and contents of files, and listings of repositories.

use std::path::Path;

use fetch::http::header::{CONTENT_LENGTH, ETAG};
use fetch::http::{HeaderMap, HeaderName, Uri};
use fetch::{Checksum, Client, Config, Download, Redirect, redacted, same_origin};
use serde::Deserialize;

use super::address::{is_plain_id, is_plain_path};
use super::{Address, Hub, HubError, OnEvent};

const X_REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
const X_LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const X_LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

/// Maximum size of a repository's file listing, in bytes.
const MAX_LISTING: u64 = 4 << 20;
/// Maximum size of a weights file, in bytes.
const MAX_FILE: u64 = 16 << 30;
const WEIGHTS_EXTENSIONS: [&str; 4] = [".safetensors", ".pth", ".pt", ".bin"];

/// The metadata of a file at one revision.
pub(super) struct Metadata {
    /// An identifier of the content: the SHA-256 for a file in LFS, and usually the git blob id for
    /// other files. Safe as a file name.
    pub(super) etag: String,
    /// The commit that the revision resolves to. Safe as a file name.
    pub(super) commit: String,
    /// Size in bytes. Mirrors may omit it.
    size: Option<u64>,
}

/// A client for one endpoint, the hub or a mirror.
pub(super) struct HubClient {
    client: Client,
    endpoint: Uri,
}

impl HubClient {
    /// Creates a client that sends the token only to the scheme, host and port of the endpoint.
    /// Returns an error if downloads are disabled, or the endpoint or the token is invalid.
    pub(super) fn new(hub: &Hub) -> Result<Self, HubError> {
        if hub.offline {
            return Err(HubError::Offline {
                cache: hub.cache.clone(),
            });
        }
        let endpoint = fetch::parse_url(hub.endpoint.trim_end_matches('/'));
        let endpoint = endpoint.map_err(HubError::Endpoint)?;
        if endpoint.query().is_some() {
            return Err(HubError::EndpointQuery);
        }
        let token = hub.token.clone();
        if !token
            .iter()
            .all(|token| token.chars().all(|c| c.is_ascii_graphic()))
        {
            return Err(HubError::Token);
        }
        let client = Client::new(&Config {
            user_agent: concat!("vgg/", env!("CARGO_PKG_VERSION")).into(),
            token: token.map(|token| (endpoint.clone(), token)),
            idle_timeout: hub.idle_timeout,
            first_pause: hub.idle_timeout / 60,
        });
        Ok(Self { client, endpoint })
    }

    /// Requests the metadata of a file. All fields come from a single response of the endpoint.
    ///
    /// As in `huggingface_hub`, relative redirects are followed (the hub sends them for renamed
    /// repositories). An absolute redirect with an `X-Repo-Commit` header, such as the one to the
    /// storage for LFS files, contains the metadata and is not followed. Other absolute redirects
    /// are followed only within the origin of the endpoint.
    pub(super) fn metadata(
        &self,
        address: &Address,
        on_event: &mut OnEvent<'_>,
    ) -> Result<Metadata, HubError> {
        let url = self.file_url(address, &address.revision)?;
        let mut is_storage = false;
        let follow = |redirect: &Redirect<'_>| {
            is_storage = !redirect.is_relative && redirect.headers.contains_key(X_REPO_COMMIT);
            if is_storage {
                return Ok(false);
            }
            if same_origin(redirect.to, &self.endpoint) {
                return Ok(true);
            }
            Err(HubError::UnexpectedResponse {
                url: redacted(redirect.from),
                reason: format!(
                    "the redirect to {} has no X-Repo-Commit header",
                    redacted(redirect.to)
                ),
            })
        };
        let (url, response) = self.client.head(&url, follow, on_event)?;
        let (status, headers) = (response.status(), response.headers());
        if !status.is_success() && !is_storage {
            return Err(HubError::Download(fetch::Error::Status {
                url,
                status: status.as_u16(),
                retry_after: None,
            }));
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
        if size.is_none() && checksum(&etag).is_none() {
            return Err(HubError::UnexpectedResponse {
                url,
                reason: "it has neither a size nor a checksum".into(),
            });
        }
        Ok(Metadata {
            etag,
            commit: id(&url, headers, &X_REPO_COMMIT, "X-Repo-Commit")?,
            size,
        })
    }

    /// Downloads the content of a file to `path`, unless `path` exists with the expected size and
    /// checksum.
    pub(super) fn download(
        &self,
        address: &Address,
        metadata: &Metadata,
        path: &Path,
        on_event: &mut OnEvent<'_>,
    ) -> Result<(), HubError> {
        let download = Download {
            url: &self.file_url(address, &metadata.commit)?,
            path,
            size: metadata.size,
            max_size: MAX_FILE,
            checksum: checksum(&metadata.etag),
        };
        Ok(self.client.download(&download, on_event)?)
    }

    /// Requests the names of at most 20 weights files in the repository at the revision.
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
        let url = self.url(&path)?;
        let listing = self.client.read(&url, MAX_LISTING)?;
        let listing: Listing =
            serde_json::from_slice(&listing).map_err(|error| HubError::UnexpectedResponse {
                url: redacted(&url),
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
        fetch::parse_url(&url).map_err(HubError::Endpoint)
    }
}

/// Returns the checksum in an etag. 64 hexadecimal digits are the SHA-256 of a file in LFS, and 40
/// are a git blob id. Returns `None` for other etags.
fn checksum(etag: &str) -> Option<Checksum> {
    let is_hex = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    match etag.len() {
        64 if is_hex => Some(Checksum::Sha256(etag.into())),
        40 if is_hex => Some(Checksum::GitBlob(etag.into())),
        _ => None,
    }
}

/// Reads an etag or a commit from a header, without the quotes and the prefix `W/` of etags.
/// Returns an error if the header is missing or not a plain name.
fn id(
    url: &str,
    headers: &HeaderMap,
    name: &HeaderName,
    header: &'static str,
) -> Result<String, HubError> {
    let value = headers
        .get(name)
        .ok_or_else(|| HubError::UnexpectedResponse {
            url: url.into(),
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
            url: url.into(),
            header,
            value: id.chars().take(200).collect(),
        })
    }
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Percent-encodes one segment of a path, including its slashes.
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

    #[test]
    fn segments_are_percent_encoded() {
        assert_eq!(encode("refs/pr/3"), "refs%2Fpr%2F3");
        assert_eq!(encode("vgg 16+x=1.pth"), "vgg%2016%2Bx%3D1.pth");
    }

    #[test]
    fn checksums_are_recognized_by_their_length() {
        let [sha256, git_blob] = ["0aF".repeat(22)[..64].to_string(), "b".repeat(40)];
        assert_eq!(checksum(&sha256), Some(Checksum::Sha256(sha256)));
        assert_eq!(checksum(&git_blob), Some(Checksum::GitBlob(git_blob)));
        assert_eq!(checksum(&"g".repeat(40)), None);
        assert_eq!(checksum("0123abcd"), None);
    }
}
