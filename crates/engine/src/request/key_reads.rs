//! Reads by key: split by shard and into pages, sent, put together, and routed again where the map
//! was old.

use std::sync::Arc;

use bytes::Bytes;
use quorate_types::limits;
use rustc_hash::FxHashMap;
use tokio::task::JoinSet;

use crate::calls::read::{ReadLevel, ReadRequest, ReadResponse};
use crate::error::{Invalid, Refusal};
use crate::request::reads::Reads;
use crate::request::route::Route;
use crate::state::tasks::guarded;
use crate::store::data_store::Found;

/// Rounds of a read whose values grow meanwhile, before its caller is told to wait.
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

/// One request: keys of one shard, by their places.
#[derive(Clone)]
struct Page {
    route: Route,
    places: Vec<usize>,
    bytes_max: usize,
}

impl Reads {
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

    /// The values of `keys`, or the length of each if they have more than `bytes_max` bytes: memory
    /// never holds more bytes of values than that.
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
        let request = ReadRequest::Get { keys: vec![key.clone()], bytes_max };
        loop {
            let route = self.dispatch.route(&key)?;
            match self.read(&route, &request, level).await {
                Ok(ReadResponse::Values(values)) => return Ok(Found::All(values)),
                Ok(ReadResponse::Lengths(lengths)) => return Ok(Found::Lengths(lengths)),
                Ok(_) => unreachable!("a get is answered with values or lengths"),
                Err(refusal) if self.is_rerouted(&refusal) => {}
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// The requests still to be sent, by the present map.
    fn pages(
        &self,
        keys: &[Bytes],
        known: &[Known],
        bytes_max: usize,
    ) -> Result<Vec<Page>, Refusal> {
        let asked = places_to_ask(known).into_iter();
        let routes: Result<Vec<_>, Refusal> =
            asked.map(|place| Ok((place, self.dispatch.route(&keys[place])?))).collect();
        Ok(pages(routes?, known, bytes_max))
    }

    /// Sends all `pages` concurrently; true if some had too little room for their values. If this future
    /// is dropped, they all are.
    async fn read_pages(
        self: &Arc<Self>,
        keys: &[Bytes],
        pages: Vec<Page>,
        known: &mut [Known],
        level: ReadLevel,
    ) -> Result<bool, Refusal> {
        let mut asked = JoinSet::new();
        for Page { route, places, bytes_max } in pages {
            let reads = Arc::clone(self);
            let wanted = places.iter().map(|place| keys[*place].clone()).collect();
            let fatal = Arc::clone(&self.fatal);
            let read = async move {
                let request = ReadRequest::Get { keys: wanted, bytes_max };
                (places, reads.read(&route, &request, level).await)
            };
            asked.spawn(guarded(fatal, "read of many", read));
        }
        let mut was_short = false;
        while let Some(answer) = asked.join_next().await {
            let answer = answer.map_err(|error| Refusal::Stopped(error.to_string()))?;
            let (places, answer) = answer.ok_or_else(|| self.dispatch.stopped())?;
            match answer {
                Ok(ReadResponse::Values(values)) => {
                    places.into_iter().zip(values).for_each(|(p, v)| known[p] = Known::Value(v));
                }
                Ok(ReadResponse::Lengths(lengths)) => {
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
    /// try takes another route. Versions only rise, so this ends.
    pub(crate) fn is_rerouted(&self, refusal: &Refusal) -> bool {
        match refusal {
            Refusal::StaleRoute { routed, current } => self
                .dispatch
                .map()
                .descriptor(current.shard)
                .is_none_or(|known| known.epoch.version != *routed),
            _ => false,
        }
    }
}

/// The keys to be requested next: those of which nothing is known; and once all lengths are known
/// to be within the bound together, those of which only the length is known.
fn places_to_ask(known: &[Known]) -> Vec<usize> {
    let of_kind = |wanted: fn(&Known) -> bool| -> Vec<usize> {
        known.iter().enumerate().filter(|(_, k)| wanted(k)).map(|(place, _)| place).collect()
    };
    let unknown = of_kind(|known| matches!(known, Known::Nothing));
    match unknown.is_empty() {
        true => of_kind(|known| matches!(known, Known::Length(_))),
        false => unknown,
    }
}

/// The requests for the keys at the places of `asked`. The keys of a shard are one page, read at one
/// moment, if they fit one: a key of known length has as much room as it needs, an unknown one its share
/// of what is left of `bytes_max`, and no more than its share of a page.
fn pages(asked: Vec<(usize, Route)>, known: &[Known], bytes_max: usize) -> Vec<Page> {
    let held = known.iter().fold(0usize, |sum, known| sum.saturating_add(known.length()));
    let mut keys_by_shard = FxHashMap::default();
    for (_, route) in &asked {
        *keys_by_shard.entry(route.shard).or_insert(0) += 1;
    }
    // Rounded down, so that all parts are at most the whole.
    let part = bytes_max.saturating_sub(held) / asked.len().max(1);
    let mut pages: Vec<Page> = Vec::new();
    // The page that is being filled, of each shard.
    let mut filling = FxHashMap::default();
    for (place, route) in asked {
        let bytes = match &known[place] {
            Known::Nothing => {
                let keys: usize = keys_by_shard[&route.shard];
                part.min(limits::READ_PAGE_BYTES_MAX / keys.min(limits::READ_PAGE_KEYS_MAX))
            }
            known => known.length(),
        };
        let slot = filling.entry(route.shard).or_insert(usize::MAX);
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
    pages
}

/// Each key once, and for every place of `keys` its index among them.
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
    use quorate_types::ShardId;

    use super::*;

    #[test]
    fn each_key_is_read_once() {
        let keys = ["a", "b", "a", "c", "b"].map(Bytes::from);
        let (unique, places) = unique(&keys);
        assert_eq!(unique, ["a", "b", "c"]);
        assert_eq!(places, [0, 1, 0, 2, 1]);
    }

    /// The pages of `known` keys, whose shards are `shards`: shard, places and bytes of each.
    fn paged(shards: &[u64], known: &[Known], bytes_max: usize) -> Vec<(u64, Vec<usize>, usize)> {
        let route = |place: usize| Route {
            shard: ShardId(shards[place]),
            descriptor_version: 1,
            local: None,
            members: Vec::new(),
        };
        let asked = places_to_ask(known).into_iter().map(|place| (place, route(place))).collect();
        let pages = pages(asked, known, bytes_max).into_iter();
        pages.map(|page| (page.route.shard.0, page.places, page.bytes_max)).collect()
    }

    /// Goal: the keys of a shard are requested together if they fit a page, whatever the bound of all;
    /// else a write between two reads would tear them. Method: all counts of keys up to a page's,
    /// unknown and of known lengths.
    #[test]
    fn the_keys_of_a_shard_are_one_look() {
        const PAGE: usize = limits::READ_PAGE_BYTES_MAX;
        for keys in 1..=limits::READ_PAGE_KEYS_MAX {
            // Every other key is of another shard.
            let shards: Vec<u64> = (0..2 * keys as u64).map(|place| place % 2).collect();
            let places = |shard| (shard..2 * keys).step_by(2).collect::<Vec<_>>();
            for bytes_max in [0, 1 << 20, PAGE, limits::READ_BYTES_MAX] {
                let pages = paged(&shards, &vec![Known::Nothing; 2 * keys], bytes_max);
                assert_eq!(pages.len(), 2, "{keys} keys of each shard, {bytes_max} bytes");
                assert_eq!((&pages[0].1, &pages[1].1), (&places(0), &places(1)));
                assert!(pages.iter().all(|(_, _, bytes)| *bytes <= PAGE));
            }
            let length = (PAGE / keys) as u64;
            let pages = paged(&shards, &vec![Known::Length(Some(length)); 2 * keys], usize::MAX);
            assert_eq!(pages.len(), 2, "{keys} keys of {length} bytes of each shard");
        }
        let beyond = vec![Known::Nothing; limits::READ_PAGE_KEYS_MAX + 1];
        assert_eq!(paged(&vec![7; beyond.len()], &beyond, PAGE).len(), 2);
    }

    /// Goal: concurrent requests ask for at most the bound's bytes, together with what is held already.
    /// Method: keys that were rerouted, beside others of which the length or the value is known.
    #[test]
    fn nothing_is_read_before_all_lengths_are_known() {
        let value = Known::Value(Some(Bytes::from(vec![0; 40])));
        let length = Known::Length(Some(1_000));
        let known = [length.clone(), Known::Nothing, value.clone(), length.clone()];
        assert_eq!(paged(&[1, 2, 3, 4], &known, 3_000), [(2, vec![1], 960)]);
        assert_eq!(paged(&[1, 2, 3, 4], &known, 100), [(2, vec![1], 0)], "all is held");
        let known = [length.clone(), value.clone(), value, length];
        let all = [(1, vec![0], 1_000), (4, vec![3], 1_000)];
        assert_eq!(paged(&[1, 2, 3, 4], &known, 3_000), all);
    }
}
