//! Tests of downloads from local servers that imitate the hub: cache, metadata, redirects, hostile
//! responses and environment variables. The tests of the crate `fetch` cover the transfer itself.

#![cfg(feature = "hub")]

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use fetch::test_server::{End, Request, Response, Server};
use vgg::hub;
use vgg::hub::{Address, Hub, HubError};

const BODY: &[u8] = b"not really weights, but these bytes must arrive";
const COMMIT: &str = "89abcdef";
/// The idle timeout of the tests.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Response to a metadata request for `BODY`. The etag is the SHA-256 of `BODY`, as for
/// a file in Git LFS.
fn metadata() -> Response {
    Response::whole(BODY)
        .header("etag", format!("\"{}\"", sha256(BODY)))
        .header("x-repo-commit", COMMIT)
}

fn sha256(mut bytes: &[u8]) -> String {
    fetch::sha256(&mut bytes).expect("bytes in memory")
}

/// Responds like a hub on which every file has the content `BODY`.
fn honest(request: &Request, _: usize) -> Response {
    match request.method.as_str() {
        "HEAD" => metadata(),
        _ => Response::content(request, BODY),
    }
}

fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

/// A cache in a temporary folder. The folder also contains a file outside the cache, which
/// downloads must not change.
struct Cache {
    parent: tempfile::TempDir,
}

impl Cache {
    fn new() -> Self {
        let parent = tempfile::tempdir().expect("a temporary folder");
        fs::write(parent.path().join(".bashrc"), "unchanged").expect("a file");
        fs::create_dir_all(parent.path().join("home/hub")).expect("a folder");
        Self { parent }
    }

    fn path(&self) -> PathBuf {
        self.parent.path().join("home/hub")
    }

    fn hub(&self, server: &Server) -> Hub {
        Hub {
            endpoint: server.url.clone(),
            cache: self.path(),
            token: Some("hf_secret".into()),
            offline: false,
            idle_timeout: TIMEOUT,
        }
    }

    /// Paths and contents of all files in the temporary folder outside the cache.
    fn surroundings(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = files(self.parent.path());
        files.retain(|path| !path.starts_with(self.path()));
        files
            .into_iter()
            .map(|path| (path.clone(), fs::read(path).expect("a file")))
            .collect()
    }

    /// Paths of all files in the cache except locks, relative to the cache and sorted.
    fn files(&self) -> Vec<String> {
        let root = self.path();
        let mut names: Vec<String> = files(&root)
            .iter()
            .map(|path| path.strip_prefix(&root).expect("a path in the cache"))
            .map(|path| path.display().to_string())
            .filter(|name| !name.starts_with(".locks"))
            .collect();
        names.sort();
        names
    }
}

/// Paths of all files and symbolic links below a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.is_symlink() {
            paths.extend(files(&path));
        } else {
            paths.push(path);
        }
    }
    paths.sort();
    paths
}

fn fetch(hub: &Hub, text: &str) -> Result<PathBuf, HubError> {
    hub.fetch(&address(text), &mut |_| {}).map_err(|error| {
        assert_eq!(error.address.to_string(), text);
        error.source
    })
}

#[test]
fn downloads_are_cached_in_the_layout_of_huggingface_hub() {
    let server = Server::start(honest);
    let cache = Cache::new();
    let hub = cache.hub(&server);
    let mut steps = Vec::new();
    let path = hub
        .fetch(&address("a/b@v2/vgg/16.pth"), &mut |event| {
            if let hub::Event::Progress { received, size } = event {
                steps.push((received as usize, size.expect("a size") as usize));
            }
        })
        .expect("a download");
    assert_eq!(fs::read(&path).expect("a file"), BODY);
    assert_eq!(steps.first(), Some(&(0, BODY.len())), "{steps:?}");
    assert_eq!(steps.last(), Some(&(BODY.len(), BODY.len())), "{steps:?}");
    assert!(steps.is_sorted(), "{steps:?}");

    let blob = format!("models--a--b/blobs/{}", sha256(BODY));
    let link = format!("models--a--b/snapshots/{COMMIT}/vgg/16.pth");
    assert_eq!(
        cache.files(),
        [&blob, "models--a--b/refs/v2", link.as_str()]
    );
    assert_eq!(path, cache.path().join(&link));
    let commit = fs::read_to_string(cache.path().join("models--a--b/refs/v2"));
    assert_eq!(commit.expect("a file"), COMMIT);
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(&path).expect("a link"),
        Path::new(&format!("../../../blobs/{}", sha256(BODY)))
    );

    let requests = server.take_requests();
    let paths: Vec<_> = requests
        .iter()
        .map(|request| request.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "/a/b/resolve/v2/vgg/16.pth",
            "/a/b/resolve/89abcdef/vgg/16.pth"
        ]
    );
    for request in &requests {
        assert_eq!(request.authorization.as_deref(), Some("Bearer hf_secret"));
    }

    // The branch and the commit are both resolved from the cache, without a request.
    for text in ["a/b@v2/vgg/16.pth", "a/b@89abcdef/vgg/16.pth"] {
        assert_eq!(fetch(&hub, text).expect("the cached file"), path);
    }
    assert_eq!(server.take_requests().len(), 0);

    // Another revision with the same content needs only the metadata.
    fetch(&hub, "a/b@v3/vgg/16.pth").expect("the cached file");
    let requests = server.take_requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
}

