//! Tests downloads from local servers: resumption, verification, redirects, proxies, and hostile
//! responses.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fetch::test_server::{End, Request, Response, Server};
use fetch::{ATTEMPTS, Checksum, Client, Config, Download, Error, Event};
use tempfile::TempDir;

const BODY: &[u8] = b"not really weights, but these bytes must arrive";
/// The size of `BODY` in bytes.
const SIZE: u64 = 47;
const MAX_SIZE: u64 = 1000;

fn sha256(mut bytes: &[u8]) -> Option<Checksum> {
    Some(Checksum::Sha256(
        fetch::sha256(&mut bytes).expect("bytes in memory"),
    ))
}

/// A folder for one downloaded file.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("file")
    }

    /// Downloads `/file` without pauses between attempts. `change` may replace the settings of the
    /// download. Returns the result, and the number of received bytes in each progress event.
    fn download(
        &self,
        url: &str,
        change: impl FnOnce(&mut Download<'_>),
    ) -> (Result<(), Error>, Vec<u64>) {
        let client = Client::new(&Config {
            idle_timeout: Duration::from_millis(500),
            first_pause: Duration::ZERO,
            ..Config::default()
        });
        let url = fetch::parse_url(&format!("{url}/file")).expect("a URL");
        let path = self.path();
        let mut download = Download {
            url: &url,
            path: &path,
            size: Some(SIZE),
            max_size: MAX_SIZE,
            checksum: sha256(BODY),
        };
        change(&mut download);
        let mut steps = Vec::new();
        let result = client.download(&download, &mut |event| {
            if let Event::Progress { received, .. } = event {
                steps.push(received);
            }
        });
        (result, steps)
    }

    /// Names and contents of the files in the folder.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(&self.0).expect("a folder");
        let mut files: Vec<_> = entries
            .map(|entry| entry.expect("an entry"))
            .map(|entry| {
                let name = entry.file_name().into_string().expect("a name");
                (name, fs::read(entry.path()).expect("a file"))
            })
            .collect();
        files.sort();
        files
    }
}

/// Asserts that a download succeeds and leaves only the complete file. Returns the requests.
fn expect_file(server: &Server, folder: &Folder) -> Vec<Request> {
    let (result, steps) = folder.download(&server.url, |_| {});
    result.expect("a download");
    assert_eq!(steps.last(), Some(&SIZE), "{steps:?}");
    assert_eq!(folder.files(), [("file".to_string(), BODY.to_vec())]);
    server.take_requests()
}

