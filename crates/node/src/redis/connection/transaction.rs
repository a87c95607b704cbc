//! Refuses transactions: after a MULTI nothing runs until its EXEC or DISCARD.
//!
//! A client that sent MULTI believes that all or nothing of what follows takes effect.

use bytes::Bytes;

use crate::redis::commands::command::{unknown_command, wrong_arguments};
use crate::redis::protocol::reply::Reply;

/// One connection's state.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    refused: bool,
}

const ABORTED: Reply = Reply::error("EXECABORT Transaction discarded because of previous errors.");
const ABORTED_BY_ARGUMENTS: Reply = Reply::error(
    "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command",
);
const NOT_RUN: Reply = Reply::error(
    "ERR not run: the MULTI before it was refused, because transactions are not built yet",
);

impl Transaction {
    /// The reply to a command that must not run, because of itself or of an earlier one; `None`: it
    /// may run.
    pub(super) fn answer(&mut self, arguments: &[Bytes]) -> Option<Reply> {
        const NAME_BYTES_MAX: usize = 7;
        let name = arguments.first().filter(|name| name.len() <= NAME_BYTES_MAX);
        let name = name.map(|name| name.to_ascii_lowercase()).unwrap_or_default();
        let is_alone = arguments.len() == 1;
        match name.as_slice() {
            b"multi" if !is_alone => Some(wrong_arguments("multi")),
            b"multi" if self.refused => Some(Reply::error("ERR MULTI calls can not be nested")),
            b"multi" => {
                self.refused = true;
                Some(unknown_command(arguments))
            }
            b"exec" if !is_alone => {
                self.refused = false;
                Some(ABORTED_BY_ARGUMENTS)
            }
            b"exec" if std::mem::take(&mut self.refused) => Some(ABORTED),
            b"exec" => Some(Reply::error("ERR EXEC without MULTI")),
            b"discard" if !is_alone => Some(wrong_arguments("discard")),
            b"discard" if std::mem::take(&mut self.refused) => Some(Reply::OK),
            b"discard" => Some(Reply::error("ERR DISCARD without MULTI")),
            b"watch" if self.refused => Some(Reply::error("ERR WATCH inside MULTI is not allowed")),
            b"quit" => None,
            b"reset" if is_alone => {
                self.refused = false;
                None
            }
            _ => self.refused.then_some(NOT_RUN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: after a refused MULTI nothing runs until its end, and each end is as in Redis. Method: a
    /// script; "run" stands for what may run.
    #[test]
    fn nothing_runs_in_a_refused_transaction() {
        let script = [
            ("SET a 1", "run"),
            ("EXEC", "ERR EXEC without MULTI"),
            ("DISCARD", "ERR DISCARD without MULTI"),
            ("multi x", "ERR wrong number of arguments for 'multi' command"),
            ("SET a 1", "run"),
            ("Multi", "ERR unknown command 'Multi', with args beginning with: "),
            ("INCR a", "ERR not run"),
            ("MULTI", "ERR MULTI calls can not be nested"),
            ("WATCH a", "ERR WATCH inside MULTI is not allowed"),
            ("nonsense-of-any-length", "ERR not run"),
            ("eXec", "EXECABORT Transaction discarded because of previous errors."),
            ("INCR a", "run"),
            ("MULTI", "ERR unknown command 'MULTI'"),
            ("DISCARD x", "ERR wrong number of arguments for 'discard' command"),
            ("INCR a", "ERR not run"),
            ("DISCARD", "OK"),
            ("INCR a", "run"),
            ("MULTI", "ERR unknown command 'MULTI'"),
            ("EXEC x", "EXECABORT Transaction discarded because of: wrong number of arguments"),
            ("INCR a", "run"),
            ("MULTI", "ERR unknown command 'MULTI'"),
            ("RESET", "run"),
            ("INCR a", "run"),
            ("MULTI", "ERR unknown command 'MULTI'"),
            ("QUIT", "run"),
        ];
        let mut transaction = Transaction::default();
        for (line, expected) in script {
            let words: Vec<Bytes> =
                line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
            let found = match transaction.answer(&words) {
                None => "run".into(),
                Some(Reply::Error(text)) => text.into_owned(),
                Some(Reply::Status(text)) => text.to_owned(),
                Some(other) => format!("{other:?}"),
            };
            assert!(found.starts_with(expected), "{line}: {found}");
        }
    }
}