#[test]
fn an_incomplete_file_in_the_cache_is_resumed() {
    let server = Server::start(honest);
    let cache = Cache::new();
    let blobs = cache.path().join("models--a--b/blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    let incomplete = blobs.join(format!("{}.incomplete", sha256(BODY)));
    fs::write(incomplete, &BODY[..10]).expect("a file");
    let path = fetch(&cache.hub(&server), "a/b").expect("a download");
    assert_eq!(fs::read(path).expect("a file"), BODY);
    let range = server.take_requests().pop().and_then(|last| last.range);
    assert_eq!(range.as_deref(), Some("bytes=10-"));
    assert_eq!(cache.files().len(), 3);
}

#[test]
fn the_token_is_not_sent_to_another_origin() {
    let storage = Server::start(honest);
    let location = format!("{}/storage?signature=x", storage.url);
    let server = Server::start(move |request, _| {
        let redirect = Response::redirect(location.clone());
        match request.method.as_str() {
            // The hub's response for files in Git LFS.
            "HEAD" => redirect
                .header("etag", "\"0123abcd\"")
                .header("x-linked-etag", format!("\"{}\"", sha256(BODY)))
                .header("x-linked-size", BODY.len().to_string())
                .header("x-repo-commit", COMMIT),
            _ => redirect,
        }
    });
    let cache = Cache::new();
    let path = fetch(&cache.hub(&server), "a/b").expect("a download");
    assert_eq!(fs::read(path).expect("a file"), BODY);
    let requests = server.take_requests();
    assert_eq!(requests.len(), 2);
    assert!(
        requests
            .iter()
            .all(|request| request.authorization.is_some())
    );
    let requests = storage.take_requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "/storage?signature=x");
    assert_eq!(requests[0].authorization, None);
}

#[test]
fn relative_redirects_of_renamed_repositories_are_followed() {
    let server = Server::start(|request, _| {
        if request.path.starts_with("/a/b") {
            let path = request.path.replacen("/a/b", "/c/d", 1);
            return Response::redirect(path).header("x-repo-commit", "another");
        }
        honest(request, 0)
    });
    let cache = Cache::new();
    let path = fetch(&cache.hub(&server), "a/b").expect("a download");
    assert!(path.starts_with(cache.path().join("models--a--b/snapshots/89abcdef")));
    let requests = server.take_requests();
    assert_eq!(requests.len(), 4);
    assert!(
        requests
            .iter()
            .all(|request| request.authorization.is_some())
    );
}

#[test]
fn failed_requests_are_errors_with_help() {
    let listing = br#"{"sha": "89abcdef", "siblings": [{"rfilename": "README.md"}, {"rfilename": "vgg/16.pth"},
        {"rfilename": "../x.pth"}, {"rfilename": "\u001b[2J.pth"}]}"#;
    let server = Server::start(|request, _| match request.path.as_str() {
        "/api/models/someone/others/revision/main" => Response::whole(listing),
        path if path.starts_with("/someone/gated/") => Response::status(401),
        path if path.starts_with("/someone/busy/") => Response::status(503),
        _ => Response::status(404),
    });
    let cache = Cache::new();
    let hub = cache.hub(&server);
    for (text, status, remedy) in [
        ("someone/gated", 401, "HF_TOKEN"),
        ("someone/busy", 503, "try again later"),
        (
            "timm/misspelled",
            404,
            "check the repository timm/misspelled",
        ),
    ] {
        let error = hub.fetch(&address(text), &mut |_| {}).expect_err(text);
        let url = format!("{}/{text}/resolve/main/model.safetensors", server.url);
        assert_eq!(
            error.to_string(),
            format!("cannot download {text}: {url} returned status {status}")
        );
        let help = error.help();
        assert!(help.contains(remedy), "{help}");
    }
    let error = hub
        .fetch(&address("someone/others"), &mut |_| {})
        .expect_err("no such file");
    assert_eq!(
        error.to_string(),
        "cannot download someone/others: the repository has no file `model.safetensors`"
    );
    assert_eq!(error.help(), "use one of its weights files: vgg/16.pth");

    for endpoint in [
        "",
        "huggingface.co",
        "ftp://huggingface.co",
        "http://",
        "htp://me:hunter2@huggingface.co",
        "http://huggingface.co/?x=hunter2",
    ] {
        let hub = Hub {
            endpoint: endpoint.into(),
            ..hub.clone()
        };
        let error = fetch(&hub, "a/b").expect_err(endpoint);
        assert!(
            matches!(error, HubError::Endpoint(_) | HubError::EndpointQuery),
            "{error:?}"
        );
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    assert_eq!(cache.files(), [""; 0]);
}

