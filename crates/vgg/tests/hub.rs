//! Tests of downloads from local servers that imitate the hub: cache, metadata, redirects, hostile
//! responses and environment variables. The tests of the crate `fetch` cover the transfer itself.

#![cfg(feature = "hub")]

use std::fs;
use std::path::{Path, PathBuf};

use fetch::test_server::{Request, Response, Server};
use vgg::hub;
use vgg::hub::{Address, DownloadError, Hub, HubError};

const BODY: &[u8] = b"not really weights, but these bytes must arrive";
const COMMIT: &str = "89abcdef";

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
    hub.fetch(&address(text), &mut |_, _| {}).map_err(|error| {
        assert_eq!(error.address.to_string(), text);
        error.source
    })
}

/// Downloads from a hostile server and returns the error. Asserts that nothing outside the cache
/// changes, that the cache contains no files except locks, and that the message contains the URL.
fn rejected(server: &Server) -> HubError {
    let cache = Cache::new();
    let before = cache.surroundings();
    let error = fetch(&cache.hub(server), "a/b").expect_err("a hostile response");
    assert_eq!(cache.surroundings(), before, "{error}");
    assert_eq!(cache.files(), [""; 0], "{error}");
    assert!(error.to_string().contains(&server.url), "{error}");
    error
}

#[test]
fn downloads_are_cached_in_the_layout_of_huggingface_hub() {
    let server = Server::start(honest);
    let cache = Cache::new();
    let hub = cache.hub(&server);
    let mut steps = Vec::new();
    let path = hub
        .fetch(&address("a/b@v2/vgg/16.pth"), &mut |done, size| {
            steps.push((done, size));
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
fn only_the_metadata_response_determines_file_names() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "HEAD" => metadata(),
        _ => Response::content(request, BODY)
            .header("etag", "\"../../../../.bashrc\"")
            .header("x-repo-commit", "../../../.."),
    });
    let cache = Cache::new();
    let before = cache.surroundings();
    let path = fetch(&cache.hub(&server), "a/b").expect("a download");
    assert_eq!(fs::read(path).expect("a file"), BODY);
    assert_eq!(cache.surroundings(), before);
    assert_eq!(
        cache.files(),
        [
            &format!("models--a--b/blobs/{}", sha256(BODY)),
            "models--a--b/refs/main",
            "models--a--b/snapshots/89abcdef/model.safetensors",
        ]
    );
}

#[test]
fn etags_and_commits_that_are_not_plain_names_are_rejected() {
    let long = "a".repeat(129);
    for name in [
        "",
        ".",
        "..",
        "../../.bashrc",
        "/etc/x",
        "..\\x",
        "C:x",
        "a b",
        "a\tb",
        "a\u{1b}[2Jb",
        "é",
        &long,
    ] {
        let value = name.to_string();
        for header in ["etag", "x-linked-etag", "x-repo-commit"] {
            let quoted = if header == "x-repo-commit" {
                value.clone()
            } else {
                format!("\"{value}\"")
            };
            let server = Server::start(move |request, _| match request.method.as_str() {
                "HEAD" => metadata().header(header, quoted.clone()),
                _ => Response::content(request, BODY),
            });
            let error = rejected(&server);
            // The HTTP parser already rejects some control characters.
            let is_control = name.contains('\u{1b}');
            let is_expected = matches!(error, HubError::UnsafeName { .. })
                || is_control && matches!(error, HubError::Download(_));
            assert!(is_expected, "{header} {name:?}: {error:?}");
            assert!(!error.to_string().contains(char::is_control), "{error}");
            let gets = server.take_requests();
            assert_eq!(gets.len(), 1, "{gets:?}");
        }
    }
}

