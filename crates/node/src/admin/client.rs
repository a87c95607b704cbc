//! The client of admin ports, over plain HTTP.
//!
//! Its calls block: it is for the command line.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use quorate::{Balanced, limits};
use serde::Deserialize;

use crate::report::{ClusterReport, SCHEMA};

/// Longest time for one node's answer: it has to ask the others first.
const ANSWER: Duration = limits::STATUS_WITHIN;
const CONNECT: Duration = Duration::from_secs(2);
/// Longest answer: some 100,000 shards.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// The admin port of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminUrl {
    host_and_port: String,
}

impl From<SocketAddr> for AdminUrl {
    fn from(address: SocketAddr) -> AdminUrl {
        AdminUrl { host_and_port: address.to_string() }
    }
}

impl FromStr for AdminUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<AdminUrl, String> {
        if text.starts_with("https://") {
            return Err("admin ports speak http, without TLS; write http://HOST:PORT".to_owned());
        }
        let host_and_port = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let port = host_and_port.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let is_port = port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|p| p > 0));
        let strange = |letter: char| "/?#@".contains(letter) || letter.is_whitespace();
        if !is_port || host_and_port.contains(strange) {
            return Err("write it like http://127.0.0.1:8001".to_owned());
        }
        Ok(AdminUrl { host_and_port: host_and_port.to_owned() })
    }
}

impl fmt::Display for AdminUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.host_and_port)
    }
}

/// A node that gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Which node was asked.
    pub url: AdminUrl,
    /// What happened, in words.
    pub why: String,
}

/// Asks `urls` in turn for the cluster's status, until one answers; the sizes of the data of `shard`'s
/// replicas are in it, if one is given. Returns the answer, and the URLs that gave none. Blocks up to
/// five seconds for each.
///
/// # Errors
/// All of them, if none answered.
pub fn ask_cluster(
    urls: &[AdminUrl],
    shard: Option<u64>,
) -> Result<(ClusterReport, Vec<Unanswered>), Vec<Unanswered>> {
    let agent = agent(ANSWER);
    let query = shard.map_or_else(String::new, |shard| format!("?shard={shard}"));
    first_answer(urls, |url| {
        let answered = agent.get(format!("{url}/cluster{query}")).call();
        text_of(answered, "/cluster").and_then(|text| parse(&text))
    })
}

/// Asks the first of `urls` that answers to run one round of spreading the leaders; otherwise as
/// [`ask_cluster`].
///
/// # Errors
/// As [`ask_cluster`].
pub fn balance_leaders(urls: &[AdminUrl]) -> Result<(Balanced, Vec<Unanswered>), Vec<Unanswered>> {
    let agent = agent(ANSWER + limits::TRANSFER_TIMEOUT);
    first_answer(urls, |url| {
        let answered = agent.post(format!("{url}/balance/leaders")).send_empty();
        let text = text_of(answered, "/balance/leaders")?;
        serde_json::from_str(&text).map_err(unreadable)
    })
}

fn agent(answer: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(answer))
        .timeout_connect(Some(CONNECT))
        .http_status_as_error(false)
        .max_redirects(0)
        // A proxy set in the environment is for the outside world, not for admin ports.
        .proxy(None)
        .build()
        .into()
}

fn first_answer<T>(
    urls: &[AdminUrl],
    ask: impl Fn(&AdminUrl) -> Result<T, String>,
) -> Result<(T, Vec<Unanswered>), Vec<Unanswered>> {
    let mut unanswered = Vec::new();
    for url in urls {
        match ask(url) {
            Ok(answer) => return Ok((answer, unanswered)),
            Err(why) => unanswered.push(Unanswered { url: url.clone(), why }),
        }
    }
    Err(unanswered)
}

fn text_of(
    answered: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    path: &str,
) -> Result<String, String> {
    let mut response = answered.map_err(in_words)?;
    match response.status().as_u16() {
        200 => {
            let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
            body.read_to_string().map_err(in_words)
        }
        404 => Err(format!("answers, but knows no {path}: not an admin port of this version")),
        code => Err(format!("answers with HTTP status {code}")),
    }
}

fn in_words(error: ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
            "nothing listens there; is the node running?".to_owned()
        }
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Timeout(ureq::Timeout::Connect) => {
            format!("no connection within {} s", CONNECT.as_secs())
        }
        ureq::Error::Timeout(_) => format!("no answer within {} s", ANSWER.as_secs()),
        ureq::Error::HostNotFound => "the host's name is not known".to_owned(),
        ureq::Error::Protocol(_) => {
            "what answers speaks no HTTP; the admin port is another one than the Redis port"
                .to_owned()
        }
        other => other.to_string(),
    }
}

fn unreadable(error: serde_json::Error) -> String {
    format!("its answer can't be read ({error}); use the `quorate` of the node's version")
}

fn parse(text: &str) -> Result<ClusterReport, String> {
    /// Read first: another schema may have other fields.
    #[derive(Deserialize)]
    struct OnlySchema {
        schema: u32,
    }
    let OnlySchema { schema } = serde_json::from_str(text).map_err(unreadable)?;
    if schema != SCHEMA {
        return Err(format!(
            "its answer has schema {schema}, this program knows {SCHEMA}; use the `quorate` of the \
             node's version"
        ));
    }
    serde_json::from_str(text).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn urls() {
        for (text, expected) in [
            ("http://127.0.0.1:8001", Some("http://127.0.0.1:8001")),
            ("http://127.0.0.1:8001/", Some("http://127.0.0.1:8001")),
            ("node1:8001", Some("http://node1:8001")),
            ("[::1]:8001", Some("http://[::1]:8001")),
            ("https://127.0.0.1:8001", None),
            ("127.0.0.1", None),
            ("127.0.0.1:0", None),
            ("127.0.0.1:99999", None),
            (":8001", None),
            ("http://127.0.0.1:8001/cluster", None),
            ("", None),
        ] {
            let parsed = text.parse::<AdminUrl>().map(|url| url.to_string()).ok();
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }

    /// A server of one connection that answers with `reply` whatever it is asked.
    fn serve(reply: &'static str) -> AdminUrl {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut request = [0; 4096];
            let read = stream.read(&mut request).expect("read");
            assert!(request[..read].starts_with(b"GET /cluster HTTP/1.1\r\n"));
            stream.write_all(reply.as_bytes()).expect("sent");
        });
        address.into()
    }

    /// Goal: nodes are asked in turn, and each failure is described. Method: one dead port, and
    /// one-shot servers with right and wrong answers.
    #[test]
    fn the_first_answer_counts() {
        let dead: AdminUrl = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
            listener.local_addr().expect("bound").into()
        };
        let old = serve("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        let redis = serve("-ERR unknown command\r\n");
        let newer = serve("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"schema\":9}");
        let good = serve(
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"schema\":1,\"cluster\":\"c1\",\"asked\":2,\
             \"health\":\"healthy\",\"problems\":[],\"map_revision\":1,\"nodes\":[],\"shards\":[],\
             \"added_later\":1}",
        );
        let (status, unanswered) = ask_cluster(&[dead.clone(), old, redis, newer, good], None)
            .expect("the last one answers");
        assert_eq!(status.asked, 2);
        for (unanswered, expected) in unanswered.iter().zip([
            "is the node running",
            "not an admin port",
            "speaks no HTTP",
            "schema 9",
        ]) {
            assert!(unanswered.why.contains(expected), "{unanswered:?}");
        }
        let nobody = ask_cluster(std::slice::from_ref(&dead), Some(4)).expect_err("nobody");
        assert_eq!(nobody.len(), 1);
    }
}