#[test]
fn concurrent_downloads_share_one_transfer() {
    let server = Server::start(honest);
    let cache = Cache::new();
    let hub = cache.hub(&server);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| fetch(&hub, "a/b").expect("a download"));
        }
    });
    let requests = server.take_requests();
    let gets = requests.iter().filter(|request| request.method == "GET");
    assert_eq!(gets.count(), 1);
    assert_eq!(cache.files().len(), 3);
}

/// Responds to a request, given the number of earlier requests with the same method and the URL of
/// another server, which responds like an honest hub.
type Respond = fn(&Request, usize, &str) -> Response;

/// A hub with one hostile or faulty behavior.
struct Behavior {
    name: &'static str,
    respond: Respond,
    /// Part of the error message, or `None` if the download succeeds.
    error: Option<&'static str>,
}

/// The response to a metadata request with other headers; the content is correct.
macro_rules! metadata {
    ($name:expr, $error:expr, $respond:expr) => {
        Behavior {
            name: $name,
            respond: |request, earlier, other| match request.method.as_str() {
                "HEAD" => {
                    let respond: fn(usize, &str) -> Response = $respond;
                    respond(earlier, other)
                }
                _ => Response::content(request, BODY),
            },
            error: $error,
        }
    };
}

/// The responses to requests for the content; the metadata is correct.
macro_rules! content {
    ($name:expr, $error:expr, $respond:expr) => {
        Behavior {
            name: $name,
            respond: |request, earlier, other| match request.method.as_str() {
                "HEAD" => metadata(),
                _ => {
                    let respond: fn(&Request, usize, &str) -> Response = $respond;
                    respond(request, earlier, other)
                }
            },
            error: $error,
        }
    };
}

/// The same response to all requests.
macro_rules! always {
    ($name:expr, $error:expr, $respond:expr) => {
        Behavior {
            name: $name,
            respond: |_, _, other| {
                let respond: fn(&str) -> Response = $respond;
                respond(other)
            },
            error: $error,
        }
    };
}

fn repeat(bytes: &[u8]) -> End {
    End::Repeat(bytes.to_vec(), Duration::ZERO)
}

fn trickle(bytes: &[u8]) -> End {
    End::Repeat(bytes.to_vec(), TIMEOUT / 5)
}

fn ok_head() -> Response {
    Response::raw("HTTP/1.1 200 OK\r\n")
}

/// The metadata response of the hub for a file in Git LFS, with its content at `location`.
fn storage(location: String) -> Response {
    Response::redirect(location)
        .header("etag", "\"0123abcd\"")
        .header("x-linked-etag", format!("\"{}\"", sha256(BODY)))
        .header("x-linked-size", BODY.len().to_string())
        .header("x-repo-commit", COMMIT)
}

fn corrupt() -> Vec<u8> {
    let mut content = BODY.to_vec();
    content[7] ^= 1;
    content
}

