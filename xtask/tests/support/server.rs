//! A local web server with scripted replies that records its requests.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// A request, and the number of body bytes that were sent for it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub path: String,
    pub range: Option<String>,
    pub if_range: Option<String>,
    pub sent: usize,
}

impl Request {
    /// Start of the requested range.
    pub fn start(&self) -> Option<usize> {
        let range = self.range.as_ref()?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// A reply. The connection closes after `send` bytes of the body, even if the headers announce
/// more.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Number of body bytes to send.
    pub send: usize,
}

impl Reply {
    pub fn new(status: &'static str) -> Self {
        Self {
            status,
            headers: vec![("Content-Length", "0".to_owned())],
            body: Vec::new(),
            send: 0,
        }
    }

    /// A reply with the whole `body`.
    pub fn whole(body: &[u8]) -> Self {
        Self {
            status: "200 OK",
            headers: vec![("Content-Length", body.len().to_string())],
            body: body.to_vec(),
            send: body.len(),
        }
    }

    /// A reply with the part of `body` that begins at `start`.
    pub fn rest(body: &[u8], start: usize) -> Self {
        let end = body.len() - 1;
        let range = format!("bytes {start}-{end}/{}", body.len());
        let mut reply = Self::whole(&body[start..]).header("Content-Range", &range);
        reply.status = "206 Partial Content";
        reply
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(existing, _)| *existing != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Makes the server close the connection after `bytes` of the body.
    pub fn cut(mut self, bytes: usize) -> Self {
        self.send = bytes.min(self.body.len());
        self
    }
}

/// The reply of a correct server: the requested range if `If-Range` matches, otherwise the whole
/// body.
pub fn ranged(body: &[u8], etag: &str, request: &Request) -> Reply {
    let is_unchanged = request.if_range.as_ref().is_none_or(|tag| tag == etag);
    match request.start().filter(|_| is_unchanged) {
        Some(start) => Reply::rest(body, start),
        None => Reply::whole(body),
    }
    .header("ETag", etag)
}

/// A local web server that stops when it is dropped.
pub struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server. `reply_to` receives each request and its number, from 0.
    pub fn start(reply_to: impl Fn(&Request, usize) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (thread_log, thread_stop) = (log.clone(), stop.clone());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if thread_stop.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.unwrap();
                let Some(mut request) = read_request(&stream) else {
                    continue;
                };
                let number = thread_log.lock().unwrap().len();
                let reply = reply_to(&request, number);
                request.sent = reply.send;
                // Recorded before the reply is sent, because the test may read the log right after
                // it.
                thread_log.lock().unwrap().push(request);
                // The client may already have closed the connection.
                let _ = send(&mut stream, &reply);
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Self {
            address,
            log,
            stop,
            thread: Some(thread),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(
                result.is_ok() || thread::panicking(),
                "the server's thread panicked"
            );
        }
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut request = Request {
        path: first.split(' ').nth(1)?.to_owned(),
        ..Request::default()
    };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        let value = Some(value.trim().to_owned());
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = value,
            "if-range" => request.if_range = value,
            _ => {}
        }
    }
    Some(request)
}

fn send(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {}\r\nConnection: close\r\n", reply.status)?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "\r\n")?;
    stream.write_all(&reply.body[..reply.send])?;
    stream.flush()
}
