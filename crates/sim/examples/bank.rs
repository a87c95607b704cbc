//! An example of a custom state machine under every fault of the simulated world: a bank, whose
//! money must neither appear nor vanish. docs/simulation.md walks through it.
//!
//! ```text
//! cargo run --release -p quorate-sim --example bank            every seed passes
//! cargo run --release -p quorate-sim --example bank -- memory  a bug, found by `replicas_agree`
//! cargo run --release -p quorate-sim --example bank -- self    a bug, found by the bank's own audit
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_machine::{ApplyContext, OrderedMap, StateMachine};
use quorate_sim::linearizability::ClientId;
use quorate_sim::{Ask, Moment, Outcome, Workload, World, WorldConfig};
use quorate_types::ShardId;

const ACCOUNTS: u64 = 5;
/// The balance of an account that was never touched.
const OPENING: u64 = 100;

/// Bugs to plant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// The machine refuses a command equal to the one before, which it keeps in a field: a restart
    /// and a snapshot forget it.
    Memory,
    /// Both balances are read before either is written: a transfer to the same account adds money.
    SelfPayment,
}

/// Interprets `[from, to, amount]`, a byte each.
struct Bank {
    bug: Bug,
    last: Option<Bytes>,
}

fn balance(map: &mut dyn OrderedMap, account: u8) -> u64 {
    let stored = map.get(&[account]);
    stored.map_or(OPENING, |bytes| u64::from_le_bytes(bytes[..].try_into().expect("8 bytes")))
}

impl StateMachine for Bank {
    fn apply(&mut self, _: ApplyContext, command: &[u8], map: &mut dyn OrderedMap) -> Bytes {
        let [from, to, amount] = *command else { return Bytes::from_static(b"malformed") };
        if self.bug == Bug::Memory {
            let repeated = self.last.replace(Bytes::copy_from_slice(command));
            if repeated.is_some_and(|last| last == command) {
                return Bytes::from_static(b"repeated");
            }
        }
        let amount = u64::from(amount);
        let (payer, payee) = (balance(map, from), balance(map, to));
        if payer < amount || (from == to && self.bug != Bug::SelfPayment) {
            return Bytes::from_static(b"refused");
        }
        map.put(&[from], &(payer - amount).to_le_bytes());
        map.put(&[to], &(payee + amount).to_le_bytes());
        Bytes::from_static(b"paid")
    }
}

/// Clients pay at random and audit now and then.
struct Customers {
    bug: Bug,
    /// Requests under way: whether each is an audit.
    audits: BTreeMap<u64, bool>,
    /// The last order of each customer: some customers send it twice.
    orders: BTreeMap<(ClientId, ShardId), Bytes>,
}

impl Customers {
    fn with(bug: Bug) -> Box<dyn Workload> {
        Box::new(Customers { bug, audits: BTreeMap::new(), orders: BTreeMap::new() })
    }
}

impl Workload for Customers {
    fn machine(&self) -> Box<dyn StateMachine> {
        Box::new(Bank { bug: self.bug, last: None })
    }

    fn ask(&mut self, moment: Moment<'_>, client: ClientId, shard: ShardId, number: u64) -> Ask {
        let is_audit = moment.random.chance(300);
        self.audits.insert(number, is_audit);
        if is_audit {
            return Ask::Read;
        }
        let last = self.orders.get(&(client, shard)).filter(|_| moment.random.chance(300));
        let mut byte = |bound| u8::try_from(moment.random.below(bound)).expect("a small bound");
        let new = || Bytes::copy_from_slice(&[byte(ACCOUNTS), byte(ACCOUNTS), byte(30)]);
        let order = last.cloned().unwrap_or_else(new);
        self.orders.insert((client, shard), order.clone());
        Ask::Write(order)
    }

    fn answer(&mut self, _: Moment<'_>, number: u64, outcome: Outcome<'_>) -> Result<(), String> {
        self.audits.remove(&number).ok_or("a request was answered twice")?;
        let Outcome::Read(map) = outcome else { return Ok(()) };
        let total: u64 = (0..ACCOUNTS).map(|account| balance(map, account as u8)).sum();
        let expected = ACCOUNTS * OPENING;
        if total == expected {
            Ok(())
        } else {
            Err(format!("the bank has {total}, not {expected}"))
        }
    }
}

fn main() {
    let (workload, replay): (fn() -> Box<dyn Workload>, _) =
        match std::env::args().nth(1).as_deref() {
            None | Some("sound") => (
                || Customers::with(Bug::None),
                "cargo run --release -p quorate-sim --example bank -- sound",
            ),
            Some("memory") => (
                || Customers::with(Bug::Memory),
                "cargo run --release -p quorate-sim --example bank -- memory",
            ),
            Some("self") => (
                || Customers::with(Bug::SelfPayment),
                "cargo run --release -p quorate-sim --example bank -- self",
            ),
            Some(other) => {
                eprintln!("no bug is called {other}: sound, memory, or self");
                std::process::exit(2);
            }
        };
    let seeds = match std::env::args().nth(2).map(|seed| seed.parse()) {
        None => 1..=20,
        Some(Ok(seed)) => seed..=seed,
        Some(Err(error)) => {
            eprintln!("the seed is no number: {error}");
            std::process::exit(2);
        }
    };
    for seed in seeds {
        let config = WorldConfig { workload, replay, ..WorldConfig::new(seed) };
        match World::new(config).run() {
            Ok(finished) => println!("seed {seed}: {} writes", finished.report.acknowledged),
            Err(failure) => {
                println!("{failure}");
                std::process::exit(1);
            }
        }
    }
}
