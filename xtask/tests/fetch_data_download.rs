//! `fetch-data` with HTTP servers: correct, failing, and misbehaving ones.

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use support::archive::{assert_complete, corrupt_zip, files, good_zip, names, options};
use support::server::{Reply, Server, ranged};
use tempfile::TempDir;
use xtask::fetch_data::{Error, Event, Options, Outcome, Problem, fetch};

const TAG: &str = "\"v1\"";
const HALF: usize = 14_000;

/// Returns a temporary directory and a destination in it.
fn temporary_target() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("set");
    (folder, target)
}

fn run(options: &Options) -> Result<Outcome, Error> {
    fetch(options, &mut |_| {})
}

/// Expects success without starting over.
fn expect_fetched(options: &Options) {
    expect_fetched_after_restarts(options, 0);
}

/// Expects success after the download starts over `expected` times.
fn expect_fetched_after_restarts(options: &Options, expected: usize) {
    let bytes = files().iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let mut restarts = 0;
    let outcome = fetch(options, &mut |event| {
        restarts += usize::from(matches!(event, Event::Restarting { .. }));
    });
    assert_eq!(outcome.unwrap(), Outcome::Fetched { files: 4, bytes });
    assert_eq!(restarts, expected);
    assert_complete(&options.target);
}

#[test]
fn the_second_run_sends_no_request() {
    let server = Server::start(|request, _| ranged(&good_zip(), TAG, request));
    let (_folder, target) = temporary_target();
    let options = options(&server.url("/set.zip"), &target);
    expect_fetched(&options);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(server.requests()[0].range, None);

    let outcome = run(&options).unwrap();
    assert!(
        matches!(&outcome, Outcome::UpToDate { files: 4, extra, .. } if extra.is_empty()),
        "{outcome:?}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn an_interrupted_download_is_resumed() {
    let server = Server::start(|request, number| {
        let reply = ranged(&good_zip(), TAG, request);
        if number == 0 { reply.cut(HALF) } else { reply }
    });
    let (_folder, target) = temporary_target();
    expect_fetched(&options(&server.url("/set.zip"), &target));

    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].range, Some(format!("bytes={HALF}-")));
    assert_eq!(requests[1].if_range.as_deref(), Some(TAG));
    let sent: usize = requests.iter().map(|request| request.sent).sum();
    assert_eq!(sent, good_zip().len(), "no byte was sent twice");
}

#[test]
fn progress_resets_the_number_of_attempts() {
    // The number of failures exceeds the number of attempts, but each attempt makes progress.
    let server = Server::start(|request, _| ranged(&good_zip(), TAG, request).cut(3_000));
    let (_folder, target) = temporary_target();
    let options = options(&server.url("/set.zip"), &target);
    expect_fetched(&options);
    assert!(server.requests().len() > options.retry.attempts as usize);
}

#[test]
fn the_next_run_resumes_the_download() {
    let (_folder, target) = temporary_target();
    let server = Server::start(|request, number| match number {
        0 => ranged(&good_zip(), TAG, request).cut(HALF),
        1 => Reply::new("503 Service Unavailable"),
        _ => ranged(&good_zip(), TAG, request),
    });
    let mut options = options(&server.url("/set.zip"), &target);
    options.retry.attempts = 2;
    let error = run(&options).unwrap_err();
    assert!(
        matches!(error, Error::Download { received, attempts: 2, .. } if received == HALF as u64),
        "{error}"
    );
    assert!(error.to_string().contains("--from"), "{error}");
    assert!(!target.exists());

    expect_fetched(&options);
    let requests = server.requests();
    assert_eq!(requests[2].range, Some(format!("bytes={HALF}-")));
    assert_eq!(requests[2].sent, good_zip().len() - HALF);
}

#[test]
fn a_download_from_another_url_is_not_resumed() {
    let (_folder, target) = temporary_target();
    let server = Server::start(|request, number| {
        let reply = ranged(&good_zip(), TAG, request);
        if number == 0 { reply.cut(HALF) } else { reply }
    });
    let mut first = options(&server.url("/one.zip"), &target);
    first.retry.attempts = 1;
    run(&first).unwrap_err();
    expect_fetched(&options(&server.url("/two.zip"), &target));
    assert_eq!(server.requests()[1].range, None);
}

#[test]
fn a_server_without_ranges_sends_the_whole_file_again() {
    let server = Server::start(|_, number| {
        let reply = Reply::whole(&good_zip());
        if number == 0 { reply.cut(HALF) } else { reply }
    });
    let (_folder, target) = temporary_target();
    expect_fetched(&options(&server.url("/set.zip"), &target));
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].range, Some(format!("bytes={HALF}-")));
    assert_eq!(requests[1].if_range, None, "the server sent no validator");
}