#[rustfmt::skip] // One behavior per line if it fits.
fn behaviors() -> Vec<Behavior> {
    let mut behaviors = vec![
        // Connections.
        always!("silence after connecting", Some("no response within 1 s"), |_| Response::raw("").end(End::Stall)),
        always!("a closed connection", Some("cannot reach"), |_| Response::raw("")),
        always!("a reset connection", Some("cannot reach"), |_| Response::status(200).end(End::Reset)),
        always!("bytes that are not HTTP", Some("cannot reach"), |_| Response::raw("SSH-2.0-OpenSSH\r\n\u{1b}[2J\r\n")),
        always!("a status that is not one", Some("cannot reach"), |_| Response::raw("HTTP/1.1 007 OK\r\n\r\n")),
        // Headers.
        always!("silence after the status line", Some("no response within 1 s"), |_| ok_head().end(End::Stall)),
        always!("a trickle of headers", Some("no response within 1 s"), |_| ok_head().end(trickle(b"x: y\r\n"))),
        always!("headers without end", Some("cannot reach"), |_| ok_head().end(repeat(b"x: y\r\n"))),
        always!("a header of a gigabyte", Some("cannot reach"), |_| ok_head().end(repeat(&[b'x'; 1 << 16]))),
        always!("a thousand headers", Some("cannot reach"), |_| Response::raw(["HTTP/1.1 200 OK\r\n", &"x: y\r\n".repeat(1000), "\r\n"].concat())),
        always!("informational responses without end", Some("cannot reach"), |_| Response::raw("").end(repeat(b"HTTP/1.1 103 Early\r\n\r\n"))),
        always!("a negative Content-Length", Some("cannot reach"), |_| metadata().header("content-length", "-5")),
        always!("two Content-Lengths", Some("cannot reach"), |_| Response::raw("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 47\r\n\r\n")),
        content!("a negative Content-Length of the content", Some("cannot reach"), |_, _, _| Response::whole(BODY).header("content-length", "-5")),
        // Statuses.
        always!("status 304 without Location", Some("status 304"), |_| Response::status(304)),
        always!("status 304 with metadata", Some("status 304"), |_| Response { status: 304, ..metadata() }),
        always!("status 302 without Location", Some("status 302"), |_| Response { status: 302, ..metadata() }),
        content!("status 304 for the content", Some("status 304"), |_, _, _| Response::status(304)),
        always!("status 401", Some("status 401"), |_| Response::status(401)),
        always!("status 403 of a gated repository", Some("status 403"), |_| Response::status(403).header("x-error-code", "GatedRepo")),
        always!("status 404 with an endless page", Some("status 404"), |_| Response::status(404).without("content-length").end(repeat(&[b' '; 1 << 16]))),
        content!("status 416 without a range", Some("status 416"), |_, _, _| Response::status(416)),
        always!("status 429 forever", Some("status 429"), |_| Response::status(429).header("retry-after", "0")),
        metadata!("status 429 and then metadata", None, |earlier, _| match earlier { 0 => Response::status(429).header("retry-after", "1"), _ => metadata() }),
        metadata!("status 500 and then metadata", None, |earlier, _| match earlier { 0 => Response::status(500), _ => metadata() }),
        content!("status 500 and then the content", None, |request, earlier, _| match earlier { 0 => Response::status(500), _ => Response::content(request, BODY) }),
        always!("status 204", Some("returned status 204"), |_| Response { status: 204, ..metadata() }),
        // Redirects.
        always!("a redirect to itself", Some("redirects more than 10 times"), |_| Response::redirect("/a/b/resolve/main/model.safetensors")),
        Behavior { name: "endless redirects", respond: |request, _, _| Response::redirect(format!("{}x", request.path)), error: Some("redirects more than 10 times") },
        always!("a redirect to another host without metadata", Some("has no X-Repo-Commit header"), |other| Response::redirect(format!("{other}/a?signature=hf_secret"))),
        always!("a redirect to another host without a scheme", Some("has no X-Repo-Commit header"), |other| Response::redirect(other.replace("http:", ""))),
        content!("a redirect of the content to another host", None, |_, _, other| Response::redirect(format!("{other}/a/b"))),
        Behavior { name: "a redirect of both to another host", respond: |_, _, other| storage(format!("{other}/a?signature=hf_secret")), error: None },
        always!("a redirect to a file", Some("not an http or https URL"), |_| Response::redirect("file:///etc/passwd?hf_secret")),
        content!("a redirect of the content to a file", Some("not an http or https URL"), |_, _, _| Response::redirect("file:///etc/passwd")),
        always!("a redirect with control characters", Some("not an http or https URL"), |_| Response::redirect("\u{9b}2J\t")),
        always!("a relative redirect", Some("not an http or https URL"), |_| Response::redirect("other")),
        metadata!("a storage redirect to a file", Some("not an http or https URL"), |_, _| storage("file:///etc/passwd".into())),
        // Metadata.
        metadata!("an HTML login page", Some("has no ETag header"), |_, _| Response::whole(b"<html>").header("content-type", "text/html")),
        metadata!("metadata without a commit", Some("has no X-Repo-Commit header"), |_, _| metadata().without("x-repo-commit")),
        metadata!("neither a size nor a checksum", Some("neither a size nor a checksum"), |_, _| metadata().without("content-length").header("etag", "\"0123abcd\"")),
        metadata!("a checksum without a size", None, |_, _| metadata().without("content-length")),
        metadata!("a weak etag that is a git blob id", None, |_, _| metadata().header("etag", "W/\"cb5b08e503b16f25c9f635f1092ab1cf3a8ff01b\"")),
        metadata!("a size of 10 EB", Some("larger than the limit"), |_, _| metadata().header("x-linked-size", "10000000000000000000")),
        metadata!("a size that is not a number", None, |_, _| metadata().header("x-linked-size", "-1")),
        metadata!("a size of another file", Some("sent 47 bytes instead of 48"), |_, _| metadata().header("x-linked-size", "48")),
        metadata!("an etag of another file", Some("instead of bbbbbb"), |_, _| metadata().header("etag", "b".repeat(64))),
        // Contents.
        content!("silence after the headers", Some("stopped after 0 of 47 bytes"), |_, _, _| Response::whole(BODY).cut(0).end(End::Stall)),
        content!("silence in the content", Some("stopped after 20 of 47 bytes"), |_, _, _| Response::whole(BODY).cut(20).end(End::Stall)),
        content!("a trickle", Some("stopped after"), |_, _, _| Response::whole(BODY).cut(0).end(trickle(b"x"))),
        content!("a content that is interrupted once", None, |request, earlier, _| match earlier { 0 => Response::whole(BODY).cut(20), _ => Response::content(request, BODY) }),
        content!("more bytes than the size", Some("instead of 47"), |_, _, _| Response::whole(BODY).without("content-length").end(repeat(b"!"))),
        content!("more bytes than the Content-Length", None, |_, _, _| Response::whole(BODY).end(repeat(b"!"))),
        content!("a larger Content-Length", Some("sent 48 bytes instead of 47"), |_, _, _| Response::whole(&[BODY, b"!"].concat())),
        content!("fewer bytes than the size", Some("sent 46 bytes instead of 47"), |_, _, _| Response::whole(&BODY[1..])),
        content!("fewer bytes than the Content-Length", Some("stopped after 46 of 47 bytes"), |_, _, _| Response::whole(BODY).cut(46)),
        content!("a wrong hash", Some("the SHA-256 of"), |_, _, _| Response::whole(&corrupt())),
        content!("other headers in the response with the content", None, |request, _, _| Response::content(request, BODY).header("etag", "\"../../../../.bashrc\"").header("x-repo-commit", "../../../..")),
        content!("a compressed content", Some("compressed response"), |_, _, _| Response::whole(BODY).header("content-encoding", "gzip")),
        content!("a bomb of zeros", Some("compressed response"), |_, _, _| Response::whole(b"").without("content-length").header("content-encoding", "br, gzip").end(repeat(&[0; 1 << 16]))),
        content!("chunks without end", Some("instead of 47"), |_, _, _| Response::whole(b"").without("content-length").header("transfer-encoding", "chunked").end(repeat(b"4\r\nabcd\r\n"))),
        content!("a chunk larger than memory", Some("stopped after"), |_, _, _| Response::whole(b"fffffffffffffffff\r\nabc").without("content-length").header("transfer-encoding", "chunked")),
        content!("chunks and no end after the content", None, |_, _, _| Response::whole(&[b"2f\r\n", BODY, b"\r\n"].concat()).without("content-length").header("transfer-encoding", "chunked").end(End::Stall)),
        content!("a JSON error of a gigabyte", Some("status 418"), |_, _, _| Response { status: 418, ..Response::whole(b"{").header("content-length", "1000000000").end(repeat(&[b' '; 1 << 16])) }),
        // Resumption.
        content!("a range of another part", None, |_, earlier, _| match earlier { 0 => Response::whole(BODY).cut(20), 1 => Response::rest(BODY, 10), _ => Response::whole(BODY) }),
        content!("a range shifted by one", None, |_, earlier, _| match earlier { 0 => Response::whole(BODY).cut(20), 1 => Response::rest(&corrupt(), 21).header("content-range", "bytes 20-46/47"), _ => Response::whole(BODY) }),
        content!("a range that is always shifted", Some("requested byte range"), |request, _, _| match &request.range { None => Response::whole(BODY).cut(20), Some(_) => Response::rest(BODY, 21) }),
        content!("a range of a larger file", Some("instead of 47"), |request, _, _| match &request.range { None => Response::whole(BODY).cut(20), Some(_) => Response::rest(BODY, 20).header("content-range", "bytes 20-46/4700") }),
        content!("status 200 in place of 206", None, |_, earlier, _| match earlier { 0 => Response::whole(BODY).cut(20), _ => Response::whole(BODY) }),
        content!("status 416 in place of 206", None, |request, earlier, _| match (&request.range, earlier) { (Some(_), _) => Response::status(416), (_, 0) => Response::whole(BODY).cut(20), _ => Response::whole(BODY) }),
        content!("a file that changes between requests", None, |request, earlier, _| match earlier { 0 => Response::whole(&corrupt()).header("etag", "1").cut(20), _ => Response::content(request, BODY).header("etag", "2") }),
    ];
    behaviors.extend(UNSAFE_NAMES.map(|(name, respond)| Behavior {
        name,
        respond,
        error: Some("which is not a plain name"),
    }));
    behaviors
}

