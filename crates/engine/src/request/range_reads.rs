//! Reads by range, in pages, over the shards that own the range.

use std::sync::Arc;

use bytes::Bytes;
use quorate_types::limits;

use crate::calls::read::{ReadLevel, ReadRequest, ReadResponse};
use crate::error::{Invalid, Refusal};
use crate::request::reads::Reads;
use crate::request::route::Route;

/// Some pairs of a range, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPage {
    /// Keys and values.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// Where the rest of the range begins; `None`: there is none.
    pub next: Option<Bytes>,
}

/// Some keys of a range, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<Bytes>,
    /// Where the rest of the range begins; `None`: there is none.
    pub next: Option<Bytes>,
}

/// How much a page holds at most. It always holds one pair, so that a caller that asks for the next
/// page makes progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageSize {
    pub(crate) keys_max: usize,
    pub(crate) bytes_max: usize,
}

/// The first shard of a range, and its part of it.
struct Part {
    route: Route,
    start: Bytes,
    end: Option<Bytes>,
    /// Where the range continues after the shard; `None`: it ends here.
    next: Option<Bytes>,
}

impl Reads {
    pub(crate) async fn scan(
        self: &Arc<Self>,
        start: &[u8],
        end: Option<&[u8]>,
        limit: usize,
        level: ReadLevel,
    ) -> Result<Vec<(Bytes, Bytes)>, Refusal> {
        let mut pairs = Vec::new();
        let mut bytes = 0;
        let mut from = Some(Bytes::copy_from_slice(start));
        while let Some(start) = from.filter(|_| pairs.len() < limit) {
            if bytes >= limits::READ_BYTES_MAX {
                let (found, max) = (bytes, limits::READ_BYTES_MAX);
                return Err(Invalid::AnswerTooLong { found, max }.into());
            }
            let size = PageSize {
                keys_max: limit - pairs.len(),
                bytes_max: limits::READ_PAGE_BYTES_MAX.min(limits::READ_BYTES_MAX - bytes),
            };
            let page = self.scan_page(&start, end, size, level).await?;
            bytes += page.pairs.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            pairs.extend(page.pairs);
            from = page.next;
        }
        Ok(pairs)
    }

    /// The first pairs of a range, all of one shard; perhaps none.
    pub(crate) async fn scan_page(
        self: &Arc<Self>,
        start: &[u8],
        end: Option<&[u8]>,
        size: PageSize,
        level: ReadLevel,
    ) -> Result<ScanPage, Refusal> {
        match self.read_page(start, end, size, true, level).await? {
            Some((ReadResponse::Pairs { pairs, more }, next)) => {
                let next = if more { pairs.last().map(|(key, _)| behind(key)) } else { next };
                Ok(ScanPage { pairs, next })
            }
            Some(_) => unreachable!("a scan of values is answered with pairs"),
            None => Ok(ScanPage { pairs: Vec::new(), next: None }),
        }
    }

    /// As [`Reads::scan_page`], but without values.
    pub(crate) async fn scan_keys(
        self: &Arc<Self>,
        start: &[u8],
        end: Option<&[u8]>,
        size: PageSize,
        level: ReadLevel,
    ) -> Result<KeyPage, Refusal> {
        match self.read_page(start, end, size, false, level).await? {
            Some((ReadResponse::Keys { keys, more }, next)) => {
                let next = if more { keys.last().map(|key| behind(key)) } else { next };
                Ok(KeyPage { keys, next })
            }
            Some(_) => unreachable!("a scan of keys is answered with keys"),
            None => Ok(KeyPage { keys: Vec::new(), next: None }),
        }
    }

    /// The answer of the first shard of a range, and where the range continues after that shard.
    async fn read_page(
        self: &Arc<Self>,
        start: &[u8],
        end: Option<&[u8]>,
        size: PageSize,
        values: bool,
        level: ReadLevel,
    ) -> Result<Option<(ReadResponse, Option<Bytes>)>, Refusal> {
        loop {
            let Some(part) = self.first_part(start, end)? else {
                return Ok(None);
            };
            let request = ReadRequest::Scan {
                start: part.start,
                end: part.end,
                limit: size.keys_max.max(1),
                bytes_max: size.bytes_max.min(limits::READ_PAGE_BYTES_MAX),
                values,
            };
            match self.read(&part.route, &request, level).await {
                Ok(response) => return Ok(Some((response, part.next))),
                Err(refusal) if self.is_rerouted(&refusal) => {}
                Err(refusal) => return Err(refusal),
            }
        }
    }

    pub(crate) async fn count(
        self: &Arc<Self>,
        start: &[u8],
        end: Option<&[u8]>,
        level: ReadLevel,
    ) -> Result<u64, Refusal> {
        let mut total = 0;
        let mut from = Some(Bytes::copy_from_slice(start));
        while let Some(start) = from.clone() {
            let Some(part) = self.first_part(&start, end)? else {
                break;
            };
            let request = ReadRequest::Count { start: part.start, end: part.end };
            from = match self.read(&part.route, &request, level).await {
                Ok(ReadResponse::Count { keys, next }) => {
                    total += keys;
                    next.or(part.next)
                }
                Ok(_) => unreachable!("a count is answered with a number"),
                Err(refusal) if self.is_rerouted(&refusal) => continue,
                Err(refusal) => return Err(refusal),
            };
        }
        Ok(total)
    }

    /// The shard that owns `start`, and its part of `[start, end)`; `None` if the range is empty. A part
    /// without a known owner is an error: an answer without it would claim that it is empty.
    fn first_part(&self, start: &[u8], end: Option<&[u8]>) -> Result<Option<Part>, Refusal> {
        if end.is_some_and(|end| start >= end) {
            return Ok(None);
        }
        let routes = self.dispatch.map().routes();
        let descriptor = routes.lookup(start).ok_or(Refusal::NoShard)?;
        let own = descriptor.end.as_deref();
        let until = match (own, end) {
            (Some(own), Some(asked)) => Some(own.min(asked)),
            (own, asked) => own.or(asked),
        };
        let copy = Bytes::copy_from_slice;
        Ok(Some(Part {
            route: self.dispatch.route_to(descriptor),
            start: copy(descriptor.start.as_ref().max(start)),
            end: until.map(copy),
            next: own.filter(|own| end.is_none_or(|end| *own < end)).map(copy),
        }))
    }
}

/// The least key after `key`.
fn behind(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}