#[test]
fn a_changed_file_is_downloaded_again() {
    let server = Server::start(|request, number| {
        if number == 0 {
            Reply::whole(&corrupt_zip()).header("ETag", TAG).cut(HALF)
        } else {
            ranged(&good_zip(), "\"v2\"", request)
        }
    });
    let (_folder, target) = temporary_target();
    expect_fetched(&options(&server.url("/set.zip"), &target));
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_range_of_another_version_is_not_appended() {
    // The server ignores If-Range and sends the rest of a file with another length or another tag.
    for (length, tag) in [(40_000, TAG), (good_zip().len(), "\"v2\"")] {
        let server = Server::start(move |request, number| match number {
            0 => ranged(&good_zip(), TAG, request).cut(HALF),
            1 => Reply::rest(&vec![0; length], HALF).header("ETag", tag),
            _ => ranged(&good_zip(), TAG, request),
        });
        let (_folder, target) = temporary_target();
        expect_fetched(&options(&server.url("/set.zip"), &target));
        let requests = server.requests();
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[2].range, None);
    }
}

#[test]
fn an_unexpected_range_is_not_appended() {
    let server = Server::start(|request, number| match number {
        0 => ranged(&good_zip(), TAG, request).cut(HALF),
        1 => Reply::rest(&good_zip(), HALF - 100),
        _ => ranged(&good_zip(), TAG, request),
    });
    let (_folder, target) = temporary_target();
    expect_fetched(&options(&server.url("/set.zip"), &target));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_range_beyond_the_end_restarts_the_download() {
    let server = Server::start(|request, number| match number {
        0 => ranged(&good_zip(), TAG, request).cut(HALF),
        1 => Reply::new("416 Range Not Satisfiable"),
        _ => ranged(&good_zip(), TAG, request),
    });
    let (_folder, target) = temporary_target();
    expect_fetched(&options(&server.url("/set.zip"), &target));
    assert_eq!(server.requests()[2].range, None);
}

#[test]
fn parts_of_different_files_are_downloaded_again() {
    // The second half belongs to another archive of the same length, and there is no validator.
    let server = Server::start(|request, number| match number {
        0 => Reply::whole(&good_zip()).cut(HALF),
        1 => Reply::rest(&corrupt_second_half(), request.start().unwrap()),
        _ => Reply::whole(&good_zip()),
    });
    let (_folder, target) = temporary_target();
    expect_fetched_after_restarts(&options(&server.url("/set.zip"), &target), 1);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[2].range, None);
}

fn corrupt_second_half() -> Vec<u8> {
    let mut zip = good_zip();
    zip[HALF + 1_000] ^= 1;
    zip
}

