//! Reads by key: split by shard and into pages, asked, put together, and routed anew where the map
//! turns out to be old.

use std::sync::Arc;

use bytes::Bytes;
use quorate_types::limits;
use rustc_hash::FxHashMap;
use tokio::task::JoinSet;

use crate::core::{Core, Route};
use crate::data::Found;
use crate::error::{Invalid, Refusal};
use crate::guarded::guarded;
use crate::reads::ReadLevel;
use crate::shard_read::{Facts, Question};

/// Rounds of a read whose values grow while it goes on, before the caller is told to wait.
const ROUNDS_MAX: usize = 16;

/// What is known of one key.
#[derive(Clone, Debug)]
enum Known {
    Nothing,
    Value(Option<Bytes>),
    Length(Option<u64>),
}

impl Known {
    fn length(&self) -> usize {
        let length = match self {
            Known::Nothing | Known::Value(None) | Known::Length(None) => 0,
            Known::Value(Some(value)) => value.len() as u64,
            Known::Length(Some(length)) => *length,
        };
        usize::try_from(length).unwrap_or(usize::MAX)
    }
}

/// One question: keys of one shard, by their places.
#[derive(Clone)]
struct Page {
    route: Route,
    places: Vec<usize>,
    bytes_max: usize,
}

impl Core {
    pub(crate) async fn get(
        self: &Arc<Self>,
        key: &[u8],
        level: ReadLevel,
    ) -> Result<Option<Bytes>, Refusal> {
        let key = Bytes::copy_from_slice(key);
        match self.get_one(key, limits::READ_BYTES_MAX, level).await? {
            Found::All(values) => Ok(values.into_iter().next().flatten()),
            Found::Lengths(lengths) => Err(too_long(&lengths)),
        }
    }

    pub(crate) async fn get_many(
        self: &Arc<Self>,
        keys: &[Bytes],
        level: ReadLevel,
    ) -> Result<Vec<Option<Bytes>>, Refusal> {
        match self.get_within(keys, limits::READ_BYTES_MAX, level).await? {
            Found::All(values) => Ok(values),
            Found::Lengths(lengths) => Err(too_long(&lengths)),
        }
    }

    /// The values of `keys`, or how long each is if they have more than `bytes_max` bytes: no more
    /// than those are ever held.
    pub(crate) async fn get_within(
        self: &Arc<Self>,
        keys: &[Bytes],
        bytes_max: usize,
        level: ReadLevel,
    ) -> Result<Found, Refusal> {
        if let [key] = keys {
            return self.get_one(key.clone(), bytes_max, level).await;
        }
        let (unique, places) = unique(keys);
        let mut known = vec![Known::Nothing; unique.len()];
        let mut rounds = 0;
        loop {
            let pages = self.pages(&unique, &known, bytes_max)?;
            if pages.is_empty() {
                break;
            }
            rounds += usize::from(self.read_pages(&unique, pages, &mut known, level).await?);
            let total =
                places.iter().fold(0usize, |sum, place| sum.saturating_add(known[*place].length()));
            let is_whole = known.iter().all(|known| !matches!(known, Known::Nothing));
            if is_whole && total > bytes_max {
                let length = |place: &usize| match &known[*place] {
                    Known::Value(value) => value.as_ref().map(|value| value.len() as u64),
                    Known::Length(length) => *length,
                    Known::Nothing => unreachable!("it is whole"),
                };
                return Ok(Found::Lengths(places.iter().map(length).collect()));
            }
            if rounds > ROUNDS_MAX {
                let what = "room for values that grow while they are read";
                return Err(Refusal::Busy { what, wait: limits::HEARTBEAT });
            }
        }
        let value = |place: usize| match &known[place] {
            Known::Value(value) => value.clone(),
            Known::Nothing | Known::Length(_) => unreachable!("no page is left to be asked"),
        };
        Ok(Found::All(places.into_iter().map(value).collect()))
    }

