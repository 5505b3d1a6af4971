//! The hub, played by a server on this machine: download, cache, offline, refusals.
//!
//! One test, because the hub's conventions are environment variables, which belong to the whole process.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use vgg::{Error, hub};

const BODY: &[u8] = b"not really weights, but these bytes must arrive";

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

fn answer(mut stream: TcpStream, log: &Log) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let (mut range, mut seen) = (None, request.clone());
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (key, value) = line.split_once(": ").unwrap_or((&line, ""));
        match key.to_ascii_lowercase().as_str() {
            "range" => range = value.strip_prefix("bytes=").map(str::to_string),
            "authorization" => seen += &format!(" {value}"),
            _ => {}
        }
    }
    log.lock().expect("the log").push(seen);
    let status = if request.contains("gated") {
        "401 Unauthorized"
    } else if !request.contains("timm/vgg16.tv_in1k") {
        "404 Not Found"
    } else {
        "206 Partial Content"
    };
    if !status.starts_with("206") {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return stream.write_all(head.as_bytes());
    }
    let range = range.unwrap_or_default();
    let (from, to) = range.split_once('-').unwrap_or(("0", ""));
    let from: usize = from.parse().unwrap_or(0);
    let to = to.parse().unwrap_or(BODY.len() - 1).min(BODY.len() - 1);
    let part = &BODY[from..=to];
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{to}/{}\r\n\
         etag: \"0123abcd\"\r\nx-repo-commit: 89abcdef\r\nconnection: close\r\n\r\n",
        part.len(),
        BODY.len(),
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(part)
}

fn reason(repository: &str) -> String {
    match hub::fetch(repository, &mut |_, _| {}) {
        Err(Error::Hub { reason, .. }) => reason,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn weights_come_from_the_hub_once_and_from_the_cache_after() {
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

    // First time: downloaded, with progress and the token.
    let repository = hub::repository("vgg16").expect("a network of the table");
    assert_eq!(repository, "timm/vgg16.tv_in1k");
    let mut steps = Vec::new();
    let path = hub::fetch(&repository, &mut |done, total| steps.push((done, total)));
    let path = path.expect("the file");
    assert_eq!(std::fs::read(&path).expect("a file"), BODY);
    assert_eq!(steps.last(), Some(&(BODY.len(), BODY.len())), "{steps:?}");
    let seen = log.lock().expect("the log").clone();
    let expected = "/timm/vgg16.tv_in1k/resolve/main/model.safetensors";
    assert!(
        seen.iter().all(|request| request.contains(expected)),
        "{seen:?}"
    );
    assert!(
        seen.iter()
            .any(|request| request.contains("Bearer hf_secret")),
        "{seen:?}"
    );

    // Second time: no request at all, also offline and with the server gone.
    set("HF_HUB_OFFLINE", "1");
    assert_eq!(
        hub::fetch(&repository, &mut |_, _| {}).expect("the cache"),
        path
    );
    assert_eq!(log.lock().expect("the log").len(), seen.len());

    // Offline and not cached.
    let why = reason("timm/vgg19.tv_in1k");
    assert!(
        why.contains("HF_HUB_OFFLINE") && why.contains("--weights FILE"),
        "{why}"
    );
    set("HF_HUB_OFFLINE", "0");

    // Refused, unknown, unreachable.
    let why = reason("someone/gated");
    assert!(why.contains("401") && why.contains("HF_TOKEN"), "{why}");
    let why = reason("timm/misspelt");
    assert!(
        why.contains("404") && why.contains("check the name"),
        "{why}"
    );
    let closed = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address");
    set("HF_ENDPOINT", &format!("http://{closed}"));
    let why = reason("timm/vgg11.tv_in1k");
    assert!(
        why.contains("could not be reached") && why.contains("HF_ENDPOINT"),
        "{why}"
    );
    assert!(why.contains("built-in sample"), "{why}");
}
