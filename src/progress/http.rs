// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fetches a document with GET over plain HTTP. Nobody is redirected, no proxy is used, and no server can make it last
//! longer or become larger than is good.

use super::DOCUMENT_MAX;
use super::file::words;
use std::time::Duration;
use ureq::{Agent, Error};

/// From looking the name up to the last byte.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// What asks; clones share their settings.
#[derive(Clone)]
pub struct Client(Agent);

impl Client {
    pub fn new(deadline: Duration) -> Client {
        let config = Agent::config_builder()
            .timeout_global(Some(deadline))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .max_idle_connections(0)
            .user_agent(concat!("watcherd/", env!("CARGO_PKG_VERSION")))
            .accept("application/json, text/plain;q=0.9, */*;q=0.1");
        Client(config.build().into())
    }

    /// Fetches the document at `url`; the error is a fragment that names it. Blocks up to the deadline.
    pub fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        self.fetch(url).map_err(|why| format!("{}: {why}", without_credentials(url)))
    }

    fn fetch(&self, url: &str) -> Result<Vec<u8>, String> {
        if !url.starts_with("http://") {
            return Err("only http:// is supported".to_owned());
        }
        let mut response = self.0.get(url).call().map_err(|error| fragment(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("HTTP status {}", status.as_u16()));
        }
        // One byte more is asked for than is allowed, to tell the two apart.
        let body = response.body_mut().with_config().limit(DOCUMENT_MAX as u64 + 1).read_to_vec();
        match body {
            Ok(body) if body.len() <= DOCUMENT_MAX => Ok(body),
            Ok(_) | Err(Error::BodyExceedsLimit(_)) => Err("larger than 1 MiB".to_owned()),
            Err(error) => Err(fragment(&error)),
        }
    }
}

fn fragment(error: &Error) -> String {
    match error {
        Error::Timeout(_) => "no answer in time".to_owned(),
        Error::HostNotFound => "the host is unknown".to_owned(),
        Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        Error::Io(error) => words(error),
        other => other.to_string(),
    }
}

/// A URL as everybody may see it.
pub fn without_credentials(url: &str) -> String {
    let (url, query) = url.split_once('?').map_or((url, ""), |(url, _)| (url, "?…"));
    format!("{}{query}", without_user(url))
}

fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    /// A server on the loopback that answers every request in its own thread, for ever; its address.
    pub fn server(answer: impl Fn(TcpStream) + Clone + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let address = listener.local_addr().expect("it has one");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, mut stream) = (answer.clone(), stream.expect("a connection"));
                std::thread::spawn(move || {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request);
                    answer(stream);
                });
            }
        });
        format!("http://{address}/progress")
    }

    pub fn says(head: &'static str, body: &'static str) -> impl Fn(TcpStream) + Clone + Send + 'static {
        move |mut stream| {
            let _ = write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    }

    #[test]
    fn documents_are_fetched() {
        let client = Client::new(DEADLINE);
        assert_eq!(client.get(&server(says("200 OK", "{\"step\": 3}"))), Ok(b"{\"step\": 3}".to_vec()));
        let chunked = server(|mut stream| {
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n12\r\n1\r\n3\r\n0\r\n\r\n");
        });
        assert_eq!(client.get(&chunked), Ok(b"123".to_vec()));
    }

    #[test]
    fn bad_servers_do_no_harm() {
        let began = Instant::now();
        let client = Client::new(Duration::from_millis(300));
        let silent = server(|mut stream| {
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let dripping = server(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
            while stream.write_all(b"1").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let endless_header = server(|mut stream| while stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").is_ok() {});
        let endless = server(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(&[b'1'; 65_536]).is_ok() {}
        });
        let large = server(|mut stream| {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 10 << 20);
            for _ in 0..160 {
                let _ = stream.write_all(&[b' '; 65_536]);
            }
        });
        let elsewhere = server(says("302 Found\r\nLocation: http://127.0.0.1:9/", "42"));
        let closed = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
            format!("http://{}/", listener.local_addr().expect("it has one"))
        };
        let cases = [
            (silent, "no answer in time"),
            (dripping, "no answer in time"),
            (endless, "larger than 1 MiB"),
            (large, "larger than 1 MiB"),
            (elsewhere, "HTTP status 302"),
            (server(says("503 Service Unavailable", "42")), "HTTP status 503"),
            (closed, "connection refused"),
            ("https://127.0.0.1/".to_owned(), "only http:// is supported"),
            ("file:///etc/passwd".to_owned(), "only http:// is supported"),
        ];
        for (url, expected) in cases {
            assert_eq!(client.get(&url), Err(format!("{url}: {expected}")));
        }
        assert!(client.get(&endless_header).is_err());
        assert!(client.get(&server(|mut stream| drop(stream.write_all(b"SSH-2.0-x\r\n")))).is_err());
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }

    #[test]
    fn credentials_are_not_shown() {
        let why = Client::new(DEADLINE).get("https://me:secret@host/x@y").expect_err("TLS is not supported");
        assert_eq!(why, "https://host/x@y: only http:// is supported");
        assert_eq!(without_credentials("http://host/a@b"), "http://host/a@b");
        assert_eq!(without_credentials("http://a:b@host/x?key=secret@y"), "http://host/x?…");
    }
}