/// Etags and commits that would be unsafe as names of files in the cache.
#[rustfmt::skip]
const UNSAFE_NAMES: [(&str, Respond); 12] = [
    ("an empty etag", |_, _, _| metadata().header("etag", "\"\"")),
    ("an etag of one dot", |_, _, _| metadata().header("etag", "\".\"")),
    ("an etag of two dots", |_, _, _| metadata().header("x-linked-etag", "\"..\"")),
    ("an etag above the cache", |_, _, _| metadata().header("etag", "\"../../.bashrc\"")),
    ("an absolute etag", |_, _, _| metadata().header("x-linked-etag", "\"/etc/x\"")),
    ("an etag with a backslash", |_, _, _| metadata().header("etag", "\"..\\x\"")),
    ("an etag with a drive", |_, _, _| metadata().header("etag", "\"C:x\"")),
    ("an etag with control characters", |_, _, _| metadata().header("etag", "\"a\tb\u{9b}2J\"")),
    ("an etag that is too long", |_, _, _| metadata().header("etag", "a".repeat(129))),
    ("a commit with a slash", |_, _, _| metadata().header("x-repo-commit", "a/b")),
    ("a commit above the cache", |_, _, _| metadata().header("x-repo-commit", "../../..")),
    ("a commit with spaces", |_, _, _| metadata().header("x-repo-commit", "a b")),
];

