//! A Redis client of three commands that tells "it failed" from "the outcome is unknown".

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::loopback::connect;

/// The one error of the Redis port after which a write may still take effect; every other error
/// says that it did not happen (docs/operations.md).
const UNKNOWN: &str = "ERR outcome unknown";

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `GET key`.
    Get(Bytes),
    /// `SET key value`.
    Set(Bytes, Bytes),
    /// `INCR key`.
    Increment(Bytes),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To SET.
    Done,
    /// To GET.
    Value(Option<Bytes>),
    /// To INCR.
    Integer(i64),
}

/// The outcome of a request, as the client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened, between the request and the answer.
    Answered(Answer),
    /// It did not happen and never will.
    DidNotHappen(String),
    /// It may have happened, or may happen later.
    Unknown(String),
}

/// One connection. It is useless after a broken exchange: answers could not be told apart.
pub struct RedisClient {
    stream: BufReader<TcpStream>,
    patience: Duration,
    is_broken: bool,
}

impl RedisClient {
    /// Connects; waits at most `patience`, here and for each answer.
    ///
    /// # Errors
    /// The system's.
    pub async fn connect(server: SocketAddr, patience: Duration) -> io::Result<RedisClient> {
        let stream = BufReader::new(connect(server, patience).await?);
        Ok(RedisClient { stream, patience, is_broken: false })
    }

    /// Whether the connection is useless.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Sends one request and awaits its answer.
    pub async fn call(&mut self, request: Request) -> Outcome {
        let mut outcomes = self.pipeline(std::slice::from_ref(&request)).await;
        outcomes.pop().expect("one outcome for each request")
    }

    /// Sends all requests at once and awaits their answers; one outcome for each, in order. They
    /// should fit the buffers of a socket.
    pub async fn pipeline(&mut self, requests: &[Request]) -> Vec<Outcome> {
        let mut bytes = Vec::new();
        requests.iter().for_each(|request| request.write(&mut bytes));
        let mut outcomes = Vec::with_capacity(requests.len());
        let exchange = async {
            self.stream.write_all(&bytes).await?;
            for request in requests {
                let outcome = read_outcome(&mut self.stream, request).await?;
                outcomes.push(outcome);
            }
            Ok::<(), io::Error>(())
        };
        let failure = match tokio::time::timeout(self.patience, exchange).await {
            Ok(Ok(())) => return outcomes,
            Ok(Err(error)) => format!("the connection broke: {error}"),
            Err(_) => format!("no answer within {:?}", self.patience),
        };
        self.is_broken = true;
        outcomes.resize(requests.len(), Outcome::Unknown(failure));
        outcomes
    }
}

impl Request {
    fn write(&self, out: &mut Vec<u8>) {
        let words: &[&[u8]] = match self {
            Request::Get(key) => &[b"GET", key],
            Request::Set(key, value) => &[b"SET", key, value],
            Request::Increment(key) => &[b"INCR", key],
        };
        out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
    }
}

async fn read_outcome(stream: &mut BufReader<TcpStream>, request: &Request) -> io::Result<Outcome> {
    let line = read_line(stream).await?;
    let (kind, text) = line.split_at_checked(1).ok_or_else(|| unreadable(&line))?;
    Ok(Outcome::Answered(match (kind, request) {
        ("-", _) if text.starts_with(UNKNOWN) => return Ok(Outcome::Unknown(text.to_owned())),
        ("-", _) => return Ok(Outcome::DidNotHappen(text.to_owned())),
        ("+", Request::Set(..)) if text == "OK" => Answer::Done,
        ("$", Request::Get(_)) if text == "-1" => Answer::Value(None),
        ("$", Request::Get(_)) => {
            let length: usize = text.parse().map_err(|_| unreadable(&line))?;
            let mut value = vec![0; length + 2];
            stream.read_exact(&mut value).await?;
            value.truncate(length);
            Answer::Value(Some(Bytes::from(value)))
        }
        (":", Request::Increment(_)) => {
            Answer::Integer(text.parse().map_err(|_| unreadable(&line))?)
        }
        _ => return Err(unreadable(&line)),
    }))
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    match line.strip_suffix("\r\n") {
        Some(whole) => Ok(whole.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn unreadable(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each kind of answer is understood, and a broken connection leaves the rest unknown.
    /// Method: a server of one connection that answers a fixed text.
    #[tokio::test]
    async fn answers_are_told_apart() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let server = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut request = [0; 1024];
            let _asked = stream.read(&mut request).expect("read");
            let answers = b"+OK\r\n$-1\r\n$2\r\n\r\n\r\n:-3\r\n-CLUSTERDOWN no\r\n\
                            -ERR outcome unknown: no\r\n:4";
            stream.write_all(answers).expect("sent");
        });
        let key = Bytes::from("k");
        let get = || Request::Get(key.clone());
        let add = || Request::Increment(key.clone());
        let set = Request::Set(key.clone(), Bytes::from("v"));
        let mut client =
            RedisClient::connect(server, Duration::from_secs(5)).await.expect("it listens");
        let asked = [set, get(), get(), add(), add(), add(), add(), get()];
        let outcomes = client.pipeline(&asked).await;
        let answered = [
            Answer::Done,
            Answer::Value(None),
            Answer::Value(Some(Bytes::from("\r\n"))),
            Answer::Integer(-3),
        ];
        assert_eq!(outcomes[..4], answered.map(Outcome::Answered));
        assert!(matches!(&outcomes[4], Outcome::DidNotHappen(text) if text == "CLUSTERDOWN no"));
        assert!(outcomes[5..].iter().all(|outcome| matches!(outcome, Outcome::Unknown(_))));
        assert!(client.is_broken());
    }
}
