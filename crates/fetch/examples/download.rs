//! Downloads a file from a server in the same process and verifies the checksum of the file.
//!
//! ```text
//! cargo run -p fetch --example download
//! ```

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use fetch::{Checksum, Client, Config, Download};

fn main() -> Result<(), Box<dyn Error>> {
    let content = "weights";
    let server = TcpListener::bind("127.0.0.1:0")?;
    let url = fetch::parse_url(&format!("http://{}/weights", server.local_addr()?))?;
    let serve = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut connection, _) = server.accept()?;
        // An empty line ends the request.
        for line in BufReader::new(&connection).lines() {
            if line?.is_empty() {
                break;
            }
        }
        let length = content.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close");
        write!(connection, "{head}\r\n\r\n{content}")
    });

    let path = std::env::temp_dir().join(format!("download-{}", std::process::id()));
    let download = Download {
        url: &url,
        path: &path,
        size: None,
        max_size: 1 << 20,
        checksum: Some(Checksum::Sha256(fetch::sha256(&mut content.as_bytes())?)),
    };
    Client::new(&Config::default()).download(&download, &mut |event| println!("{event:?}"))?;
    serve.join().expect("the server does not panic")?;
    assert_eq!(std::fs::read_to_string(&path)?, content);
    Ok(std::fs::remove_file(&path)?)
}