/// Runs one behavior of the hub, and checks that it causes no file outside the cache, no unverified file
/// under its final name, no token at another host, no secrets or control characters in the error, and no
/// endless wait.
fn check(behavior: &Behavior) {
    let other = Server::start(honest);
    let (respond, other_url) = (behavior.respond, other.url.clone());
    let server = Server::start(move |request, earlier| respond(request, earlier, &other_url));
    let cache = Cache::new();
    let before = cache.surroundings();
    let mut hub = cache.hub(&server);
    hub.endpoint = hub.endpoint.replace("http://", "http://me:hunter2@");
    check_hub(behavior, &hub, &cache);
    assert_eq!(cache.surroundings(), before);
    for request in server.take_requests() {
        let authorization = request.authorization.as_deref();
        assert_eq!(authorization, Some("Bearer hf_secret"), "{request:?}");
    }
    for request in other.take_requests() {
        assert_eq!(request.authorization, None, "{request:?}");
    }
}

fn check_hub(behavior: &Behavior, hub: &Hub, cache: &Cache) {
    let started = Instant::now();
    let result = hub.fetch(&address("a/b"), &mut |_| {});
    let limit = Duration::from_secs(30);
    assert!(started.elapsed() < limit, "{:?}", started.elapsed());
    let complete = |name: &String| !name.ends_with(".incomplete");
    match (result, behavior.error) {
        (Ok(path), None) => {
            assert_eq!(fs::read(path).expect("a file"), BODY);
            assert!(cache.files().iter().all(complete), "{:?}", cache.files());
        }
        (Err(error), Some(expected)) => {
            let text = format!("{error} {error:?} {}", error.help());
            assert!(text.contains(expected), "{text}");
            let secrets = ["hf_secret", "hunter2", "signature"];
            assert!(
                !secrets.iter().any(|secret| text.contains(secret)),
                "{text}"
            );
            assert!(!text.contains(char::is_control), "{text}");
            assert!(!cache.files().iter().any(complete), "{:?}", cache.files());
        }
        (result, expected) => panic!("{result:?} instead of {expected:?}"),
    }
}

