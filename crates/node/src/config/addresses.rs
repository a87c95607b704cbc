//! Checks addresses: each must be right in itself, and none may be used twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::faults::{Faults, Placed};
use super::section::Section;

/// The three addresses of a node. A missing one was left out, or is wrong and noted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Addresses {
    pub(super) address: Option<Placed<SocketAddr>>,
    pub(super) redis: Option<Placed<SocketAddr>>,
    pub(super) admin: Option<Placed<SocketAddr>>,
}

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Other nodes or clients connect to it.
    Reach,
    /// The node only listens on it.
    Listen,
}

impl Addresses {
    /// Reads those that are there.
    pub(super) fn read(section: &Section<'_>, wanted: Use, faults: &mut Faults<'_>) -> Addresses {
        let mut read = |name| section.text(name, faults).map(|text| (name, text));
        let (address, redis, admin) = (read("address"), read("redis"), read("admin"));
        let mut check = |found: Option<(&'static str, Placed<&str>)>| {
            let (name, text) = found?;
            match check(name, text.value, wanted) {
                Ok(value) => Some(Placed { value, at: text.at }),
                Err(what) => {
                    faults.add(text.at, what);
                    None
                }
            }
        };
        Addresses { address: check(address), redis: check(redis), admin: check(admin) }
    }
}

fn check(name: &str, text: &str, wanted: Use) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| {
        format!(
            "`{name}` is \"{text}\", not an IP address with a port; write it like \
             \"127.0.0.1:7101\" or \"[::1]:7101\" (names of hosts are not looked up)"
        )
    })?;
    if address.port() == 0 {
        return Err(format!(
            "`{name}` has port 0, which means another port at each start, and nobody would know \
             it; choose one"
        ));
    }
    if address.ip().is_unspecified() && wanted == Use::Reach {
        return Err(format!(
            "`{name}` is {address}, which nobody can connect to; write the machine's own address \
             here, and {address} under [listen]"
        ));
    }
    Ok(address)
}

/// Finds addresses that two nodes, or two services, were given. QUIC is UDP; Redis and HTTP are
/// both TCP, so that they must differ from each other too.
#[derive(Default)]
pub(super) struct Taken {
    /// By protocol and address: its owner and its line.
    owners: BTreeMap<(&'static str, SocketAddr), (String, usize)>,
}

impl Taken {
    /// Notes each of `addresses` that was there before. `owner` is in words.
    pub(super) fn add(&mut self, owner: &str, addresses: &Addresses, faults: &mut Faults<'_>) {
        for (protocol, name, address) in [
            ("UDP", "address", addresses.address),
            ("TCP", "redis", addresses.redis),
            ("TCP", "admin", addresses.admin),
        ] {
            let Some(Placed { value, at }) = address else {
                continue;
            };
            match self.owners.get(&(protocol, value)) {
                Some((first, line)) => faults.add(
                    at,
                    format!(
                        "`{name}` is {value}, which is {first} (line {line}) already; give each \
                         its own"
                    ),
                ),
                None => {
                    let place = (format!("`{name}` of {owner}"), faults.line(at));
                    self.owners.insert((protocol, value), place);
                }
            }
        }
    }
}