/// Asserts that a download fails and leaves no file. Returns the error and the number of requests.
fn rejected(server: &Server, change: impl FnOnce(&mut Download<'_>)) -> (Error, usize) {
    let folder = Folder::new();
    let error = folder.download(&server.url, change).0;
    let error = error.expect_err("a hostile response");
    assert_eq!(folder.files(), [], "{error}");
    (error, server.take_requests().len())
}

fn ranges(requests: &[Request]) -> Vec<Option<&str>> {
    let ranges = requests.iter().map(|request| request.range.as_deref());
    ranges.collect()
}

#[test]
fn complete_files_are_not_downloaded_again() {
    let server = Server::start(|request, _| Response::content(request, BODY));
    let folder = Folder::new();
    assert_eq!(expect_file(&server, &folder).len(), 1);
    let (result, _) = folder.download(&server.url, |_| {});
    result.expect("the existing file");
    assert_eq!(server.take_requests().len(), 0);

    for wrong in [&[0; 47], BODY[1..].as_ref()] {
        fs::write(folder.path(), wrong).expect("a file");
        assert_eq!(expect_file(&server, &folder).len(), 1);
    }
}

#[test]
fn interrupted_downloads_are_resumed() {
    let server = Server::start(|request, earlier| {
        let response = Response::content(request, BODY);
        if earlier < 2 * ATTEMPTS as usize {
            response.cut(3)
        } else {
            response
        }
    });
    // There are more interruptions than `ATTEMPTS`, but each attempt makes progress.
    let requests = expect_file(&server, &Folder::new());
    assert_eq!(
        ranges(&requests)[..3],
        [None, Some("bytes=3-"), Some("bytes=6-")]
    );
}

#[test]
fn the_next_call_resumes_the_download() {
    let server = Server::start(|request, earlier| match earlier {
        0 => Response::content(request, BODY).cut(20),
        1..4 => Response::status(503),
        _ => Response::content(request, BODY),
    });
    let folder = Folder::new();
    let (result, _) = folder.download(&server.url, |_| {});
    let error = result.expect_err("an unavailable server");
    assert!(
        matches!(error, Error::Status { status: 503, .. }),
        "{error}"
    );
    assert_eq!(
        folder.files(),
        [("file.incomplete".to_string(), BODY[..20].to_vec())]
    );
    server.take_requests();
    let server = Server::start(|request, _| Response::content(request, BODY));
    assert_eq!(ranges(&expect_file(&server, &folder)), [Some("bytes=20-")]);

    // A file that is complete but unverified, or too long, is downloaded again.
    for present in [BODY, &[0; 100]] {
        let folder = Folder::new();
        fs::write(folder.path().with_extension("incomplete"), present).expect("a file");
        assert_eq!(ranges(&expect_file(&server, &folder)), [None]);
    }
}

#[test]
fn a_download_without_progress_fails() {
    let server = Server::start(|_, _| Response::whole(BODY).cut(5));
    let folder = Folder::new();
    let (result, _) = folder.download(&server.url, |_| {});
    let error = result.expect_err("interruptions");
    assert!(
        matches!(
            error,
            Error::Interrupted {
                received: 5,
                size: Some(SIZE),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(server.take_requests().len(), ATTEMPTS as usize);
    assert_eq!(folder.files().len(), 1);
}

#[test]
fn a_stalled_transfer_is_interrupted() {
    let server = Server::start(|request, earlier| {
        let response = Response::content(request, BODY);
        match earlier {
            0 => response.cut(10).end(End::Stall),
            _ => response,
        }
    });
    let requests = expect_file(&server, &Folder::new());
    assert_eq!(ranges(&requests), [None, Some("bytes=10-")]);
}

#[test]
fn a_server_that_stalls_twice_without_a_new_byte_is_given_up() {
    for received in [0, 10] {
        let server = Server::start(move |request, earlier| {
            let sent = if earlier == 0 { received } else { 0 };
            Response::content(request, BODY).cut(sent).end(End::Stall)
        });
        let folder = Folder::new();
        let started = Instant::now();
        let error = folder.download(&server.url, |_| {}).0;
        let error = error.expect_err("a stall");
        assert!(matches!(error, Error::Interrupted { .. }), "{error}");
        // The stall after new bytes does not count.
        let attempts = if received == 0 { 2 } else { 3 };
        assert_eq!(server.take_requests().len(), attempts);
        assert!(started.elapsed() < Duration::from_millis(500 * attempts as u64 + 450));
    }
    // Silence before the headers.
    let server = Server::start(|_, _| Response::raw("").end(End::Stall));
    let error = Folder::new().download(&server.url, |_| {}).0;
    assert!(matches!(error, Err(Error::Unreachable { .. })), "{error:?}");
    assert_eq!(server.take_requests().len(), 2);
}

#[test]
fn a_trickle_does_not_keep_a_download_alive() {
    // One byte before each timeout, forever, from a server that supports ranges.
    let server = Server::start(|request, _| {
        let trickle = End::Repeat(b"x".to_vec(), Duration::from_millis(100));
        let mut content = vec![0; 1000];
        content[0] = b'x';
        Response::content(request, &content).cut(1).end(trickle)
    });
    let folder = Folder::new();
    let started = Instant::now();
    let (result, _) = folder.download(&server.url, |download| download.size = Some(1000));
    let error = result.expect_err("a trickle");
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(server.take_requests().len(), ATTEMPTS as usize);

    // One byte in each response, and a pause of 200 ms after it.
    let server = Server::start(|request, _| Response::content(request, &[0; 1000]).cut(1));
    let client = Client::new(&Config {
        idle_timeout: Duration::from_millis(500),
        first_pause: Duration::from_millis(200),
        ..Config::default()
    });
    let url = fetch::parse_url(&server.url).expect("a URL");
    let download = Download {
        url: &url,
        path: &folder.0.path().join("other"),
        size: Some(1000),
        max_size: MAX_SIZE,
        checksum: None,
    };
    let error = client
        .download(&download, &mut |_| {})
        .expect_err("slow progress");
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    assert!(server.take_requests().len() < 20);
}

#[test]
fn a_download_larger_than_the_disk_fails_before_its_first_byte() {
    let server = Server::start(|_, _| {
        Response::whole(BODY).header("content-length", "10000000000000000000")
    });
    let folder = Folder::new();
    let (result, steps) = folder.download(&server.url, |download| {
        download.size = None;
        download.max_size = u64::MAX;
    });
    let error = result.expect_err("10 EB");
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    assert_eq!((steps.len(), server.take_requests().len()), (0, 1));
}

#[test]
#[cfg(unix)]
fn links_and_pipes_in_place_of_the_incomplete_file_are_replaced() {
    let server = Server::start(|request, _| Response::content(request, BODY));
    let other = tempfile::NamedTempFile::new().expect("a file");
    fs::write(other.path(), "unchanged").expect("a file");
    let folder = Folder::new();
    let incomplete = folder.path().with_extension("incomplete");
    std::os::unix::fs::symlink(other.path(), &incomplete).expect("a link");
    assert_eq!(ranges(&expect_file(&server, &folder)), [None]);
    assert_eq!(fs::read(other.path()).expect("a file"), b"unchanged");

    let folder = Folder::new();
    for path in [folder.path(), folder.path().with_extension("incomplete")] {
        let status = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(status.expect("mkfifo").success());
    }
    expect_file(&server, &folder);
}

#[test]
fn a_download_without_a_checksum_starts_over_if_the_file_has_changed() {
    let server = Server::start(|request, earlier| match earlier {
        0 => Response::whole(&[b'-'; BODY.len()])
            .header("etag", "\"1\"")
            .cut(20),
        _ => Response::content(request, BODY).header("etag", "\"2\""),
    });
    let folder = Folder::new();
    let (result, _) = folder.download(&server.url, |download| download.checksum = None);
    result.expect("a download");
    assert_eq!(folder.files(), [("file".to_string(), BODY.to_vec())]);
    let requests = server.take_requests();
    assert_eq!(ranges(&requests), [None, Some("bytes=20-"), None]);
}

#[test]
fn servers_without_ranges_send_the_whole_file_again() {
    let server = Server::start(|_, earlier| match earlier {
        0 => Response::whole(BODY).cut(20),
        _ => Response::whole(BODY),
    });
    let requests = expect_file(&server, &Folder::new());
    assert_eq!(ranges(&requests), [None, Some("bytes=20-")]);
}

#[test]
fn unexpected_ranges_restart_the_download() {
    let wrong_start = |_: &Request| Response::rest(BODY, 19);
    let no_range = |_: &Request| Response::rest(BODY, 20).without("content-range");
    let past_the_end =
        |_: &Request| Response::rest(BODY, 20).header("content-range", "bytes 20-47/47");
    let backwards =
        |_: &Request| Response::rest(BODY, 20).header("content-range", "bytes 20-10/47");
    let other_length =
        |_: &Request| Response::rest(BODY, 20).header("content-range", "bytes 20-30/47");
    let beyond_the_end = |_: &Request| Response::status(416);
    for wrong in [
        wrong_start,
        no_range,
        past_the_end,
        backwards,
        other_length,
        beyond_the_end,
    ] {
        let server = Server::start(move |request, earlier| match earlier {
            0 => Response::content(request, BODY).cut(20),
            1 => wrong(request),
            _ => Response::content(request, BODY),
        });
        let requests = expect_file(&server, &Folder::new());
        assert_eq!(ranges(&requests), [None, Some("bytes=20-"), None]);
    }

    // The incomplete file is larger than the limit, and the server does not know the size.
    let server =
        Server::start(|_, _| Response::rest(BODY, 20).header("content-range", "bytes 20-46/*"));
    let folder = Folder::new();
    fs::write(folder.path().with_extension("incomplete"), &BODY[..20]).expect("a file");
    let (result, _) = folder.download(&server.url, |download| {
        download.size = None;
        download.max_size = 10;
    });
    let error = result.expect_err("a large file");
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");

    // A download from a server that always sends wrong ranges fails.
    let server = Server::start(|request, _| match request.range {
        None => Response::whole(BODY).cut(20),
        Some(_) => Response::rest(BODY, 1),
    });
    let (result, _) = Folder::new().download(&server.url, |_| {});
    result.expect_err("a hostile server");
    assert_eq!(server.take_requests().len(), ATTEMPTS as usize);
}

#[test]
fn temporary_errors_are_retried_and_others_are_not() {
    let server = Server::start(|request, earlier| match earlier {
        0 => Response::status(503).header("retry-after", "0"),
        1 => Response::status(429),
        2 => Response::status(408),
        _ => Response::content(request, BODY),
    });
    assert_eq!(expect_file(&server, &Folder::new()).len(), 4);

    for status in [401, 404, 410, 300] {
        let server = Server::start(move |_, _| Response::status(status));
        let (error, requests) = rejected(&server, |_| {});
        assert_eq!(
            error.to_string(),
            format!("{}/file returned status {status}", server.url)
        );
        assert_eq!(requests, 1);
    }

    let closed = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("an address");
    let (result, _) = Folder::new().download(&format!("http://{closed}"), |_| {});
    let error = result.expect_err("a closed port");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[test]
fn wrong_sizes_are_rejected_after_a_second_download() {
    for content in [[BODY, b"!"].concat(), BODY[1..].to_vec()] {
        let server = Server::start(move |_, _| Response::whole(&content));
        let (error, requests) = rejected(&server, |_| {});
        assert!(
            matches!(error, Error::Size { expected: SIZE, .. }),
            "{error}"
        );
        assert_eq!(requests, 2);
    }
    // A body without a length continues after the expected size.
    let server = Server::start(|_, _| {
        Response::whole(&[BODY, &[0; 1 << 20]].concat()).without("content-length")
    });
    let (error, requests) = rejected(&server, |_| {});
    assert!(matches!(error, Error::Size { .. }), "{error}");
    assert_eq!(requests, 2);
}

#[test]
fn wrong_checksums_are_rejected_after_a_second_download() {
    let mut corrupt = BODY.to_vec();
    corrupt[7] ^= 1;
    // `git hash-object` of `BODY`.
    let git_blob = Checksum::GitBlob("cb5b08e503b16f25c9f635f1092ab1cf3a8ff01b".into());
    for (checksum, name) in [(sha256(BODY), "SHA-256"), (Some(git_blob), "git blob id")] {
        let content = corrupt.clone();
        let server = Server::start(move |_, _| Response::whole(&content));
        let expected = checksum.clone();
        let (error, requests) = rejected(&server, |download| download.checksum = expected);
        assert!(
            matches!(error, Error::Checksum { algorithm, .. } if algorithm == name),
            "{error}"
        );
        assert_eq!(requests, 2);

        let server = Server::start(|_, _| Response::whole(BODY));
        let (result, _) =
            Folder::new().download(&server.url, |download| download.checksum = checksum);
        result.expect("a download");
    }
}

#[test]
fn a_corrupt_download_is_repeated_once() {
    // The second part belongs to another version of the file.
    let server = Server::start(|request, earlier| match earlier {
        0 => Response::whole(BODY).cut(20),
        1 => Response::rest(&[0; BODY.len()], 20),
        _ => Response::content(request, BODY),
    });
    let requests = expect_file(&server, &Folder::new());
    assert_eq!(ranges(&requests), [None, Some("bytes=20-"), None]);
}

#[test]
fn unknown_sizes_are_accepted_up_to_the_limit() {
    for size in [SIZE, SIZE - 1] {
        for has_length in [true, false] {
            let server = Server::start(move |_, _| {
                let response = Response::whole(BODY);
                if has_length {
                    response
                } else {
                    response.without("content-length")
                }
            });
            let unknown = |download: &mut Download<'_>| {
                download.size = None;
                download.max_size = size;
            };
            if size == SIZE {
                let (result, _) = Folder::new().download(&server.url, unknown);
                result.expect("a download");
            } else {
                let (error, requests) = rejected(&server, unknown);
                assert!(matches!(error, Error::TooLarge { .. }), "{error}");
                assert_eq!(requests, 1);
            }
        }
    }
}

#[test]
fn redirects_are_followed_within_limits() {
    let other = Server::start(|request, _| Response::content(request, BODY));
    let location = format!("{}/storage?signature=x", other.url);
    let server = Server::start(move |request, _| match request.path.as_str() {
        "/file" => Response::redirect("/moved"),
        _ => Response::redirect(location.clone()),
    });
    let client = Client::new(&Config {
        token: Some((server.url.parse().expect("a URL"), "secret".into())),
        ..Config::default()
    });
    let url = fetch::parse_url(&format!("{}/file", server.url)).expect("a URL");
    assert_eq!(client.read(&url, SIZE).expect("the file"), BODY);
    let error = client.read(&url, SIZE - 1).expect_err("a large file");
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert!(!error.to_string().contains("signature"), "{error}");
    // The other server has the same host, but another port.
    let requests = server.take_requests();
    assert_eq!(requests.len(), 4);
    for request in requests {
        assert_eq!(request.authorization.as_deref(), Some("Bearer secret"));
    }
    for request in other.take_requests() {
        assert_eq!(request.path, "/storage?signature=x");
        assert_eq!(request.authorization, None);
    }

    let server = Server::start(|request, _| Response::redirect(request.path.clone()));
    let (error, requests) = rejected(&server, |_| {});
    assert!(
        matches!(error, Error::TooManyRedirects { limit: 10, .. }),
        "{error}"
    );
    assert_eq!(requests, 11);

    for location in ["file:///etc/passwd", "ftp://x/y", "x", ""] {
        let server = Server::start(move |_, _| Response::redirect(location));
        let (error, _) = rejected(&server, |_| {});
        assert!(matches!(error, Error::Redirect { .. }), "{error}");
    }
}

#[test]
fn head_follows_redirects_if_the_caller_agrees() {
    let server = Server::start(|request, _| match request.path.as_str() {
        "/file" => Response::redirect("/moved?signature=x"),
        _ => Response::status(404),
    });
    let client = Client::new(&Config::default());
    let url = fetch::parse_url(&format!("{}/file", server.url)).expect("a URL");
    for (follows, status, path) in [(true, 404, "/moved"), (false, 302, "/file")] {
        let (last, response) = client
            .head::<Error>(
                &url,
                |redirect| {
                    assert!(redirect.is_relative);
                    Ok(follows)
                },
                &mut |_| {},
            )
            .expect("a response");
        assert_eq!(response.status(), status);
        assert_eq!(last, format!("{}{path}", server.url));
    }
    let methods = server.take_requests().into_iter();
    assert!(
        methods
            .map(|request| request.method)
            .all(|method| method == "HEAD")
    );
}

#[test]
fn a_lock_is_waited_for_and_free_when_its_holder_dies() {
    // The child process, which runs only this test, holds the lock until it is killed.
    if let Some(path) = std::env::var_os("FETCH_TEST_LOCK") {
        let _lock = fetch::lock(path.as_ref(), || panic!("the lock is held")).expect("a lock");
        println!("locked");
        std::thread::sleep(Duration::from_secs(600));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("lock");
    fs::write(&path, "content").expect("a file");
    let mut child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "a_lock_is_waited_for_and_free_when_its_holder_dies",
            "--nocapture",
        ])
        .env("FETCH_TEST_LOCK", &path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a child process");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let is_locked = |line: std::io::Result<String>| line.expect("a line").contains("locked");
    assert!(lines.into_iter().any(is_locked));
    let mut is_waiting = false;
    let lock = fetch::lock(&path, || {
        is_waiting = true;
        child.kill().expect("a running child");
    });
    lock.expect("the lock of a dead process");
    assert!(is_waiting);
    child.wait().expect("a killed child");
    assert_eq!(fs::read(&path).expect("a file"), b"content");
}

#[test]
fn the_password_of_a_proxy_is_not_printed() {
    // As above, in a child process.
    let name = "the_password_of_a_proxy_is_not_printed";
    if std::env::var_os("FETCH_TEST_PROXY").is_some() {
        let (result, _) = Folder::new().download("https://nowhere.invalid", |_| {});
        println!(
            "{:?}",
            result.expect_err("a proxy that refuses the connection")
        );
        return;
    }
    let hostile = Server::start(|_, _| {
        Response::raw("HTTP/1.1 407 secret \u{1b}[2J\r\ncontent-length: 0\r\n\r\n")
    });
    let silent = Server::start(|_, _| Response::raw("").end(End::Stall));
    for url in [&hostile.url, &silent.url, "http://127.0.0.1:1"] {
        for scheme in ["http", "socks5", "https"] {
            let proxy = url.replace("http://", &format!("{scheme}://me:hunter2@"));
            let output = std::process::Command::new(std::env::current_exe().expect("this program"))
                .args(["--exact", name, "--nocapture"])
                .env("FETCH_TEST_PROXY", "1")
                .env("ALL_PROXY", proxy)
                .env_remove("NO_PROXY")
                .env_remove("no_proxy")
                .output()
                .expect("a child process");
            let text =
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(
                output.status.success() && text.contains("Unreachable"),
                "{text}"
            );
            assert!(
                !text.contains("hunter2") && !text.contains('\u{1b}'),
                "{text}"
            );
        }
    }
}

#[test]
fn proxies_in_the_environment_are_used() {
    // The proxy is set for a child process that runs only this test: variables of this process
    // would affect the other tests.
    if std::env::var_os("FETCH_TEST_PROXY").is_some() {
        let (result, _) = Folder::new().download("http://nowhere.invalid", |_| {});
        let error = result.expect_err("a proxy that refuses the connection");
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        return;
    }
    let server = Server::start(|_, _| Response::status(403));
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "proxies_in_the_environment_are_used"])
        .env("FETCH_TEST_PROXY", "1")
        .env("ALL_PROXY", &server.url)
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .expect("a child process");
    assert!(output.status.success(), "{output:?}");
    let requests = server.take_requests();
    assert_eq!(requests.len(), ATTEMPTS as usize);
    assert_eq!(requests[0].method, "CONNECT");
    assert_eq!(requests[0].path, "nowhere.invalid:80");
}