#[test]
fn a_hostile_hub_gets_an_error_or_sends_the_correct_file() {
    let mut threads: Vec<_> = behaviors()
        .into_iter()
        .map(|behavior| (behavior.name, thread::spawn(move || check(&behavior))))
        .collect();
    // A TLS client at the port of a server without TLS.
    let plain = thread::spawn(|| {
        let server = Server::start(|_, _| Response::status(400));
        let cache = Cache::new();
        let mut hub = cache.hub(&server);
        hub.endpoint = hub.endpoint.replace("http://", "https://me:hunter2@");
        let behavior = always!("", Some("cannot reach"), |_| Response::status(400));
        check_hub(&behavior, &hub, &cache);
    });
    threads.push(("TLS at a plain port", plain));
    assert!(threads.len() >= 25);
    let failed: Vec<&str> = threads
        .into_iter()
        .filter_map(|(name, thread)| thread.join().is_err().then_some(name))
        .collect();
    assert_eq!(failed, [""; 0], "see the messages of the threads above");
}

#[test]
#[cfg(unix)]
fn links_in_the_cache_that_lead_out_of_it_are_replaced() {
    use std::os::unix::fs::symlink;

    let server = Server::start(honest);
    let cache = Cache::new();
    let before = cache.surroundings();
    let outside = cache.parent.path().join(".bashrc");
    let blob = format!("models--a--b/blobs/{}", sha256(BODY));
    for name in [
        &format!("{blob}.incomplete"),
        "models--a--b/refs/main",
        "models--a--b/snapshots/89abcdef/model.safetensors",
        &format!(".locks/models--a--b/{}.lock", sha256(BODY)),
    ] {
        let link = cache.path().join(name);
        fs::create_dir_all(link.parent().expect("a folder")).expect("a folder");
        symlink(&outside, &link).expect("a link");
    }
    let path = fetch(&cache.hub(&server), "a/b").expect("a download");
    assert_eq!(fs::read(path).expect("a file"), BODY);
    assert_eq!(cache.surroundings(), before);

    // The commit in a reference is a path out of the cache.
    let weights = cache.parent.path().join("model.safetensors");
    fs::write(&weights, "outside").expect("a file");
    fs::write(cache.path().join("models--a--b/refs/main"), "../../../..").expect("a file");
    let path = fetch(&cache.hub(&server), "a/b").expect("a download");
    assert_eq!(fs::read(path).expect("a file"), BODY);
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_with_help() {
    let server = Server::start(honest);
    let cache = Cache::new();
    let mut hub = cache.hub(&server);
    hub.cache = cache.parent.path().join(".bashrc");
    let error = hub.fetch(&address("a/b"), &mut |_| {}).expect_err("a file");
    assert!(matches!(error.source, HubError::Cache { .. }), "{error:?}");
    assert!(error.help().contains("HF_HUB_CACHE"), "{}", error.help());
}

#[test]
fn addresses_and_tokens_that_cannot_be_sent_are_errors_without_a_request() {
    let server = Server::start(honest);
    let cache = Cache::new();
    let hub = cache.hub(&server);
    for field in ["../b", "a/../../b", "/etc", "a\u{1b}"] {
        let mut addresses = [
            Address::new("a/b"),
            Address::new("a/b"),
            Address::new(field),
        ];
        addresses[0].file = field.into();
        addresses[1].revision = field.into();
        for address in addresses {
            let error = hub.fetch(&address, &mut |_| {}).expect_err(field);
            assert!(matches!(error.source, HubError::Address), "{error:?}");
        }
    }
    for token in ["hf_secret\n", "hf secret", "hf_\u{e9}"] {
        let mut hub = hub.clone();
        hub.token = Some(token.into());
        let error = fetch(&hub, "a/b").expect_err(token);
        assert!(matches!(error, HubError::Token), "{error:?}");
    }
    assert_eq!(server.take_requests().len(), 0);
}

#[test]
fn a_lock_of_another_process_is_waited_for_and_its_download_is_used() {
    let server = Server::start(honest);
    let cache = Cache::new();
    let hub = cache.hub(&server);
    let name = format!("{}.lock", sha256(BODY));
    let path = cache.path().join(".locks/models--a--b").join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let mut held = Some(fetch::lock(&path, || panic!("no other process")).expect("a lock"));
    let blobs = cache.path().join("models--a--b/blobs");
    let mut waiting = Vec::new();
    let result = hub.fetch(&address("a/b"), &mut |event| {
        if let hub::Event::Waiting { lock } = event {
            waiting.push(lock.to_path_buf());
            // The other process finishes the download.
            fs::write(blobs.join(sha256(BODY)), BODY).expect("a file");
            held = None;
        }
    });
    assert_eq!(fs::read(result.expect("a file")).expect("a file"), BODY);
    assert_eq!(waiting, [path]);
    assert!(held.is_none());
    // Only the metadata was requested.
    assert_eq!(server.take_requests().len(), 1);
}

#[test]
#[cfg(target_os = "linux")]
fn without_a_home_folder_there_is_an_error_with_help() {
    use std::os::unix::process::CommandExt;

    // A child process runs only this test, as a user without an entry in /etc/passwd, which needs
    // root.
    if std::env::var_os("VGG_TEST_NO_HOME").is_some() {
        let error = hub::fetch(&address("a/b"), &mut |_| {}).expect_err("no home folder");
        assert!(matches!(error.source, HubError::NoCacheFolder), "{error:?}");
        assert!(error.help().contains("HF_HOME"), "{}", error.help());
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("test");
    fs::copy(std::env::current_exe().expect("this program"), &program).expect("a copy");
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), readable).expect("permissions");
    let output = std::process::Command::new(program)
        .args([
            "--exact",
            "without_a_home_folder_there_is_an_error_with_help",
        ])
        .env_clear()
        .env("VGG_TEST_NO_HOME", "1")
        .uid(54321)
        .output();
    match output {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
        output => {
            let output = output.expect("a child process");
            assert!(output.status.success(), "{output:?}");
        }
    }
}