#[test]
fn a_corrupt_file_is_reported_and_nothing_is_unpacked() {
    let server = Server::start(|request, _| ranged(&corrupt_zip(), TAG, request));
    let (folder, target) = temporary_target();
    let options = options(&server.url("/set.zip"), &target);
    for round in 1..=2 {
        let error = run(&options).unwrap_err();
        assert!(
            error.to_string().contains("corrupt: train/bees/b c.jpg"),
            "{error}"
        );
        let Error::Mismatch { problems, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(
            problems,
            [Problem::Corrupt("train/bees/b c.jpg".to_owned())]
        );
        assert_eq!(names(folder.path()), [""; 0]);
        assert_eq!(
            server.requests().len(),
            round,
            "one complete download for each run"
        );
        assert_eq!(server.requests()[round - 1].range, None);
    }
}

#[test]
fn a_failed_repair_keeps_the_destination() {
    let server = Server::start(|request, _| ranged(&corrupt_zip(), TAG, request));
    let (_folder, target) = temporary_target();
    fs::create_dir_all(target.join("train/ants")).unwrap();
    fs::write(target.join("train/ants/a.jpg"), &files()[0].1).unwrap();
    run(&options(&server.url("/set.zip"), &target)).unwrap_err();
    assert_eq!(
        fs::read(target.join("train/ants/a.jpg")).unwrap(),
        files()[0].1
    );
    assert_eq!(names(&target), ["train"]);
}

#[test]
fn a_404_response_is_not_retried() {
    let server = Server::start(|_, _| Reply::new("404 Not Found"));
    let (folder, target) = temporary_target();
    let error = run(&options(&server.url("/set.zip"), &target)).unwrap_err();
    assert!(
        matches!(&error, Error::Status { status, .. } if status == "404 Not Found"),
        "{error}"
    );
    assert!(error.to_string().contains("--from"), "{error}");
    assert_eq!(server.requests().len(), 1);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn redirects_are_followed_when_resuming() {
    let server = Server::start(|request, number| {
        if request.path == "/old.zip" {
            return Reply::new("302 Found").header("Location", "/new.zip");
        }
        let reply = ranged(&good_zip(), TAG, request);
        if number == 1 { reply.cut(HALF) } else { reply }
    });
    let (_folder, target) = temporary_target();
    expect_fetched(&options(&server.url("/old.zip"), &target));
    let requests = server.requests();
    let paths: Vec<&str> = requests
        .iter()
        .map(|request| request.path.as_str())
        .collect();
    assert_eq!(paths, ["/old.zip", "/new.zip", "/old.zip", "/new.zip"]);
    assert_eq!(requests[3].range, Some(format!("bytes={HALF}-")));
    assert_eq!(requests[3].sent, good_zip().len() - HALF);
}

#[test]
fn a_redirect_loop_is_an_error() {
    let server = Server::start(|_, _| Reply::new("302 Found").header("Location", "/set.zip"));
    let (_folder, target) = temporary_target();
    let error = run(&options(&server.url("/set.zip"), &target)).unwrap_err();
    assert!(matches!(error, Error::Download { .. }), "{error}");
    assert!(error.to_string().contains("redirect"), "{error}");
}

#[test]
fn temporary_server_errors_are_retried() {
    let server = Server::start(|request, number| match number {
        0 => Reply::new("503 Service Unavailable").header("Retry-After", "0"),
        1 => Reply::new("429 Too Many Requests"),
        _ => ranged(&good_zip(), TAG, request),
    });
    let (_folder, target) = temporary_target();
    expect_fetched(&options(&server.url("/set.zip"), &target));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_content_length_that_is_too_large_is_an_error() {
    let announced = (good_zip().len() + 1_000).to_string();
    let server = Server::start(move |request, _| match request.start() {
        None => Reply::whole(&good_zip()).header("Content-Length", &announced),
        Some(_) => Reply::new("500 Internal Server Error"),
    });
    let (_folder, target) = temporary_target();
    let error = run(&options(&server.url("/set.zip"), &target)).unwrap_err();
    assert!(matches!(error, Error::Download { .. }), "{error}");
    assert!(!target.exists());
}

#[test]
fn a_content_length_that_is_too_small_is_an_error() {
    let server = Server::start(|_, _| Reply::whole(&good_zip()).header("Content-Length", "20000"));
    let (folder, target) = temporary_target();
    let error = run(&options(&server.url("/set.zip"), &target)).unwrap_err();
    assert!(matches!(error, Error::NotAnArchive { .. }), "{error}");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn a_body_without_content_length_is_accepted() {
    let server = Server::start(|_, _| {
        let mut reply = Reply::whole(&good_zip());
        reply.headers.clear();
        reply
    });
    let (_folder, target) = temporary_target();
    expect_fetched(&options(&server.url("/set.zip"), &target));
}

#[test]
fn a_web_page_is_not_accepted_as_an_archive() {
    let server = Server::start(|_, _| Reply::whole(b"<html>Please log in</html>"));
    let (_folder, target) = temporary_target();
    let error = run(&options(&server.url("/set.zip"), &target)).unwrap_err();
    assert!(matches!(error, Error::NotAnArchive { .. }), "{error}");
}

#[test]
fn files_over_the_size_limit_are_not_downloaded() {
    for has_length in [true, false] {
        let server = Server::start(move |_, _| {
            let mut reply = Reply::whole(&vec![7; 100_000]);
            if !has_length {
                reply.headers.clear();
            }
            reply
        });
        let (folder, target) = temporary_target();
        let mut options = options(&server.url("/set.zip"), &target);
        options.retry.max_bytes = 50_000;
        let error = run(&options).unwrap_err();
        assert!(
            matches!(error, Error::TooLarge { limit: 50_000, .. }),
            "{error}"
        );
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

#[test]
fn a_refused_connection_is_an_error_with_help() {
    // No process listens on a port that was just closed.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/set.zip", listener.local_addr().unwrap());
    drop(listener);
    let (folder, target) = temporary_target();
    let error = run(&options(&url, &target)).unwrap_err();
    assert!(
        matches!(error, Error::NoNetwork { attempts: 3, .. }),
        "{error}"
    );
    let text = error.to_string();
    for part in ["cannot connect", &url, "--from FILE|URL", "sample"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn an_invalid_url_is_not_retried() {
    let (_folder, target) = temporary_target();
    let error = run(&options("http://", &target)).unwrap_err();
    assert!(matches!(error, Error::Address { .. }), "{error}");
}
