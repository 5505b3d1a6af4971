//! `train` with weights from local servers that imitate the Hugging Face hub: hostile or corrupt
//! responses, interrupted and concurrent downloads, and errors that precede a download.

mod harness;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fetch::test_server::{End, Response, Server};
use harness::{TestDir, send_signal, stdout_and_stderr};

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
    let output = command(dir, endpoint, BASELINE).output().unwrap();
    (output.status.success(), stdout_and_stderr(&output).1)
}

/// Arguments of the shortest run with weights from the hub.
const BASELINE: &str = "train --data data --weights hf:a/b --stage transfer --transfer-epochs 1";

/// `waggle` with `arguments`, separated by spaces, and the hub at `endpoint`.
fn command(dir: &TestDir, endpoint: &str, arguments: &str) -> Command {
    let mut command = dir.command(&arguments.split(' ').collect::<Vec<_>>());
    command
        .env("HF_HOME", dir.path("home/hf"))
        .env("HF_ENDPOINT", endpoint)
        .env("HF_TOKEN", "hf_secret")
        .env("NO_PROXY", "127.0.0.1")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE");
    command
}

/// A hub on which every file has the content `body`.
fn honest(body: &[u8]) -> Server {
    serve_file(
        metadata(&sha256(body), "0123abcd", body.len()),
        body.to_vec(),
    )
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

#[test]
fn errors_that_need_no_weights_precede_the_download() {
    let dir = TestDir::with_stripes();
    dir.stripes("broken", &["horizontal", "vertical"], 3, 2);
    dir.write("broken/train/vertical/00.png", b"not an image");
    dir.stripes("single", &["horizontal"], 3, 2);
    let server = honest(b"");
    for (arguments, expected) in [
        ("--data nowhere", "there is no folder"),
        ("--data single", "found only one class"),
        ("--data broken", "cannot decode 1 of 10 images"),
        (
            "--data broken --weights hf:a/b",
            "cannot decode 1 of 10 images",
        ),
        (
            "--data data --out tiny.safetensors/run",
            "cannot create the run directory",
        ),
        ("--data data --out ..", "cannot create the run directory"),
        (
            "--data data --weights hf:a/b --out tiny.safetensors/a/b",
            "cannot create the run directory",
        ),
        (
            "--data data --finetune-lr head=1e-3",
            "no layer matches `head`",
        ),
        (
            "--data data --arch vgg11 --finetune-lr features.28=1e-3",
            "no layer matches",
        ),
        (
            "--data data --transfer-layers head",
            "no layer matches `head`",
        ),
        (
            "--data data --transfer-layers features.0,features.0.weight",
            "no layer matches",
        ),
        (
            "--data data --finetune-lr classifier=1,classifier.0=1,classifier.3=1,classifier.6=1",
            "no parameters to train under `classifier`",
        ),
        ("--data data --arch vgg17", "vgg17"),
        ("--data data --device cuda:7", "cuda"),
        ("--data data --precision bf16 --device cpu", "bf16"),
    ] {
        let output = command(&dir, &server.url, &format!("train {arguments}"));
        let (_, err) = stdout_and_stderr(&{ output }.output().unwrap());
        assert!(
            err.contains("error: ") && err.contains(expected),
            "{arguments}: {err}"
        );
        let requests = server.take_requests();
        assert!(requests.is_empty(), "{arguments}: {requests:?}");
        assert!(!dir.path("runs").exists() && !dir.path("home").exists());
    }
}

#[test]
#[cfg(unix)]
fn a_resumed_run_notices_changed_images_before_it_downloads_weights_again() {
    const IMAGE: &str = "data/train/vertical/03.png";
    let dir = TestDir::with_stripes();
    let weights = dir.read("tiny.safetensors");
    let server = honest(&weights);
    let arguments = "train --data data --weights hf:a/b --stage transfer --transfer-epochs 30 \
                     --batch-size 4 --json";
    let mut child = command(&dir, &server.url, arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    assert!(lines.any(|line| line.contains(r#""epoch":2"#)));
    send_signal(&child, "INT");
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(server.take_requests().len(), 2);

    fs::remove_dir_all(dir.path("home/hf")).unwrap();
    let image = dir.read(IMAGE);
    dir.image(IMAGE, 0, 9);
    let resume = |more: &str| {
        let arguments = format!("train --resume runs/train{more}");
        let output = command(&dir, &server.url, &arguments).output().unwrap();
        (output.status.success(), stdout_and_stderr(&output).1)
    };
    let (succeeded, err) = resume("");
    assert!(!succeeded, "{err}");
    assert_eq!(
        err,
        "error: the images have changed since the run started\n  \
           1 modified: train/vertical/03.png\n\
         help: restore the images, or pass `--allow-changed-data` to accept the changes\n"
    );
    assert!(server.take_requests().is_empty());
    // Frozen layers are not in the checkpoint, so the run needs the weights again. A hub without
    // checksums sends others, which stay in the cache until the user removes them.
    dir.tiny_weights("other.safetensors", 11);
    let other = dir.read("other.safetensors");
    let wrong = serve_file(metadata("version-1", "0123abcd", other.len()), other);
    let arguments = "train --resume runs/train --allow-changed-data";
    let (_, err) = stdout_and_stderr(&command(&dir, &wrong.url, arguments).output().unwrap());
    assert!(err.contains("are not those of the run"), "{err}");
    assert_eq!(wrong.take_requests().len(), 2);
    let (_, blob) = err
        .trim_end()
        .split_once("; to download the file again, remove ")
        .unwrap();
    fs::remove_file(blob).unwrap();
    dir.copy_folder("runs/train", "runs/copy");
    dir.write(IMAGE, &image);
    let (succeeded, err) = resume("");
    assert!(succeeded, "{err}");
    assert_eq!(server.take_requests().len(), 2);

    fs::remove_dir_all(dir.path("home/hf")).unwrap();
    fs::remove_dir_all(dir.path("runs/train")).unwrap();
    fs::rename(dir.path("runs/copy"), dir.path("runs/train")).unwrap();
    dir.image(IMAGE, 0, 9);
    let (succeeded, err) = resume(" --allow-changed-data");
    assert!(succeeded, "{err}");
    assert!(err.contains("warning: the images have changed"), "{err}");
    assert_eq!(server.take_requests().len(), 2);
}

#[test]
fn a_damaged_file_of_a_hub_without_checksums_is_named_and_downloaded_again_once_removed() {
    let dir = TestDir::with_stripes();
    let weights = dir.read("tiny.safetensors");
    let garbled: Vec<u8> = weights.iter().map(|byte| !byte).collect();
    for damaged in [vec![0; weights.len()], garbled] {
        let head = metadata("version-1", "0123abcd", weights.len());
        let server = serve_file(head.clone(), damaged);
        let blob = dir.path("home/hf/hub/models--a--b/blobs/version-1");
        for requests in [2, 0] {
            let (succeeded, err) = train(&dir, &server.url);
            assert!(!succeeded, "{err}");
            assert!(err.starts_with("error: cannot load the weights"), "{err}");
            let blob = blob.canonicalize().unwrap();
            let help = format!("to download the file again, remove {}\n", blob.display());
            assert!(err.ends_with(&help), "{err}");
            assert_eq!(server.take_requests().len(), requests);
        }
        fs::remove_file(&blob).unwrap();
        let server = serve_file(head, weights.clone());
        let (succeeded, err) = train(&dir, &server.url);
        assert!(succeeded, "{err}");
        fs::remove_dir_all(dir.path("home/hf")).unwrap();
    }
}

#[test]
#[cfg(unix)]
fn an_interrupt_ends_a_download_at_once_and_the_next_run_resumes_it() {
    let dir = TestDir::with_stripes();
    let weights = dir.read("tiny.safetensors");
    let hash = sha256(&weights);
    let half = weights.len() / 2;
    let locks = dir.path("home/hf/hub/.locks/models--a--b");
    fs::create_dir_all(&locks).unwrap();
    // Silence before the headers of the metadata, then while waiting for a lock, then within the
    // content.
    for phase in ["metadata", "lock", "content"] {
        let head = metadata(&hash, "0123abcd", weights.len());
        let body = weights.clone();
        let server = Server::start(move |request, _| match request.method.as_str() {
            "HEAD" if phase == "metadata" => Response::raw("").end(End::Stall),
            "HEAD" => head.clone(),
            _ => Response::content(request, &body).cut(half).end(End::Stall),
        });
        let path = locks.join(format!("{hash}.lock"));
        let _lock = (phase == "lock").then(|| fetch::lock(&path, || {}).unwrap());
        let mut child = command(&dir, &server.url, BASELINE)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let requests = if phase == "content" { 2 } else { 1 };
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut received = 0;
        while received < requests {
            received += server.take_requests().len();
            thread::sleep(Duration::from_millis(20));
            assert!(Instant::now() < deadline, "{phase}");
        }
        thread::sleep(Duration::from_millis(300));
        send_signal(&child, "INT");
        let sent = Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{phase}");
        assert!(sent.elapsed() < Duration::from_secs(2), "{phase}");
    }
    let incomplete = format!("home/hf/hub/models--a--b/blobs/{hash}.incomplete");
    assert_eq!(dir.read(&incomplete), weights[..half]);
    let server = honest(&weights);
    let (succeeded, err) = train(&dir, &server.url);
    assert!(succeeded, "{err}");
    let range = server.take_requests().pop().unwrap().range;
    assert_eq!(range, Some(format!("bytes={half}-")));
}

#[test]
fn a_download_of_another_process_is_waited_for_with_a_line() {
    let dir = TestDir::with_stripes();
    let weights = dir.read("tiny.safetensors");
    let server = honest(&weights);
    let locks = dir.path("home/hf/hub/.locks/models--a--b");
    fs::create_dir_all(&locks).unwrap();
    let path = locks.join(format!("{}.lock", sha256(&weights)));
    let lock = fetch::lock(&path, || panic!("no other process")).unwrap();
    let mut child = command(&dir, &server.url, BASELINE)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    let line = lines.find(|line| line.contains("waiting for")).unwrap();
    assert!(line.contains("downloads a/b"), "{line}");
    assert!(line.contains(path.to_str().unwrap()), "{line}");
    drop(lock);
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
}

#[test]
#[cfg(unix)]
fn a_full_disk_is_an_error_and_the_next_run_resumes() {
    let dir = TestDir::with_stripes();
    let weights = dir.read("tiny.safetensors");
    let server = honest(&weights);
    // The shell limits the size of files to 8 blocks, so that writing fails as on a full disk.
    let waggle = command(&dir, &server.url, BASELINE);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(waggle.get_program())
        .args(waggle.get_args())
        .envs(
            waggle
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(dir.path("."));
    let output = shell.output().unwrap();
    let (_, err) = stdout_and_stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("error: cannot download a/b: cannot write"),
        "{err}"
    );
    assert!(err.contains("HF_HUB_CACHE"), "{err}");
    let (succeeded, err) = train(&dir, &server.url);
    assert!(succeeded, "{err}");
    assert!(server.take_requests().pop().unwrap().range.is_some());
}