#[test]
fn responses_without_metadata_are_errors() {
    for missing in ["etag", "x-repo-commit"] {
        let server = Server::start(move |_, _| metadata().without(missing));
        let error = rejected(&server);
        assert!(
            matches!(error, HubError::UnexpectedResponse { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn wrong_contents_are_rejected() {
    let mut corrupt = BODY.to_vec();
    corrupt[7] ^= 1;
    // The git blob id of `BODY`, from `git hash-object`.
    let git_blob = "cb5b08e503b16f25c9f635f1092ab1cf3a8ff01b".to_string();
    for etag in [sha256(BODY), git_blob] {
        for content in [&corrupt, BODY, &BODY[1..]] {
            let (etag, content) = (etag.clone(), content.to_vec());
            let is_correct = content == BODY;
            let server = Server::start(move |request, _| match request.method.as_str() {
                "HEAD" => metadata().header("etag", format!("W/\"{etag}\"")),
                _ => Response::content(request, &content),
            });
            if is_correct {
                fetch(&Cache::new().hub(&server), "a/b").expect("a download");
                continue;
            }
            let error = rejected(&server);
            let is_expected = matches!(
                error,
                HubError::Download(DownloadError::Size { .. } | DownloadError::Checksum { .. })
            );
            assert!(is_expected, "{error:?}");
        }
    }
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
fn metadata_needs_a_size_or_a_checksum() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "HEAD" => metadata().without("content-length"),
        _ => Response::whole(BODY).without("content-length"),
    });
    fetch(&Cache::new().hub(&server), "a/b").expect("a download");

    let server = Server::start(|_, _| {
        metadata()
            .without("content-length")
            .header("etag", "\"0123abcd\"")
    });
    let error = rejected(&server);
    assert!(
        matches!(error, HubError::UnexpectedResponse { .. }),
        "{error:?}"
    );
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
fn redirects_to_another_origin_without_metadata_are_rejected() {
    let other = Server::start(honest);
    for prefix in ["http:", ""] {
        let location = format!("{prefix}{}/a/b", other.url.trim_start_matches("http:"));
        let server = Server::start(move |_, _| Response::redirect(location.clone()));
        let error = rejected(&server);
        assert!(
            matches!(error, HubError::UnexpectedResponse { .. }),
            "{error:?}"
        );
        assert_eq!(other.take_requests().len(), 0);
    }
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
fn at_most_ten_redirects_are_followed() {
    let server = Server::start(|request, _| Response::redirect(request.path.clone()));
    let error = rejected(&server);
    assert!(
        matches!(
            error,
            HubError::Download(DownloadError::TooManyRedirects { limit: 10, .. })
        ),
        "{error:?}"
    );
    assert_eq!(server.take_requests().len(), 11);
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
        let error = hub.fetch(&address(text), &mut |_, _| {}).expect_err(text);
        let url = format!("{}/{text}/resolve/main/model.safetensors", server.url);
        assert_eq!(
            error.to_string(),
            format!("cannot download {text}: {url} returned status {status}")
        );
        let help = error.help();
        assert!(help.contains(remedy), "{help}");
    }
    let error = hub
        .fetch(&address("someone/others"), &mut |_, _| {})
        .expect_err("no such file");
    assert_eq!(
        error.to_string(),
        "cannot download someone/others: the repository has no file `model.safetensors`"
    );
    assert_eq!(error.help(), "use one of its weights files: vgg/16.pth");

    for endpoint in ["", "huggingface.co", "ftp://huggingface.co", "http://"] {
        let hub = Hub {
            endpoint: endpoint.into(),
            ..hub.clone()
        };
        let error = fetch(&hub, "a/b").expect_err(endpoint);
        assert!(matches!(error, HubError::Endpoint { .. }), "{error:?}");
    }
    assert_eq!(cache.files(), [""; 0]);
}

#[test]
fn concurrent_downloads_share_one_transfer() {
    let server = Server::start(honest);
    let cache = Cache::new();
    let hub = cache.hub(&server);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| fetch(&hub, "a/b").expect("a download"));
        }
    });
    let requests = server.take_requests();
    let gets = requests.iter().filter(|request| request.method == "GET");
    assert_eq!(gets.count(), 1);
    assert_eq!(cache.files().len(), 3);
}

/// The only test that sets environment variables or calls `Hub::from_env`.
#[test]
fn environment_variables_configure_downloads() {
    let server = Server::start(honest);
    let home = tempfile::tempdir().expect("a temporary folder");
    let set = |key: &str, value: &str| {
        // SAFETY: the other tests and the servers neither read nor write these variables, and std's
        // functions for the environment exclude each other.
        unsafe { std::env::set_var(key, value) };
    };
    set("HF_HUB_CACHE", "");
    set("HF_HOME", "");
    let default = Hub::from_env().cache;
    assert!(
        default.is_absolute() && default.ends_with(".cache/huggingface/hub"),
        "{}",
        default.display()
    );
    set("HF_HOME", &home.path().to_string_lossy());
    set("HF_ENDPOINT", &format!("{}/", server.url));
    set("HF_TOKEN", "hf_secret");
    set("HF_HUB_OFFLINE", "0");
    let imagenet = hub::imagenet("vgg16");
    assert_eq!(imagenet.to_string(), "timm/vgg16.tv_in1k");
    let path = hub::fetch(&imagenet, &mut |_, _| {}).expect("a download");
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

    set("HF_HUB_OFFLINE", "1");
    assert_eq!(
        hub::fetch(&imagenet, &mut |_, _| {}).expect("the cached file"),
        path
    );
    let error = fetch(&Hub::from_env(), "timm/vgg19.tv_in1k").expect_err("no cached file");
    assert!(matches!(error, HubError::Offline { .. }), "{error:?}");
    assert_eq!(server.take_requests().len(), 0);
    set("HF_HUB_OFFLINE", "");

    // The saved token is read from HF_HOME even if the cache is in another folder.
    let cache = tempfile::tempdir().expect("a temporary folder");
    fs::write(home.path().join("token"), "hf_saved\n").expect("a file");
    set("HF_TOKEN", "");
    set("HF_HUB_CACHE", &cache.path().to_string_lossy());
    let path = hub::fetch(&address("someone/saved"), &mut |_, _| {}).expect("a download");
    assert!(path.starts_with(cache.path()), "{}", path.display());
    for request in server.take_requests() {
        assert_eq!(request.authorization.as_deref(), Some("Bearer hf_saved"));
    }
}
