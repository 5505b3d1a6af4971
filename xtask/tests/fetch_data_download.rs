//! `fetch-data` against a server that behaves, and against many that do not.

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

/// A folder to work in, with the destination inside.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("set");
    (folder, target)
}

fn run(options: &Options) -> Result<Outcome, Error> {
    fetch(options, &mut |_| {})
}

/// Expects success, without having unpacked anything wrong on the way.
fn expect_fetched(options: &Options) {
    expect_fetched_after(options, 0);
}

/// Expects success after so many archives that turned out wrong once they were complete.
fn expect_fetched_after(options: &Options, wrong: usize) {
    let bytes = files().iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let mut fresh_starts = 0;
    let outcome = fetch(options, &mut |event| {
        fresh_starts += usize::from(matches!(event, Event::StartingAfresh { .. }));
    });
    assert_eq!(outcome.unwrap(), Outcome::Fetched { files: 4, bytes });
    assert_eq!(fresh_starts, wrong);
    assert_complete(&options.target);
}

#[test]
fn downloads_once_and_then_asks_nobody() {
    let server = Server::start(|request, _| ranged(&good_zip(), TAG, request));
    let (_folder, target) = place();
    let options = options(&server.url("/set.zip"), &target);
    expect_fetched(&options);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(server.requests()[0].range, None);

    let outcome = run(&options).unwrap();
    assert!(
        matches!(&outcome, Outcome::AlreadyThere { files: 4, extra, .. } if extra.is_empty()),
        "{outcome:?}"
    );
    assert_eq!(server.requests().len(), 1, "the second run needs no server");
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let server = Server::start(|request, number| {
        let reply = ranged(&good_zip(), TAG, request);
        if number == 0 { reply.cut(HALF) } else { reply }
    });
    let (_folder, target) = place();
    expect_fetched(&options(&server.url("/set.zip"), &target));

    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].range, Some(format!("bytes={HALF}-")));
    assert_eq!(requests[1].if_range.as_deref(), Some(TAG));
    let sent: usize = requests.iter().map(|request| request.sent).sum();
    assert_eq!(sent, good_zip().len(), "no byte was sent twice");
}

#[test]
fn progress_renews_the_patience() {
    // Breaks off more often than attempts are allowed in a row, but every one brings something.
    let server = Server::start(|request, _| ranged(&good_zip(), TAG, request).cut(3_000));
    let (_folder, target) = place();
    let options = options(&server.url("/set.zip"), &target);
    expect_fetched(&options);
    assert!(server.requests().len() > options.patience.attempts as usize);
}

#[test]
fn the_next_run_goes_on_where_the_last_one_gave_up() {
    let (_folder, target) = place();
    let server = Server::start(|request, number| match number {
        0 => ranged(&good_zip(), TAG, request).cut(HALF),
        1 => Reply::new("503 Service Unavailable"),
        _ => ranged(&good_zip(), TAG, request),
    });
    let mut options = options(&server.url("/set.zip"), &target);
    options.patience.attempts = 2;
    let error = run(&options).unwrap_err();
    assert!(
        matches!(error, Error::Download { have, attempts: 2, .. } if have == HALF as u64),
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
fn a_download_of_another_address_is_not_continued() {
    let (_folder, target) = place();
    let server = Server::start(|request, number| {
        let reply = ranged(&good_zip(), TAG, request);
        if number == 0 { reply.cut(HALF) } else { reply }
    });
    let mut first = options(&server.url("/one.zip"), &target);
    first.patience.attempts = 1;
    run(&first).unwrap_err();
    expect_fetched(&options(&server.url("/two.zip"), &target));
    assert_eq!(server.requests()[1].range, None);
}

#[test]
fn a_server_without_ranges_is_asked_for_all_of_it() {
    let server = Server::start(|_, number| {
        let reply = Reply::whole(&good_zip());
        if number == 0 { reply.cut(HALF) } else { reply }
    });
    let (_folder, target) = place();
    expect_fetched(&options(&server.url("/set.zip"), &target));
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].range, Some(format!("bytes={HALF}-")));
    assert_eq!(
        requests[1].if_range, None,
        "it gave nothing to recognise the file by"
    );
}

#[test]
fn a_file_that_changed_meanwhile_is_fetched_whole() {
    let server = Server::start(|request, number| {
        if number == 0 {
            Reply::whole(&corrupt_zip()).header("ETag", TAG).cut(HALF)
        } else {
            ranged(&good_zip(), "\"v2\"", request)
        }
    });
    let (_folder, target) = place();
    expect_fetched(&options(&server.url("/set.zip"), &target));
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_range_of_another_version_is_not_appended() {
    // Sends the rest whatever If-Range says, of a file with another length or another tag.
    for (length, tag) in [(40_000, TAG), (good_zip().len(), "\"v2\"")] {
        let server = Server::start(move |request, number| match number {
            0 => ranged(&good_zip(), TAG, request).cut(HALF),
            1 => Reply::rest(&vec![0; length], HALF).header("ETag", tag),
            _ => ranged(&good_zip(), TAG, request),
        });
        let (_folder, target) = place();
        expect_fetched(&options(&server.url("/set.zip"), &target));
        let requests = server.requests();
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[2].range, None);
    }
}

