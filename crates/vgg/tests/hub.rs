//! The hub, played by a server on this machine: download, cache, offline, refusals, damage on the way.
//!
//! One test, because the hub's conventions are environment variables, which belong to the whole process.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use vgg::hub::Address;
use vgg::{Error, hub};

const BODY: &[u8] = b"not really weights, but these bytes must arrive";
const COMMIT: &str = "89abcdef";

/// The requests that the server saw: method, path, Range and Authorization headers.
type Log = Arc<Mutex<Vec<String>>>;

fn serve(log: Log) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that hangs up is its own affair.
            let _ = answer(stream, &log);
        }
    });
    format!("http://{address}")
}

fn checksum() -> String {
    let digest = Sha256::digest(BODY);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the repository's name asks for happens to the body; the log tells how often it was asked for before.
fn answer(mut stream: TcpStream, log: &Log) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let (mut range, mut token) = (String::new(), String::new());
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (key, value) = line.split_once(": ").unwrap_or((&line, ""));
        match key.to_ascii_lowercase().as_str() {
            "range" => range = value.trim_start_matches("bytes=").to_string(),
            "authorization" => token = value.to_string(),
            _ => {}
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_string();
    let is_body = |line: &String| line.starts_with(&path) && !line.contains("0-0");
    let asked = log
        .lock()
        .expect("the log")
        .iter()
        .filter(|line| is_body(line))
        .count();
    let seen = format!("{path} {range} {token}");
    log.lock().expect("the log").push(seen);

    let refuse = |stream: &mut TcpStream, status: &str| {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())
    };
    if path.starts_with("/api/models/someone/others") {
        let info = br#"{"sha": "89abcdef", "siblings": [{"rfilename": "README.md"}, {"rfilename": "vgg/16.pth"}]}"#;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            info.len()
        );
        stream.write_all(head.as_bytes())?;
        return stream.write_all(info);
    }
    if path.contains("gated") {
        return refuse(&mut stream, "401 Unauthorized");
    }
    if path.contains("website") {
        return refuse(&mut stream, "200 OK");
    }
    if path.contains("others") || path.contains("misspelt") {
        return refuse(&mut stream, "404 Not Found");
    }
    if path.starts_with("/someone/large") {
        // As the hub does with all that git does not keep: another host has it, and its checksum stands here.
        let port = stream.local_addr()?.port();
        let head = format!(
            "HTTP/1.1 302 Found\r\nlocation: http://localhost:{port}/elsewhere\r\netag: \"0123abcd\"\r\n\
             x-linked-etag: \"{}\"\r\nx-repo-commit: {COMMIT}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            checksum()
        );
        return stream.write_all(head.as_bytes());
    }

    let (from, to) = range.split_once('-').unwrap_or(("0", ""));
    let from: usize = from.parse().unwrap_or(0);
    let to = to.parse().unwrap_or(BODY.len() - 1).min(BODY.len() - 1);
    let mut part = BODY[from..=to].to_vec();
    let etag = if path.contains("small") {
        "0123abcd".into()
    } else {
        checksum()
    };
    let body = range != "0-0";
    let mut length = format!("content-length: {}\r\n", part.len());
    if body && (path.contains("damaged") || path.contains("mended") && asked == 0) {
        part[7] ^= 1;
    }
    if body && path.contains("broken") && asked == 0 {
        // The connection closes in the middle of what was announced.
        part.truncate(20);
    }
    if body && path.contains("short") {
        // Without a length, the end of the connection is the end of the body.
        length.clear();
        part.truncate(20);
    }
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\n{length}content-range: bytes {from}-{to}/{}\r\n\
         etag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\nconnection: close\r\n\r\n",
        BODY.len(),
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&part)
}

fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

