//! A local HTTP server for tests. It sends scripted responses, correct or hostile, and records the
//! requests.
//!
//! A panic in the handler ends the server. The client sees a closed connection, and
//! [`Server::take_requests`] panics.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A received request.
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

/// A response. Unless `stalls` is set, the connection closes after `body`, even if the headers
/// announce more bytes.
#[derive(Clone, Debug)]
pub struct Response {
    /// HTTP status code.
    pub status: u16,
    /// Headers: names in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body, which is not sent to HEAD requests.
    pub body: Vec<u8>,
    /// Whether the connection stays open after the body until the client closes it.
    pub stalls: bool,
}

impl Response {
    /// A response with an empty body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: vec![("content-length", "0".into())],
            body: Vec::new(),
            stalls: false,
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
    let request = read_request(&stream)?;
    let mut log = log.lock().expect("no handler panicked");
    let same_method = log.iter().filter(|other| other.method == request.method);
    let response = handler(&request, same_method.count());
    log.push(request.clone());
    drop(log);
    write!(stream, "HTTP/1.1 {} Status\r\n", response.status)?;
    for (name, value) in &response.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "connection: close\r\n\r\n")?;
    if request.method != "HEAD" {
        stream.write_all(&response.body)?;
    }
    if response.stalls {
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

fn read_request(stream: &TcpStream) -> Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ').map(String::from);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        ..Request::default()
    };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.into()),
            "authorization" => request.authorization = Some(value.into()),
            _ => {}
        }
    }
    Ok(request)
}