#[test]
fn a_range_that_was_not_asked_for_is_not_appended() {
    let server = Server::start(|request, number| match number {
        0 => ranged(&good_zip(), TAG, request).cut(HALF),
        1 => Reply::rest(&good_zip(), HALF - 100),
        _ => ranged(&good_zip(), TAG, request),
    });
    let (_folder, target) = place();
    expect_fetched(&options(&server.url("/set.zip"), &target));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_range_beyond_the_end_starts_afresh() {
    let server = Server::start(|request, number| match number {
        0 => ranged(&good_zip(), TAG, request).cut(HALF),
        1 => Reply::new("416 Range Not Satisfiable"),
        _ => ranged(&good_zip(), TAG, request),
    });
    let (_folder, target) = place();
    expect_fetched(&options(&server.url("/set.zip"), &target));
    assert_eq!(server.requests()[2].range, None);
}

#[test]
fn pieces_that_do_not_fit_together_are_fetched_again_as_one() {
    // The second half is of another archive of the same length, and nothing shows it.
    let server = Server::start(|request, number| match number {
        0 => Reply::whole(&good_zip()).cut(HALF),
        1 => Reply::rest(&corrupt_second_half(), request.start().unwrap()),
        _ => Reply::whole(&good_zip()),
    });
    let (_folder, target) = place();
    expect_fetched_after(&options(&server.url("/set.zip"), &target), 1);
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
fn a_corrupt_file_is_named_and_nothing_is_put_in_place() {
    let server = Server::start(|request, _| ranged(&corrupt_zip(), TAG, request));
    let (folder, target) = place();
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
        assert_eq!(names(folder.path()), [""; 0], "nothing is left");
        assert_eq!(
            server.requests().len(),
            round,
            "fetched once a run, and anew"
        );
        assert_eq!(server.requests()[round - 1].range, None);
    }
}

#[test]
fn a_failed_repair_leaves_what_was_there() {
    let server = Server::start(|request, _| ranged(&corrupt_zip(), TAG, request));
    let (_folder, target) = place();
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
fn what_is_not_there_is_asked_for_once() {
    let server = Server::start(|_, _| Reply::new("404 Not Found"));
    let (folder, target) = place();
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
fn redirects_are_followed_also_when_resuming() {
    let server = Server::start(|request, number| {
        if request.path == "/old.zip" {
            return Reply::new("302 Found").header("Location", "/new.zip");
        }
        let reply = ranged(&good_zip(), TAG, request);
        if number == 1 { reply.cut(HALF) } else { reply }
    });
    let (_folder, target) = place();
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
fn redirects_in_a_circle_end() {
    let server = Server::start(|_, _| Reply::new("302 Found").header("Location", "/set.zip"));
    let (_folder, target) = place();
    let error = run(&options(&server.url("/set.zip"), &target)).unwrap_err();
    assert!(matches!(error, Error::Download { .. }), "{error}");
    assert!(error.to_string().contains("redirect"), "{error}");
}

#[test]
fn a_server_in_trouble_is_asked_again() {
    let server = Server::start(|request, number| match number {
        0 => Reply::new("503 Service Unavailable").header("Retry-After", "0"),
        1 => Reply::new("429 Too Many Requests"),
        _ => ranged(&good_zip(), TAG, request),
    });
    let (_folder, target) = place();
    expect_fetched(&options(&server.url("/set.zip"), &target));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_length_announced_too_long_is_noticed() {
    let announced = (good_zip().len() + 1_000).to_string();
    let server = Server::start(move |request, _| match request.start() {
        None => Reply::whole(&good_zip()).header("Content-Length", &announced),
        // There is nothing more to send.
        Some(_) => Reply::new("500 Internal Server Error"),
    });
    let (_folder, target) = place();
    let error = run(&options(&server.url("/set.zip"), &target)).unwrap_err();
    assert!(matches!(error, Error::Download { .. }), "{error}");
    assert!(!target.exists());
}

#[test]
fn a_length_announced_too_short_gives_a_broken_archive() {
    let server = Server::start(|_, _| Reply::whole(&good_zip()).header("Content-Length", "20000"));
    let (folder, target) = place();
    let error = run(&options(&server.url("/set.zip"), &target)).unwrap_err();
    assert!(matches!(error, Error::NotAnArchive { .. }), "{error}");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn a_body_without_length_ends_with_the_connection() {
    let server = Server::start(|_, _| {
        let mut reply = Reply::whole(&good_zip());
        reply.headers.clear();
        reply
    });
    let (_folder, target) = place();
    expect_fetched(&options(&server.url("/set.zip"), &target));
}

#[test]
fn a_page_instead_of_the_archive_is_refused() {
    let server = Server::start(|_, _| Reply::whole(b"<html>Please log in</html>"));
    let (_folder, target) = place();
    let error = run(&options(&server.url("/set.zip"), &target)).unwrap_err();
    assert!(matches!(error, Error::NotAnArchive { .. }), "{error}");
}

#[test]
fn more_than_the_limit_is_not_downloaded() {
    for announced in [true, false] {
        let server = Server::start(move |_, _| {
            let mut reply = Reply::whole(&vec![7; 100_000]);
            if !announced {
                reply.headers.clear();
            }
            reply
        });
        let (folder, target) = place();
        let mut options = options(&server.url("/set.zip"), &target);
        options.patience.max_bytes = 50_000;
        let error = run(&options).unwrap_err();
        assert!(
            matches!(error, Error::TooLong { limit: 50_000, .. }),
            "{error}"
        );
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

#[test]
fn without_a_network_the_error_says_so_and_what_to_do() {
    // A port that was free a moment ago: nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/set.zip", listener.local_addr().unwrap());
    drop(listener);
    let (folder, target) = place();
    let error = run(&options(&url, &target)).unwrap_err();
    assert!(
        matches!(error, Error::NoNetwork { attempts: 3, .. }),
        "{error}"
    );
    let text = error.to_string();
    for part in ["no network", &url, "--from FILE|URL", "sample"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn an_address_that_is_none_fails_at_once() {
    let (_folder, target) = place();
    let error = run(&options("http://", &target)).unwrap_err();
    assert!(matches!(error, Error::Address { .. }), "{error}");
}