/// The only test that sets environment variables.
#[test]
fn environment_variables_configure_downloads() {
    let server = Server::start(honest);
    let home = tempfile::tempdir().expect("a temporary folder");
    let from_env = || Hub::from_env().expect("a home folder");
    let set = |key: &str, value: &str| {
        // SAFETY: the other tests and the servers neither read nor write these variables, and std's
        // functions for the environment exclude each other.
        unsafe { std::env::set_var(key, value) };
    };
    set("HF_HUB_CACHE", "");
    set("HF_HOME", "");
    set("XDG_CACHE_HOME", "relative");
    let default = from_env().cache;
    assert!(
        default.is_absolute() && default.ends_with(".cache/huggingface/hub"),
        "{}",
        default.display()
    );
    set("XDG_CACHE_HOME", "/xdg");
    assert_eq!(from_env().cache, Path::new("/xdg/huggingface/hub"));
    set("HF_HOME", "relative");
    assert_eq!(from_env().cache, Path::new("relative/hub"));
    set("HF_HUB_CACHE", "elsewhere");
    assert_eq!(from_env().cache, Path::new("elsewhere"));
    for name in ["HF_HUB_CACHE", "XDG_CACHE_HOME"] {
        set(name, "");
    }
    set("HF_HOME", &home.path().to_string_lossy());
    set("HF_ENDPOINT", &format!("{}/", server.url));
    set("HF_TOKEN", "hf_secret");
    set("HF_HUB_OFFLINE", "0");
    let imagenet = hub::imagenet("vgg16");
    assert_eq!(imagenet.to_string(), "timm/vgg16.tv_in1k");
    let path = hub::fetch(&imagenet, &mut |_| {}).expect("a download");
    assert!(
        path.starts_with(home.path().join("hub")),
        "{}",
        path.display()
    );
    for request in server.take_requests() {
        assert!(
            request.path.starts_with("/timm/vgg16.tv_in1k/resolve/"),
            "{request:?}"
        );
        assert_eq!(request.authorization.as_deref(), Some("Bearer hf_secret"));
    }

    for (value, offline) in [
        ("false", false),
        ("No", false),
        ("YES", true),
        ("true", true),
    ] {
        set("HF_HUB_OFFLINE", value);
        assert_eq!(from_env().offline, offline, "{value}");
    }
    set("HF_HUB_OFFLINE", "1");
    assert_eq!(
        hub::fetch(&imagenet, &mut |_| {}).expect("the cached file"),
        path
    );
    let error = fetch(&from_env(), "timm/vgg19.tv_in1k").expect_err("no cached file");
    assert!(matches!(error, HubError::Offline { .. }), "{error:?}");
    assert_eq!(server.take_requests().len(), 0);
    set("HF_HUB_OFFLINE", "");

    // The saved token is read from HF_HOME even if the cache is in another folder.
    let cache = tempfile::tempdir().expect("a temporary folder");
    fs::write(home.path().join("token"), "hf_saved\n").expect("a file");
    set("HF_TOKEN", "");
    set("HF_HUB_CACHE", &cache.path().to_string_lossy());
    let path = hub::fetch(&address("someone/saved"), &mut |_| {}).expect("a download");
    assert!(path.starts_with(cache.path()), "{}", path.display());
    for request in server.take_requests() {
        assert_eq!(request.authorization.as_deref(), Some("Bearer hf_saved"));
    }
}
