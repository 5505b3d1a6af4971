//! Resumable HTTP downloads with size limits and checksums.
//!
//! [`Client::download`] writes the received bytes to `PATH.incomplete`, syncs the file to disk,
//! checks its size and checksum, and renames it to `PATH`. After an interruption, the next attempt
//! or call sends a range request for the missing bytes.
//!
//! Servers are untrusted: the number of redirects, the size of headers and bodies, the idle time and
//! the free disk space are limits, slow transfers fail, and a token is sent only to the scheme, host
//! and port that it belongs to. Errors contain neither passwords nor queries of URLs.
//!
//! The first valid proxy URL in `ALL_PROXY`, `HTTPS_PROXY` and `HTTP_PROXY` applies to all requests
//! except those to the hosts in `NO_PROXY`. The names may also be in lower case.
//!
//! | task | start here |
//! |---|---|
//! | download a file | [`Client::download`], [`Download`] |
//! | request only headers, or a small body | [`Client::head`], [`Client::read`] |
//! | lock a file against other processes | [`lock()`] |
//! | set the user agent, the token, the timeout and the pause between attempts | [`Config`] |
//! | test a program that downloads | `test_server` (feature `test-server`) |
//!
//! ```no_run
//! use fetch::{Checksum, Client, Config, Download};
//!
//! # fn main() -> Result<(), fetch::Error> {
//! let client = Client::new(&Config::default());
//! let url = fetch::parse_url("https://example.org/weights.safetensors")?;
//! let sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
//! let download = Download {
//!     url: &url,
//!     path: "weights.safetensors".as_ref(),
//!     size: None,
//!     max_size: 1 << 30,
//!     checksum: Some(Checksum::Sha256(sha256.into())),
//! };
//! client.download(&download, &mut |event| println!("{event:?}"))?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod checksum;
mod client;
mod disk;
mod download;
mod error;
mod event;
mod lock;
mod open;
mod speed;
#[cfg(feature = "test-server")]
pub mod test_server;
mod url;

pub use checksum::{Checksum, sha256};
pub use client::{ATTEMPTS, Client, Config, MAX_REDIRECTS, Redirect};
pub use disk::free_space;
pub use download::Download;
pub use error::Error;
pub use event::Event;
pub use lock::lock;
pub use open::open_without_waiting;
pub use speed::MIN_SPEED;
/// The `http` crate, which defines the types of URLs, headers and responses.
pub use ureq::http;
pub use url::{parse_url, redacted, same_origin};
