// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a server can be reached. Its name is resolved anew each time; nothing is sent but the head of a GET, and no
//! answer is read beyond its head.
//!
//! Looking a name up runs foreign code and the daemon itself may talk to its own machine only, so this runs in a process
//! of its own: `watcherd --reach`.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use ureq::http::Uri;
use ureq::{Agent, Error};

/// How long a server may take to answer.
pub const DEADLINE: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried, all at once.
const ADDRESSES_MAX: usize = 8;
/// A server that answers with this or more is not well.
const SERVER_ERROR: u16 = 500;

const UNRESOLVED: &str = "the name cannot be resolved";
const UNREADABLE: &str = "the address cannot be read";

/// Whether a connection can be made to `tcp://HOST:PORT`, or a GET of `http://…` is answered with a status below 500. The
/// error, a fragment that does not name the address, says why that cannot be known.
pub fn reach(address: &str) -> Result<bool, String> {
    match address.strip_prefix("tcp://") {
        Some(place) => connects(place),
        None if address.starts_with("http://") => answers(address),
        None => Err("only tcp:// and http:// are supported".to_owned()),
    }
}

/// `watcherd --reach`: prints what [`parse`] reads.
pub fn program(address: &str) -> ExitCode {
    match reach(address) {
        Ok(true) => println!("yes"),
        Ok(false) => println!("no"),
        Err(why) => println!("unknown {why}"),
    }
    ExitCode::SUCCESS
}

/// Reads what [`program`] printed.
pub fn parse(text: &str) -> Result<bool, String> {
    match text.trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => Err(other.strip_prefix("unknown ").unwrap_or("the answer cannot be read").to_owned()),
    }
}

fn connects(place: &str) -> Result<bool, String> {
    let addresses = place.to_socket_addrs().map_err(|_| UNRESOLVED.to_owned())?;
    let (tell, told) = mpsc::channel();
    for address in addresses.take(ADDRESSES_MAX) {
        let tell = tell.clone();
        thread::Builder::new()
            .spawn(move || tell.send(connect(address)))
            .map_err(|error| format!("a thread cannot be started: {error}"))?;
    }
    drop(tell);
    let mut reached = Ok(false);
    for answer in told {
        match answer {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(why) => reached = Err(why),
        }
    }
    reached
}

fn connect(address: SocketAddr) -> Result<bool, String> {
    match TcpStream::connect_timeout(&address, DEADLINE) {
        Ok(_) => Ok(true),
        Err(error) => about(&error),
    }
}

/// Whether the server's absence, or something on our side, is to blame.
fn about(error: &io::Error) -> Result<bool, String> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Err("connections are not allowed".to_owned()),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory => Err(error.to_string()),
        _ => Ok(false),
    }
}

fn answers(url: &str) -> Result<bool, String> {
    let uri: Uri = url.parse().map_err(|_| UNREADABLE.to_owned())?;
    let host = uri.host().ok_or(UNREADABLE)?.trim_matches(['[', ']']);
    // That a name is unknown is hard to tell from other errors later.
    (host, uri.port_u16().unwrap_or(80)).to_socket_addrs().map_err(|_| UNRESOLVED.to_owned())?;
    let config = Agent::config_builder()
        .timeout_global(Some(DEADLINE))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .max_idle_connections(0)
        .user_agent(concat!("watcherd/", env!("CARGO_PKG_VERSION")));
    let agent: Agent = config.build().into();
    match agent.get(url).call() {
        Ok(response) => Ok(response.status().as_u16() < SERVER_ERROR),
        Err(Error::BadUri(_) | Error::Http(_)) => Err(UNREADABLE.to_owned()),
        Err(Error::Io(error)) => about(&error),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    /// A server on the loopback that answers every request in its own thread, for ever; host and port.
    fn server(answer: impl Fn(TcpStream) + Clone + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let address = listener.local_addr().expect("it has one");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, mut stream) = (answer.clone(), stream.expect("a connection"));
                thread::spawn(move || {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request);
                    answer(stream);
                });
            }
        });
        address.to_string()
    }

    fn says(head: &'static str) -> impl Fn(TcpStream) + Clone + Send + 'static {
        move |mut stream| drop(write!(stream, "HTTP/1.1 {head}\r\nContent-Length: 2\r\n\r\nok"))
    }

    /// Where nobody listens.
    fn nowhere() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        listener.local_addr().expect("it has one").to_string()
    }

    #[test]
    fn a_port_is_reachable_if_somebody_listens() {
        let there = server(|_| {});
        assert_eq!(reach(&format!("tcp://{there}")), Ok(true));
        assert_eq!(reach(&format!("tcp://{}", there.replace("127.0.0.1", "localhost"))), Ok(true));
        assert_eq!(reach(&format!("tcp://{}", nowhere())), Ok(false));
    }

    #[test]
    fn what_cannot_be_known_is_not_a_no() {
        let unknown = Err("the name cannot be resolved".to_owned());
        assert_eq!(reach("tcp://no-such-host.invalid:80"), unknown);
        assert_eq!(reach("http://no-such-host.invalid/"), unknown);
        assert!(reach("ftp://127.0.0.1/").is_err());
        assert!(reach("tcp://127.0.0.1").is_err());
        assert!(reach("http://[/").is_err());
    }

    #[test]
    fn a_server_that_answers_is_well_below_500() {
        for (head, expected) in [
            ("200 OK", true),
            ("204 No Content", true),
            ("302 Found\r\nLocation: http://127.0.0.1:9/", true),
            ("401 Unauthorized", true),
            ("404 Not Found", true),
            ("500 Internal Server Error", false),
            ("503 Service Unavailable", false),
        ] {
            assert_eq!(reach(&format!("http://{}/health", server(says(head)))), Ok(expected), "{head}");
        }
        assert_eq!(reach(&format!("http://{}/", nowhere())), Ok(false));
        let garbage = server(|mut stream| drop(stream.write_all(b"SSH-2.0-x\r\n")));
        assert_eq!(reach(&format!("http://{garbage}/")), Ok(false));
    }

    #[test]
    fn no_server_makes_it_last_or_grow() {
        let silent = server(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
        let endless_head = server(|mut stream| while stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").is_ok() {});
        let (written, sum) = mpsc::channel();
        let huge = server(move |mut stream| {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 10_u64 << 30);
            let mut bytes = 0_u64;
            while bytes < 10 << 30 && stream.write_all(&[b' '; 65_536]).is_ok() {
                bytes += 65_536;
            }
            let _ = written.send(bytes);
        });
        let began = Instant::now();
        assert_eq!(reach(&format!("http://{silent}/")), Ok(false));
        assert_eq!(reach(&format!("http://{endless_head}/")), Ok(false));
        assert_eq!(reach(&format!("http://{huge}/")), Ok(true));
        let bytes = sum.recv_timeout(Duration::from_secs(30)).expect("the server is cut off");
        assert!(bytes < 64 << 20, "{bytes} bytes were sent");
        assert!(began.elapsed() < DEADLINE * 10, "{:?}", began.elapsed());
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        assert_eq!(parse("yes\n"), Ok(true));
        assert_eq!(parse("no\n"), Ok(false));
        assert_eq!(parse("unknown the name cannot be resolved\n"), Err("the name cannot be resolved".to_owned()));
        assert!(parse("").is_err());
    }
}
