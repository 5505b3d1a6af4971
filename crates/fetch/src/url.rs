//! Parses, compares, resolves and redacts URLs.

use ureq::http::Uri;

use crate::Error;

/// Parses an absolute http or https URL.
///
/// # Errors
///
/// Returns [`Error::Url`] for any other text.
pub fn parse_url(text: &str) -> Result<Uri, Error> {
    let url = text.parse::<Uri>().ok();
    url.filter(|url| origin(url).is_some() && has_valid_port(url))
        .ok_or_else(|| Error::Url {
            url: redacted_text(text),
        })
}

/// Whether a URL has no port, or a port up to 65535. [`Uri`] accepts others and then has no port, so
/// that a request would go to the default port.
fn has_valid_port(url: &Uri) -> bool {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.strip_prefix(url.host().unwrap_or_default()) {
        Some("" | ":") => true,
        _ => url.port_u16().is_some(),
    }
}

/// Text that is not a valid URL, for error messages: with control characters escaped, and empty
/// except for `…` if it may contain a password or a query.
fn redacted_text(text: &str) -> String {
    match text.contains(['@', '?', '#']) {
        true => "…".into(),
        false => text.escape_debug().to_string(),
    }
}

/// Whether two URLs have the same scheme, host and port. False if one is not an absolute http or
/// https URL.
pub fn same_origin(a: &Uri, b: &Uri) -> bool {
    origin(a).is_some_and(|a| origin(b) == Some(a))
}

/// Formats a URL without its user name, password and query, which may contain secrets. Control
/// characters are replaced by `?`.
pub fn redacted(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or_default();
    let host = url.host().unwrap_or_default();
    let port = url
        .port_u16()
        .map_or(String::new(), |port| format!(":{port}"));
    let path = url.path().replace(char::is_control, "?");
    format!("{scheme}://{host}{port}{path}")
}

/// The scheme, host in lower case, and port of an http or https URL. `None` for other URLs.
fn origin(url: &Uri) -> Option<(&str, String, u16)> {
    let scheme = url.scheme_str()?;
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let host = url.host()?.to_ascii_lowercase();
    Some((scheme, host, url.port_u16().unwrap_or(default_port)))
}

/// Resolves a `Location` header against the URL of the request. Absolute URLs, `//HOST/PATH` and
/// `/PATH` are supported, but not paths relative to that of the request. A redirect from https to
/// http is an error.
pub(crate) fn resolve(base: &Uri, location: &str) -> Result<Uri, Error> {
    let scheme = base.scheme_str().unwrap_or("https");
    let absolute = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        let authority = base.authority().map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}{location}")
    } else {
        location.into()
    };
    let target = parse_url(&absolute).map_err(|_| Error::Redirect {
        url: redacted(base),
        location: redacted_text(location),
    })?;
    if scheme == "https" && target.scheme_str() != Some("https") {
        return Err(Error::Unencrypted {
            url: redacted(base),
            location: redacted(&target),
        });
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().expect(text)
    }

    #[test]
    fn origins_are_compared_by_scheme_host_and_port() {
        let url = uri("https://hub.example/a");
        for same in [
            "https://HUB.example/b",
            "https://hub.example:443",
            "https://me@hub.example",
        ] {
            assert!(same_origin(&uri(same), &url), "{same}");
        }
        for other in [
            "http://hub.example/a",
            "https://hub.example:8443/a",
            "https://hub.example.org/a",
            "https://hub.example@evil.example/a",
            "ftp://hub.example/a",
            "/a",
        ] {
            assert!(!same_origin(&uri(other), &url), "{other}");
            assert!(!same_origin(&url, &uri(other)), "{other}");
        }
        assert!(!same_origin(&uri("/a"), &uri("/a")));
    }

    #[test]
    fn a_port_that_does_not_exist_is_an_error_instead_of_the_default_port() {
        for url in [
            "http://h",
            "http://h:/",
            "https://me:x@h:65535/",
            "http://[::1]:1/",
        ] {
            assert!(parse_url(url).is_ok(), "{url}");
        }
        for url in [
            "http://h:65536/",
            "https://me:x@h:99999",
            "http://[::1]:70000/",
        ] {
            assert!(parse_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn locations_are_resolved_against_the_request() {
        let base = uri("https://hub.example:8443/a/b?c");
        for (location, expected) in [
            ("/x/y?z", "https://hub.example:8443/x/y?z"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("https://cdn.example/x", "https://cdn.example/x"),
        ] {
            assert_eq!(resolve(&base, location).expect(location), uri(expected));
        }
        for location in ["", "x", "file:///etc/passwd", "ftp://x/y", "http://"] {
            assert!(resolve(&base, location).is_err(), "{location}");
        }
        // A redirect must not give up encryption, not even to the same host.
        for location in ["http://cdn.example/x?y", "http://hub.example:8443/x"] {
            let error = resolve(&base, location).expect_err(location);
            assert!(matches!(error, Error::Unencrypted { .. }), "{error}");
        }
        let plain = uri("http://hub.example/a");
        assert!(resolve(&plain, "https://hub.example/b").is_ok());
        assert!(resolve(&plain, "http://cdn.example/b").is_ok());
    }

    #[test]
    fn redacted_urls_contain_no_secrets() {
        let url = uri("https://user:password@hub.example:8443/a/b?signature=secret");
        assert_eq!(redacted(&url), "https://hub.example:8443/a/b");
    }

    #[test]
    fn invalid_urls_are_printed_without_secrets_and_control_characters() {
        for text in [
            "htps://user:password@hub.example",
            "user:password@hub.example",
            "https://user:pass word@hub.example/",
            "https://user:p?ssword@hub example/",
            "file:///x?signature=password",
            "password#@",
        ] {
            for error in [
                parse_url(text).expect_err(text),
                resolve(&uri("https://hub.example/a"), text).expect_err(text),
            ] {
                let message = error.to_string();
                assert!(
                    !message.contains("pass") && !message.contains("user"),
                    "{message}"
                );
            }
        }
        let message = parse_url("ftp://x\u{1b}[2J\n")
            .expect_err("ftp")
            .to_string();
        assert!(
            message.contains("ftp://x") && !message.contains(char::is_control),
            "{message}"
        );
    }
}
