//! `train` with weights from local servers that imitate a hub and send hostile responses.

mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use harness::{TestDir, stdout_and_stderr};
use sha2::{Digest, Sha256};

/// The lines of a request: the request line, then the headers.
type Request = Vec<String>;

/// Starts a server that answers each request with `handler(METHOD)`. Returns the server's URL and a
/// log of the requests.
fn serve(handler: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (String, Arc<Mutex<Vec<Request>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let request = read_request(&stream);
            let method = request[0].split(' ').next().unwrap().to_string();
            log.lock().unwrap().push(request);
            // The program may close the connection early.
            let _ = (&stream).write_all(&handler(&method));
        }
    });
    (url, requests)
}

fn read_request(stream: &TcpStream) -> Request {
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.take_while(|line| !line.is_empty()).collect()
}

fn response(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nconnection: close\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend(format!("{name}: {value}\r\n").bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A successful response to a metadata request.
fn metadata(etag: &str, commit: &str, size: usize) -> Vec<u8> {
    let headers = [
        ("etag", format!("\"{etag}\"")),
        ("x-repo-commit", commit.to_string()),
        ("content-length", size.to_string()),
    ];
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    response("200 OK", &headers, b"")
}

/// Starts a server that answers metadata requests with `head`, and all others with the file `body`.
fn serve_file(head: Vec<u8>, body: Vec<u8>) -> (String, Arc<Mutex<Vec<Request>>>) {
    let length = body.len().to_string();
    let content = response("200 OK", &[("content-length", length.as_str())], &body);
    serve(move |method| match method {
        "HEAD" => head.clone(),
        _ => content.clone(),
    })
}

/// Runs one epoch of `train` on weights from the hub at `endpoint`, with the cache in `home/hf`.
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

/// The paths of all files and links below a folder, relative to it.
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
fn path_like_etags_and_commits_write_nothing() {
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
            let (url, requests) = serve_file(head, weights.clone());
            let (succeeded, err) = train(&dir, &url);
            assert!(!succeeded, "{err}");
            let expected = format!("returned the {header} {name:?}, which is not a plain name");
            assert!(
                err.contains(&url) && (err.contains(&expected) || name == long),
                "{err}"
            );
            assert!(err.contains("help: ") && !err.contains("panicked"), "{err}");
            assert_eq!(
                requests.lock().unwrap().len(),
                1,
                "only the metadata request"
            );
            assert_eq!(listing(&dir.path(".")), before);
            assert_eq!(dir.read("home/.bashrc"), b"unchanged");
        }
    }
}

#[test]
fn later_responses_and_redirects_to_another_host_do_not_change_names_or_get_the_token() {
    let dir = TestDir::with_stripes();
    dir.write("home/.bashrc", b"unchanged");
    let before = listing(&dir.path("home"));
    let weights = dir.read("tiny.safetensors");
    let hash = sha256(&weights);

    let (length, body) = (weights.len().to_string(), weights.clone());
    let (storage, storage_requests) = serve(move |_| {
        let headers = [
            ("content-length", length.as_str()),
            ("etag", "\"../../../../../.bashrc\""),
            ("x-repo-commit", "../../../.."),
        ];
        response("200 OK", &headers, &body)
    });
    let head = metadata(&hash, "0123abcd", weights.len());
    let (url, requests) = serve(move |method| match method {
        "HEAD" => head.clone(),
        _ => {
            let headers = [
                ("location", storage.as_str()),
                ("etag", "\"../../../../../.bashrc\""),
                ("x-repo-commit", "../../../.."),
                ("content-length", "0"),
            ];
            response("302 Found", &headers, b"")
        }
    });
    let (succeeded, err) = train(&dir, &url);
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

    let is_token = |line: &String| line.to_ascii_lowercase().starts_with("authorization:");
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.iter().any(is_token)));
    let requests = storage_requests.lock().unwrap();
    assert_eq!(requests.len(), 1);
    assert!(!requests[0].iter().any(is_token), "{requests:?}");
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
        let (url, _) = serve_file(head, body);
        let (succeeded, err) = train(&dir, &url);
        assert!(!succeeded, "{err}");
        assert!(err.contains(&url) && err.contains(&expected), "{err}");
        assert_eq!(listing(&dir.path(".")), before);
    }
}
