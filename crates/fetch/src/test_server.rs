//! A local HTTP server for tests. It sends scripted responses, correct or hostile, and records the
//! requests.
//!
//! A panic in the handler ends the server. The client sees a closed connection, and
//! [`Server::take_requests`] panics.

use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A received request. All fields are empty if the client does not speak HTTP.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET` or `HEAD`, or `CONNECT` if the server is used as a proxy.
    pub method: String,
    /// Path and query; `HOST:PORT` for `CONNECT`.
    pub path: String,
    /// Value of the `Range` header, if present.
    pub range: Option<String>,
    /// Value of the `Authorization` header, if present.
    pub authorization: Option<String>,
}

/// A response. `end` follows `body`, even if the headers announce more or fewer bytes.
#[derive(Clone, Debug)]
pub struct Response {
    /// HTTP status code.
    pub status: u16,
    /// Headers: names in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// Bytes sent instead of the status line and the headers.
    pub raw: Option<Vec<u8>>,
    /// The body, which is not sent to HEAD requests.
    pub body: Vec<u8>,
    /// The action after the body.
    pub end: End,
}

/// The end of a response.
#[derive(Clone, Debug)]
pub enum End {
    /// The connection is closed.
    Close,
    /// The connection is reset: nothing is sent, and the request stays unread.
    Reset,
    /// The connection stays open until the client closes it.
    Stall,
    /// The bytes are sent again and again, each time after a pause, until the client closes the
    /// connection.
    Repeat(Vec<u8>, Duration),
}

impl Response {
    /// A response with an empty body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: vec![("content-length", "0".into())],
            raw: None,
            body: Vec::new(),
            end: End::Close,
        }
    }

    /// Arbitrary bytes instead of a status line, headers and a body.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            raw: Some(bytes.into()),
            ..Self::status(200)
        }
    }

    /// A redirect with status 302.
    pub fn redirect(location: impl Into<String>) -> Self {
        Self::status(302).header("location", location)
    }

    /// The whole of `content`, with status 200.
    pub fn whole(content: &[u8]) -> Self {
        Self {
            body: content.to_vec(),
            ..Self::status(200).header("content-length", content.len().to_string())
        }
    }

    /// The bytes of `content` from `start`, with status 206.
    ///
    /// # Panics
    ///
    /// Panics if `content` is empty or `start` is greater than its length.
    pub fn rest(content: &[u8], start: usize) -> Self {
        let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
        Self {
            status: 206,
            ..Self::whole(&content[start..]).header("content-range", range)
        }
    }

    /// The requested range of `content`, or the whole of it if no range is requested.
    ///
    /// # Panics
    ///
    /// Panics if the range is not of the form `bytes=START-`, if START is greater than the length
    /// of `content`, or if `content` is empty and a range is requested.
    pub fn content(request: &Request, content: &[u8]) -> Self {
        match &request.range {
            None => Self::whole(content),
            Some(range) => {
                let start = range.trim_start_matches("bytes=").trim_end_matches('-');
                Self::rest(content, start.parse().expect("a range without an end"))
            }
        }
    }

    /// Adds a header or replaces its value.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self = self.without(name);
        self.headers.push((name, value.into()));
        self
    }

    /// Removes a header.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self
    }

    /// Replaces the end of the response.
    #[must_use]
    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    /// Truncates the body to at most `length` bytes without changing the headers.
    #[must_use]
    pub fn cut(mut self, length: usize) -> Self {
        self.body.truncate(length);
        self
    }
}

/// A local HTTP server, which handles one connection at a time until the process ends.
pub struct Server {
    /// URL without a path: `http://127.0.0.1:PORT`.
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts a server. `handler` receives a request and the number of requests with the same
    /// method since the start or the last call of [`take_requests`](Self::take_requests).
    ///
    /// # Panics
    ///
    /// Panics if the server cannot listen on a local port.
    pub fn start(handler: impl Fn(&Request, usize) -> Response + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Clients may close the connection early.
                let _ = respond(stream, &log, &handler);
            }
        });
        Self { url, requests }
    }

    /// Returns the requests received since the start or the last call.
    ///
    /// # Panics
    ///
    /// Panics if the handler has panicked.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().expect("no handler panicked"))
    }
}

fn respond(
    mut stream: TcpStream,
    log: &Mutex<Vec<Request>>,
    handler: &impl Fn(&Request, usize) -> Response,
) -> Result<()> {
    let text = peek_request(&stream)?;
    let request = parse_request(&text);
    let mut log = log.lock().expect("no handler panicked");
    let same_method = log.iter().filter(|other| other.method == request.method);
    let response = handler(&request, same_method.count());
    log.push(request.clone());
    drop(log);
    if matches!(response.end, End::Reset) {
        // The system resets a connection that is closed with unread data.
        return Ok(());
    }
    stream.read_exact(&mut vec![0; text.len()])?;
    match &response.raw {
        Some(raw) => stream.write_all(raw)?,
        None => {
            write!(stream, "HTTP/1.1 {} Status\r\n", response.status)?;
            for (name, value) in &response.headers {
                write!(stream, "{name}: {value}\r\n")?;
            }
            write!(stream, "connection: close\r\n\r\n")?;
        }
    }
    if request.method != "HEAD" {
        stream.write_all(&response.body)?;
    }
    match response.end {
        End::Close | End::Reset => {}
        End::Stall => {
            stream.read_to_end(&mut Vec::new())?;
        }
        End::Repeat(bytes, pause) => loop {
            stream.write_all(&bytes)?;
            thread::sleep(pause);
        },
    }
    Ok(())
}

/// Waits for the end of the headers of a request, or for anything that is not HTTP. Does not remove
/// the bytes from the stream.
fn peek_request(stream: &TcpStream) -> Result<String> {
    let mut buffer = vec![0; 1 << 14];
    loop {
        let length = stream.peek(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..length]);
        if text.ends_with("\r\n\r\n") || !text.starts_with(|c: char| c.is_ascii_uppercase()) {
            return Ok(text.into_owned());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn parse_request(text: &str) -> Request {
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let mut word = || words.next().unwrap_or_default().to_string();
    let mut request = Request {
        method: word(),
        path: word(),
        ..Request::default()
    };
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.into()),
            "authorization" => request.authorization = Some(value.into()),
            _ => {}
        }
    }
    request
}
