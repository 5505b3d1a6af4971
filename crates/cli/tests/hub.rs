//! `train` with weights from local servers that imitate the Hugging Face hub and send hostile or
//! corrupt responses.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};

use fetch::test_server::{Response, Server};
use harness::{TestDir, stdout_and_stderr};

fn sha256(mut bytes: &[u8]) -> String {
    fetch::sha256(&mut bytes).unwrap()
}

/// A successful response to a metadata request.
fn metadata(etag: &str, commit: &str, size: usize) -> Response {
    Response::status(200)
        .header("content-length", size.to_string())
        .header("etag", format!("\"{etag}\""))
        .header("x-repo-commit", commit)
}

/// Starts a server that answers HEAD requests with `head`, and all others with the file `body`.
fn serve_file(head: Response, body: Vec<u8>) -> Server {
    Server::start(move |request, _| match request.method.as_str() {
        "HEAD" => head.clone(),
        _ => Response::content(request, &body),
    })
}

/// Runs the baseline of `train` with weights from the hub at `endpoint`, with the cache in `home/hf`.
/// Returns whether the run succeeded, and standard error.
fn train(dir: &TestDir, endpoint: &str) -> (bool, String) {
    let arguments = "train --data data --weights hf:a/b --stage transfer --transfer-epochs 1";
    let output = dir
        .command(&arguments.split(' ').collect::<Vec<_>>())
        .env("HF_HOME", dir.path("home/hf"))
        .env("HF_ENDPOINT", endpoint)
        .env("HF_TOKEN", "hf_secret")
        .env("NO_PROXY", "127.0.0.1")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .output()
        .unwrap();
    (output.status.success(), stdout_and_stderr(&output).1)
}

/// The paths of all files and links below a folder, relative to the folder and sorted, except those
/// in folders named `.locks`.
fn listing(folder: &Path) -> Vec<PathBuf> {
    fn visit(folder: &Path, root: &Path, paths: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                visit(&path, root, paths);
            } else {
                paths.push(path.strip_prefix(root).unwrap().to_path_buf());
            }
        }
    }
    let mut paths = Vec::new();
    visit(folder, folder, &mut paths);
    paths.retain(|path| {
        !path
            .components()
            .any(|component| component.as_os_str() == ".locks")
    });
    paths.sort();
    paths
}

#[test]
fn invalid_etags_and_commits_write_nothing() {
    let dir = TestDir::with_stripes();
    dir.write("home/.bashrc", b"unchanged");
    let before = listing(&dir.path("."));
    let weights = dir.read("tiny.safetensors");
    let hash = sha256(&weights);
    let long = "x".repeat(200);
    for name in [
        "../../.bashrc",
        "../../../../.bashrc",
        "/etc/x",
        "..\\x",
        "..",
        "",
        "a b",
        &long,
    ] {
        for (etag, commit, header) in [
            (name, "0123abcd", "ETag"),
            (hash.as_str(), name, "X-Repo-Commit"),
        ] {
            let head = metadata(etag, commit, weights.len());
            let server = serve_file(head, weights.clone());
            let (succeeded, err) = train(&dir, &server.url);
            assert!(!succeeded, "{err}");
            let expected = format!("returned the {header} {name:?}, which is not a plain name");
            assert!(
                err.contains(&server.url) && (err.contains(&expected) || name == long),
                "{err}"
            );
            assert!(err.contains("help: ") && !err.contains("panicked"), "{err}");
            assert_eq!(
                server.take_requests().len(),
                1,
                "expected only a metadata request"
            );
            assert_eq!(listing(&dir.path(".")), before);
            assert_eq!(dir.read("home/.bashrc"), b"unchanged");
        }
    }
}

#[test]
fn a_redirect_to_another_host_changes_no_file_names_and_sends_no_token() {
    let dir = TestDir::with_stripes();
    dir.write("home/.bashrc", b"unchanged");
    let before = listing(&dir.path("home"));
    let weights = dir.read("tiny.safetensors");
    let hash = sha256(&weights);

    let body = weights.clone();
    let storage = Server::start(move |request, _| {
        Response::content(request, &body)
            .header("etag", "\"../../../../../.bashrc\"")
            .header("x-repo-commit", "../../../..")
    });
    let head = metadata(&hash, "0123abcd", weights.len());
    let location = storage.url.clone();
    let server = Server::start(move |request, _| match request.method.as_str() {
        "HEAD" => head.clone(),
        _ => Response::redirect(location.clone())
            .header("etag", "\"../../../../../.bashrc\"")
            .header("x-repo-commit", "../../../.."),
    });
    let (succeeded, err) = train(&dir, &server.url);
    assert!(succeeded, "{err}");
    assert_eq!(dir.read("home/.bashrc"), b"unchanged");
    let mut expected = before;
    expected.extend(
        [
            &format!("hf/hub/models--a--b/blobs/{hash}"),
            "hf/hub/models--a--b/refs/main",
            "hf/hub/models--a--b/snapshots/0123abcd/model.safetensors",
        ]
        .map(PathBuf::from),
    );
    assert_eq!(listing(&dir.path("home")), expected);

    let requests = server.take_requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(request.authorization.as_deref(), Some("Bearer hf_secret"));
    }
    let requests = storage.take_requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].authorization, None);
}

#[test]
fn wrong_sizes_and_wrong_checksums_leave_no_file() {
    let dir = TestDir::with_stripes();
    let weights = dir.read("tiny.safetensors");
    let mut corrupt = weights.clone();
    *corrupt.last_mut().unwrap() ^= 1;
    let short = weights[..100].to_vec();
    let before = listing(&dir.path("."));
    for (body, expected) in [
        (corrupt, format!("instead of {}", sha256(&weights))),
        (
            short,
            format!("sent 100 bytes instead of {}", weights.len()),
        ),
    ] {
        let head = metadata(&sha256(&weights), "0123abcd", weights.len());
        let server = serve_file(head, body);
        let (succeeded, err) = train(&dir, &server.url);
        assert!(!succeeded, "{err}");
        assert!(
            err.contains(&server.url) && err.contains(&expected),
            "{err}"
        );
        assert_eq!(listing(&dir.path(".")), before);
    }
}
