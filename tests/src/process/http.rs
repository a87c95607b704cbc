//! One HTTP GET, read to the end of the connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::loopback::connect;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Asks `server` for `path`.
///
/// # Errors
/// The system's; [`io::ErrorKind::TimedOut`]; [`io::ErrorKind::InvalidData`] if the answer is none.
pub async fn http_get(server: SocketAddr, path: &str, within: Duration) -> io::Result<HttpReply> {
    let exchange = async {
        let mut stream = connect(server, within).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, text))
    };
    tokio::time::timeout(within, exchange)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Admin ports state the length and never send in chunks, so the body is what follows the head.
fn parse(text: &str) -> Option<HttpReply> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let is_whole = !head.to_ascii_lowercase().contains("transfer-encoding");
    is_whole.then(|| HttpReply { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_taken_apart() {
        let reply = parse("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno");
        assert_eq!(reply, Some(HttpReply { status: 503, body: "no".to_owned() }));
        for broken in ["", "HTTP/1.1 200 OK\r\n", "+OK\r\n\r\n", "HTTP/1.1 20\r\n\r\n"] {
            assert_eq!(parse(broken), None, "{broken:?}");
        }
        assert_eq!(parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"), None);
    }
}