    async fn get_one(
        self: &Arc<Self>,
        key: Bytes,
        bytes_max: usize,
        level: ReadLevel,
    ) -> Result<Found, Refusal> {
        let question = Question::Get { keys: vec![key.clone()], bytes_max };
        loop {
            let route = self.route(&key)?;
            match self.read(route, question.clone(), level).await {
                Ok(Facts::Values(values)) => return Ok(Found::All(values)),
                Ok(Facts::Lengths(lengths)) => return Ok(Found::Lengths(lengths)),
                Ok(_) => unreachable!("a get is answered with values or lengths"),
                Err(refusal) if self.is_rerouted(&refusal) => {}
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// The questions still to be asked: of keys of which nothing is known, each page with its part of
    /// `bytes_max`; of those whose length is known, with as much as they need.
    fn pages(
        &self,
        keys: &[Bytes],
        known: &[Known],
        bytes_max: usize,
    ) -> Result<Vec<Page>, Refusal> {
        let unknown = known.iter().filter(|known| matches!(known, Known::Nothing)).count();
        let mut pages: Vec<Page> = Vec::new();
        // The page that is being filled, of each shard.
        let mut filling = FxHashMap::default();
        for (place, key) in keys.iter().enumerate() {
            let (bytes, is_known) = match &known[place] {
                Known::Value(_) => continue,
                Known::Length(_) => (known[place].length(), true),
                // Rounded down, so that all parts are at most the whole.
                Known::Nothing => (bytes_max / unknown, false),
            };
            let route = self.route(key)?;
            let slot = filling.entry((route.shard, is_known)).or_insert(usize::MAX);
            let has_room = pages.get(*slot).is_some_and(|page| {
                page.places.len() < limits::READ_PAGE_KEYS_MAX
                    && page.bytes_max.saturating_add(bytes) <= limits::READ_PAGE_BYTES_MAX
            });
            if !has_room {
                *slot = pages.len();
                pages.push(Page { route, places: Vec::new(), bytes_max: 0 });
            }
            pages[*slot].places.push(place);
            pages[*slot].bytes_max = pages[*slot].bytes_max.saturating_add(bytes);
        }
        Ok(pages)
    }

    /// Asks all `pages` side by side; true if some had too little room for their values. Dropped, it
    /// drops them all.
    async fn read_pages(
        self: &Arc<Self>,
        keys: &[Bytes],
        pages: Vec<Page>,
        known: &mut [Known],
        level: ReadLevel,
    ) -> Result<bool, Refusal> {
        let mut asked = JoinSet::new();
        for Page { route, places, bytes_max } in pages {
            let core = Arc::clone(self);
            let wanted = places.iter().map(|place| keys[*place].clone()).collect();
            let guard = Arc::downgrade(&core);
            let read = async move {
                let question = Question::Get { keys: wanted, bytes_max };
                (places, core.read(route, question, level).await)
            };
            asked.spawn(guarded(guard, "read of many", read));
        }
        let mut was_short = false;
        while let Some(answer) = asked.join_next().await {
            let answer = answer.map_err(|error| Refusal::Stopped(error.to_string()))?;
            let (places, answer) = answer.ok_or_else(|| self.stopped())?;
            match answer {
                Ok(Facts::Values(values)) => {
                    places.into_iter().zip(values).for_each(|(p, v)| known[p] = Known::Value(v));
                }
                Ok(Facts::Lengths(lengths)) => {
                    was_short = true;
                    places.into_iter().zip(lengths).for_each(|(p, l)| known[p] = Known::Length(l));
                }
                Ok(_) => unreachable!("a get is answered with values or lengths"),
                Err(refusal) if self.is_rerouted(&refusal) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(was_short)
    }

    /// True if the refusal was for an old route and the map has a newer one by now, so that another
    /// try goes another way. Versions only rise, so this ends.
    pub(crate) fn is_rerouted(&self, refusal: &Refusal) -> bool {
        match refusal {
            Refusal::StaleRoute { routed, current } => self
                .map
                .descriptor(current.shard)
                .is_none_or(|known| known.epoch.version != *routed),
            _ => false,
        }
    }
}

/// Each key once, and for every place of `keys` where among them it is.
fn unique(keys: &[Bytes]) -> (Vec<Bytes>, Vec<usize>) {
    let mut first: FxHashMap<&Bytes, usize> = FxHashMap::default();
    let mut unique = Vec::with_capacity(keys.len());
    let places = keys.iter().map(|key| {
        *first.entry(key).or_insert_with(|| {
            unique.push(key.clone());
            unique.len() - 1
        })
    });
    let places = places.collect();
    (unique, places)
}

fn too_long(lengths: &[Option<u64>]) -> Refusal {
    let found = lengths.iter().flatten().fold(0u64, |sum, length| sum.saturating_add(*length));
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    Invalid::AnswerTooLong { found, max: limits::READ_BYTES_MAX }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_read_once() {
        let keys = ["a", "b", "a", "c", "b"].map(Bytes::from);
        let (unique, places) = unique(&keys);
        assert_eq!(unique, ["a", "b", "c"]);
        assert_eq!(places, [0, 1, 0, 2, 1]);
    }
}
