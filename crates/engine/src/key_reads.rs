//! Reads by key and by range: split by shard, asked, put together, and routed anew where the map
//! turns out to be old.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::{Core, Route};
use crate::error::Refusal;
use crate::guarded::guarded;
use crate::reads::ReadLevel;
use crate::shard_read::{Facts, Question, SCAN_BYTES_MAX};

/// The first shard of a range, and its part of it.
struct Part {
    route: Route,
    start: Bytes,
    end: Option<Bytes>,
    /// Where the range goes on behind the shard; `None`: it ends here.
    next: Option<Bytes>,
}

impl Core {
    pub(crate) async fn get(&self, key: &[u8], level: ReadLevel) -> Result<Option<Bytes>, Refusal> {
        let question = Question::Get(vec![Bytes::copy_from_slice(key)]);
        loop {
            let route = self.route(key)?;
            match self.read(route, question.clone(), level).await {
                Ok(Facts::Values(values)) => return Ok(values.into_iter().next().flatten()),
                Ok(_) => unreachable!("a get is answered with values"),
                Err(refusal) if self.is_rerouted(&refusal) => {}
                Err(refusal) => return Err(refusal),
            }
        }
    }

    pub(crate) async fn get_many(
        self: &Arc<Self>,
        keys: &[Bytes],
        level: ReadLevel,
    ) -> Result<Vec<Option<Bytes>>, Refusal> {
        let mut values = vec![None; keys.len()];
        let mut places: Vec<usize> = (0..keys.len()).collect();
        while !places.is_empty() {
            let mut asked = Vec::new();
            for (route, places) in self.by_shard(keys, &places)? {
                let wanted = places.iter().map(|place| keys[*place].clone()).collect();
                let core = Arc::clone(self);
                let guard = Arc::downgrade(&core);
                let read = async move { core.read(route, Question::Get(wanted), level).await };
                asked.push((tokio::spawn(guarded(guard, "read of many", read)), places));
            }
            places.clear();
            for (read, part) in asked {
                let answer = read.await.map_err(|error| Refusal::Stopped(error.to_string()))?;
                match answer.unwrap_or_else(|| Err(self.stopped())) {
                    Ok(Facts::Values(found)) => {
                        part.into_iter().zip(found).for_each(|(place, v)| values[place] = v);
                    }
                    Ok(_) => unreachable!("a get is answered with values"),
                    Err(refusal) if self.is_rerouted(&refusal) => places.extend(part),
                    Err(refusal) => return Err(refusal),
                }
            }
        }
        Ok(values)
    }

    /// The places of `keys` that are wanted, by the shard that owns the key there.
    fn by_shard(
        &self,
        keys: &[Bytes],
        places: &[usize],
    ) -> Result<Vec<(Route, Vec<usize>)>, Refusal> {
        let mut parts: Vec<(Route, Vec<usize>)> = Vec::new();
        for &place in places {
            let route = self.route(&keys[place])?;
            match parts.iter_mut().find(|(known, _)| known.shard == route.shard) {
                Some((_, places)) => places.push(place),
                None => parts.push((route, vec![place])),
            }
        }
        Ok(parts)
    }

    pub(crate) async fn scan(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        limit: usize,
        level: ReadLevel,
    ) -> Result<Vec<(Bytes, Bytes)>, Refusal> {
        let mut pairs = Vec::new();
        let mut from = Some(Bytes::copy_from_slice(start));
        while let Some(start) = from.clone().filter(|_| pairs.len() < limit) {
            let Some(part) = self.first_part(&start, end)? else {
                break;
            };
            let limit = limit - pairs.len();
            let question = Question::Scan { start: part.start, end: part.end, limit };
            let found = match self.read(part.route, question, level).await {
                Ok(Facts::Pairs(found)) => found,
                Ok(_) => unreachable!("a scan is answered with pairs"),
                Err(refusal) if self.is_rerouted(&refusal) => continue,
                Err(refusal) => return Err(refusal),
            };
            let bytes: usize = found.iter().map(|(key, value)| key.len() + value.len()).sum();
            from = match found.last() {
                // Cut short: it goes on at the least key behind the last one.
                Some((last, _)) if bytes >= SCAN_BYTES_MAX => {
                    Some([last.as_ref(), &[0]].concat().into())
                }
                _ => part.next,
            };
            pairs.extend(found);
        }
        Ok(pairs)
    }

    pub(crate) async fn count(
        &self,
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
            let question = Question::Count { start: part.start, end: part.end };
            match self.read(part.route, question, level).await {
                Ok(Facts::Count(count)) => total += count,
                Ok(_) => unreachable!("a count is answered with a number"),
                Err(refusal) if self.is_rerouted(&refusal) => continue,
                Err(refusal) => return Err(refusal),
            }
            from = part.next;
        }
        Ok(total)
    }

    /// The shard that owns `start`, and its part of `[start, end)`; `None` if the range is empty. What
    /// no shard is known to own is no empty part: an answer without it would claim that it is.
    fn first_part(&self, start: &[u8], end: Option<&[u8]>) -> Result<Option<Part>, Refusal> {
        if end.is_some_and(|end| start >= end) {
            return Ok(None);
        }
        let routes = self.map.routes();
        let descriptor = routes.lookup(start).ok_or(Refusal::NoShard)?;
        let own = descriptor.end.as_deref();
        let until = match (own, end) {
            (Some(own), Some(asked)) => Some(own.min(asked)),
            (own, asked) => own.or(asked),
        };
        let copy = Bytes::copy_from_slice;
        Ok(Some(Part {
            route: self.route_to(descriptor),
            start: copy(descriptor.start.as_ref().max(start)),
            end: until.map(copy),
            next: own.filter(|own| end.is_none_or(|end| *own < end)).map(copy),
        }))
    }

    /// True if the refusal was for an old route and the map has a newer one by now, so that another
    /// try goes another way. Versions only rise, so this ends.
    fn is_rerouted(&self, refusal: &Refusal) -> bool {
        match refusal {
            Refusal::StaleRoute { routed, current } => self
                .map
                .descriptor(current.shard)
                .is_none_or(|known| known.epoch.version != *routed),
            _ => false,
        }
    }
}