fn reason(text: &str) -> String {
    match hub::fetch(&address(text), &mut |_, _| {}) {
        Err(Error::Hub { reason, .. }) => reason,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn fetched(text: &str) -> Vec<u8> {
    let path = hub::fetch(&address(text), &mut |_, _| {}).expect("the file");
    std::fs::read(path).expect("a file")
}

/// Every file below, with links as files.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn weights_come_from_the_hub_once_whole_and_from_the_cache_after() {
    let log = Log::default();
    let server = serve(Arc::clone(&log));
    let home = tempfile::tempdir().expect("a folder");
    let set = |key: &str, value: &str| {
        // SAFETY: this is the only test of its process, and the server's thread reads no variables.
        unsafe { std::env::set_var(key, value) };
    };
    set("HF_HOME", &home.path().to_string_lossy());
    set("HF_ENDPOINT", &server);
    set("HF_TOKEN", "hf_secret");
    let since = |start: usize| log.lock().expect("the log")[start..].to_vec();
    let requests = || log.lock().expect("the log").len();

    // First time: downloaded, with progress and the token.
    let imagenet = hub::imagenet("vgg16").expect("a network of the table");
    assert_eq!(imagenet.to_string(), "timm/vgg16.tv_in1k");
    let mut steps = Vec::new();
    let path = hub::fetch(&imagenet, &mut |done, total| steps.push((done, total)));
    let path = path.expect("the file");
    assert_eq!(std::fs::read(&path).expect("a file"), BODY);
    assert!(
        path.starts_with(home.path().join("hub")),
        "{}",
        path.display()
    );
    assert_eq!(steps.first(), Some(&(0, BODY.len())), "{steps:?}");
    assert_eq!(steps.last(), Some(&(BODY.len(), BODY.len())), "{steps:?}");
    assert!(steps.is_sorted(), "{steps:?}");
    let expected = "/timm/vgg16.tv_in1k/resolve/main/model.safetensors";
    for request in since(0) {
        assert!(request.starts_with(expected), "{request}");
        assert!(request.ends_with("Bearer hf_secret"), "{request}");
    }

    // Second time: no request at all, also offline.
    let before = requests();
    set("HF_HUB_OFFLINE", "1");
    assert_eq!(
        hub::fetch(&imagenet, &mut |_, _| {}).expect("the cache"),
        path
    );
    assert_eq!(requests(), before);

    // Offline and not cached.
    let why = reason("timm/vgg19.tv_in1k");
    assert!(
        why.contains("HF_HUB_OFFLINE") && why.contains("--weights FILE"),
        "{why}"
    );
    assert_eq!(requests(), before);
    set("HF_HUB_OFFLINE", "0");

    // A revision and a file of choice; a commit is found in the cache by its hash.
    let before = requests();
    assert_eq!(fetched("someone/small@v2/vgg/16.pth"), BODY);
    assert!(since(before)[0].starts_with("/someone/small/resolve/v2/vgg/16.pth"));
    let before = requests();
    assert_eq!(fetched(&format!("someone/small@{COMMIT}/vgg/16.pth")), BODY);
    assert_eq!(requests(), before);

    // A large file comes from another host, which is not told the token on the way.
    let before = requests();
    assert_eq!(fetched("someone/large"), BODY);
    let elsewhere = since(before);
    assert!(
        elsewhere.contains(&"/elsewhere 0- ".into()),
        "{elsewhere:?}"
    );
    let blob = home.path().join("hub/models--someone--large/blobs");
    assert!(blob.join(checksum()).exists());

    // A transfer that breaks off goes on where it stopped.
    let before = requests();
    assert_eq!(fetched("someone/broken"), BODY);
    let ranges: Vec<_> = since(before)
        .iter()
        .map(|line| line.split(' ').nth(1).map(str::to_string))
        .collect();
    assert!(ranges.contains(&Some("20-".into())), "{ranges:?}");

    // What was left by a run that was killed before the last step is no reason to fail.
    let stale = home.path().join("hub/models--someone--stale/blobs");
    std::fs::create_dir_all(&stale).expect("a folder");
    std::fs::write(stale.join(format!("{}.part", checksum())), [0; 100]).expect("a file");
    assert_eq!(fetched("someone/stale"), BODY);

    // Damage on the way is noticed; once it is repaired by asking again, twice it is an error that leaves nothing.
    assert_eq!(fetched("someone/mended"), BODY);
    let why = reason("someone/damaged");
    assert!(why.contains("SHA-256") && why.contains("twice"), "{why}");
    let why = reason("someone/short");
    assert!(why.contains("20 bytes arrived instead of 47"), "{why}");
    let left = files(&home.path().join("hub"));
    let of_the_bad = |name: &&String| {
        let bad = name.contains("--damaged") || name.contains("--short");
        bad && !name.ends_with(".lock") && !name.contains("/refs/")
    };
    assert_eq!(left.iter().find(of_the_bad), None);

    // A token that was saved once, and a cache that is elsewhere.
    let cache = tempfile::tempdir().expect("a folder");
    std::fs::write(home.path().join("token"), "hf_saved").expect("a file");
    set("HF_TOKEN", "");
    let before = requests();
    assert_eq!(fetched("someone/saved"), BODY);
    set("HF_HUB_CACHE", &cache.path().to_string_lossy());
    assert_eq!(fetched("someone/saved"), BODY);
    let saved = since(before);
    assert!(
        saved.iter().all(|line| line.ends_with("Bearer hf_saved")),
        "{saved:?}"
    );
    let blob = cache.path().join("models--someone--saved/blobs");
    assert!(blob.join(checksum()).exists());
    set("HF_HUB_CACHE", "");

    // Refused, unknown, no hub, unreachable.
    let why = reason("someone/gated");
    assert!(why.contains("401") && why.contains("HF_TOKEN"), "{why}");
    let why = reason("timm/misspelt");
    assert!(
        why.contains("404") && why.contains("check the name"),
        "{why}"
    );
    let why = reason("someone/others");
    assert!(
        why.contains("It has vgg/16.pth") && why.contains("hf:someone/others/vgg/16.pth"),
        "{why}"
    );
    let why = reason("someone/website");
    assert!(why.contains("not as a hub does"), "{why}");
    let closed = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("an address");
    set("HF_ENDPOINT", &format!("http://{closed}"));
    let why = reason("timm/vgg11.tv_in1k");
    assert!(
        why.contains("could not be reached") && why.contains("HF_ENDPOINT"),
        "{why}"
    );
    assert!(why.contains("built-in sample"), "{why}");
}
