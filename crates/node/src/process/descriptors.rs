//! Files and sockets: how many the process may have, and how they are shared out.
//!
//! A log that can't open its next file is a permanent fault (RULE 8), so clients must never be able
//! to take the last descriptor. Every node gets a share of the process's limit. Table files, the
//! admin port and clients each get a part of it; the rest belongs to the stores alone.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use quorate_types::limits;

/// Table files get one part in so many of a small share: more would leave clients too few, fewer
/// would make every other read open a file.
const TABLES_PART: usize = 3;
/// The admin port's part of a small share.
const ADMIN_PART: usize = 16;

/// The share of one node, and its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// All descriptors of the node.
    pub max: usize,
    /// Table files of both stores.
    pub table_files_max: usize,
    /// Connections to the admin port.
    pub admin_connections_max: usize,
    /// Connections to the Redis port.
    pub clients_max: usize,
}

/// The process's limit of descriptors is too low.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {found} open files and sockets; {nodes} of its nodes need at least {needed}: \
     raise the limit before the start, with `ulimit -Hn {wanted}` as root, or LimitNOFILE={wanted} \
     in its systemd unit"
)]
pub struct TooFewDescriptors {
    /// The limit.
    pub found: usize,
    /// Nodes of the process.
    pub nodes: usize,
    /// The least that they need.
    pub needed: usize,
    /// A limit that is enough for everything.
    pub wanted: usize,
}

impl Descriptors {
    /// Raises the process's limit as far as needed and allowed, and returns the share of each of
    /// its `nodes`.
    ///
    /// # Errors
    /// [`TooFewDescriptors`] if the system allows too few.
    pub fn claim(nodes: usize) -> Result<Descriptors, TooFewDescriptors> {
        Descriptors::share(raise(limits::DESCRIPTORS_WANTED * nodes), nodes)
    }

    /// The share of each of `nodes` in a process that may have `max`.
    ///
    /// # Errors
    /// [`TooFewDescriptors`].
    ///
    /// # Panics
    /// Without nodes.
    pub fn share(max: usize, nodes: usize) -> Result<Descriptors, TooFewDescriptors> {
        assert!(nodes > 0, "a process without nodes has nothing to share");
        let needed = limits::DESCRIPTORS_MIN * nodes;
        if max < needed {
            let wanted = limits::DESCRIPTORS_WANTED * nodes;
            return Err(TooFewDescriptors { found: max, nodes, needed, wanted });
        }
        let own = max / nodes;
        let table_files_max = limits::TABLE_FILES_MAX.min(own / TABLES_PART);
        let admin_connections_max = limits::ADMIN_CONNECTIONS_MAX.min(own / ADMIN_PART);
        let rest = own - table_files_max - admin_connections_max - limits::DESCRIPTORS_RESERVED;
        let clients_max = limits::CLIENTS_MAX.min(rest);
        Ok(Descriptors { max: own, table_files_max, admin_connections_max, clients_max })
    }

    /// What an operator should know before clients are turned away; nothing if there are enough.
    #[must_use]
    pub fn shortage(&self) -> Option<String> {
        let Descriptors { max, clients_max, .. } = *self;
        let (usual, wanted) = (limits::CLIENTS_MAX, limits::DESCRIPTORS_WANTED);
        (clients_max < usual).then(|| {
            format!(
                "it may have {max} open files and sockets, so it takes {clients_max} clients at once and \
                 not {usual}: raise the limit before its start, with `ulimit -Hn {wanted}` as root, \
                 or LimitNOFILE={wanted} in its systemd unit"
            )
        })
    }

    /// True if a usual application's clients might not find room.
    #[must_use]
    pub fn are_few(&self) -> bool {
        self.clients_max < limits::CLIENTS_FEW
    }
}

/// Raises the soft limit to `wanted`, or as far as the hard limit allows; returns the limit in
/// force.
fn raise(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = maximum.map_or(wanted as u64, |maximum| maximum.min(wanted as u64));
    let in_force = match current {
        // No limit at all.
        None => return usize::MAX,
        Some(current) if current >= raised => current,
        Some(current) => {
            match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
                Ok(()) => raised,
                Err(error) => {
                    tracing::warn!(%error, current, raised, "the limit of open files stays as it is");
                    current
                }
            }
        }
    };
    usize::try_from(in_force).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whatever the limit, the parts and the reserve fit it, and each part has some. Method:
    /// every limit up to well above what is wanted, for one node and for several.
    #[test]
    fn the_parts_fit_the_whole() {
        for nodes in [1, 3, 64] {
            for max in (0..80_000).step_by(7) {
                let Ok(parts) = Descriptors::share(max, nodes) else {
                    assert!(max < limits::DESCRIPTORS_MIN * nodes, "{max} are enough");
                    continue;
                };
                let Descriptors { table_files_max, admin_connections_max, clients_max, .. } = parts;
                let taken = table_files_max + admin_connections_max + clients_max;
                assert!((taken + limits::DESCRIPTORS_RESERVED) * nodes <= max, "{max}: {parts:?}");
                assert!(clients_max >= 16 && table_files_max >= 64 && admin_connections_max >= 8);
            }
        }
    }

    /// Goal: the usual limits give what they should, and a small one is called small.
    #[test]
    fn usual_limits() {
        let share = |max| Descriptors::share(max, 1).expect("enough");
        let plenty = share(limits::DESCRIPTORS_WANTED);
        assert_eq!(plenty.clients_max, limits::CLIENTS_MAX);
        assert_eq!(plenty.table_files_max, limits::TABLE_FILES_MAX);
        assert_eq!((plenty.shortage(), plenty.are_few()), (None, false));
        let few = share(1_024);
        assert!(few.are_few() && few.clients_max >= 400, "{few:?}");
        let told = few.shortage().expect("a shortage");
        assert!(told.contains("ulimit -Hn 16384") && told.contains("1024 open files"), "{told}");
        let refused = Descriptors::share(255, 1).expect_err("too few").to_string();
        assert!(
            refused.contains("need at least 256") && refused.contains("LimitNOFILE"),
            "{refused}"
        );
    }
}
