//! The membership of a group. It lives in the log (or in the base state) and nowhere else.

use quorate_types::{ByteReader, CutShort, NodeId, ReplicaId};

/// The most members of one list. Every further voter makes each commit wait for more disks, so
/// groups are small; the bound keeps a forged membership cheap to refuse.
const MEMBERS_MAX: usize = 64;

/// One replica of a group and the node it lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Unique per admission to the group.
    pub replica: ReplicaId,
    /// Where its messages go.
    pub node: NodeId,
}

/// The members of a group. While `outgoing` is not empty the group is in joint consensus (Raft
/// paper, section 6): decisions need a majority of `voters` and one of `outgoing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Voters, ascending by replica id.
    pub voters: Vec<Member>,
    /// Voters of the configuration that is being left; empty outside joint consensus.
    pub outgoing: Vec<Member>,
    /// Members that receive the log and don't vote, ascending by replica id. In joint consensus also
    /// those of `outgoing` that become learners once it is left.
    pub learners: Vec<Member>,
}

/// The bytes are no membership.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("membership of {found} bytes is malformed: {what}")]
pub struct MembershipError {
    /// Length of what was given.
    pub found: usize,
    /// What does not fit.
    pub what: &'static str,
}

impl Membership {
    /// A plain configuration of these voters.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = Member>) -> Membership {
        let mut voters: Vec<Member> = voters.into_iter().collect();
        voters.sort();
        Membership { voters, ..Membership::default() }
    }

    /// Every member once, voters first.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        let more = self.outgoing.iter().filter(|m| !self.voters.contains(m));
        let learners = self.learners.iter().filter(|m| !self.is_voter(m.replica));
        self.voters.iter().chain(more).chain(learners).copied()
    }

    /// True if `replica` votes in either configuration.
    #[must_use]
    pub fn is_voter(&self, replica: ReplicaId) -> bool {
        self.voters.iter().chain(&self.outgoing).any(|m| m.replica == replica)
    }

    /// The node that `replica` lives on.
    #[must_use]
    pub fn node_of(&self, replica: ReplicaId) -> Option<NodeId> {
        self.members().find(|m| m.replica == replica).map(|m| m.node)
    }

    /// True in joint consensus.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// The configuration that joint consensus leads to; this one outside joint consensus.
    #[must_use]
    pub fn settled(&self) -> Membership {
        Membership { outgoing: Vec::new(), ..self.clone() }
    }

    /// Why no group may have this membership, joint or not; `None` if it may. A replica id has one
    /// role per configuration and lives on one node, and a node hosts one replica of the group
    /// (RULE 3).
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let lists = [&self.voters, &self.outgoing, &self.learners];
        if lists.iter().any(|list| list.len() > MEMBERS_MAX) {
            return Some("too many members");
        }
        if self.voters.is_empty() {
            return Some("no voter is left");
        }
        let ascends = |list: &Vec<Member>| list.windows(2).all(|w| w[0].replica < w[1].replica);
        if !lists.into_iter().all(ascends) {
            return Some("replica ids do not ascend");
        }
        if self.learners.iter().any(|l| self.voters.iter().any(|v| v.replica == l.replica)) {
            return Some("a learner votes");
        }
        let all = || lists.into_iter().flatten();
        let is_split = |a: &Member| all().any(|b| (a.replica == b.replica) != (a.node == b.node));
        all().any(is_split).then_some("a replica on two nodes, or two on one node")
    }

    /// Bytes: format 1, then the three lists, each a u16 count and per member replica and node as
    /// u64, little-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let members = self.voters.len() + self.outgoing.len() + self.learners.len();
        let mut bytes = Vec::with_capacity(7 + 16 * members);
        bytes.push(1);
        for list in [&self.voters, &self.outgoing, &self.learners] {
            let count = u16::try_from(list.len()).expect("a group has few members");
            bytes.extend_from_slice(&count.to_le_bytes());
            for member in list {
                bytes.extend_from_slice(&member.replica.0.to_le_bytes());
                bytes.extend_from_slice(&member.node.0.to_le_bytes());
            }
        }
        bytes
    }

    /// Reads what [`Membership::encode`] wrote.
    ///
    /// # Errors
    /// [`MembershipError`] for anything else, also for trailing bytes. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<Membership, MembershipError> {
        let error = |what| MembershipError { found: bytes.len(), what };
        let cut_short = |CutShort| error("cut short");
        let mut reader = ByteReader::new(bytes);
        match reader.u8() {
            Ok(1) => {}
            Ok(_) => return Err(error("unknown version")),
            Err(CutShort) => return Err(error("empty")),
        }
        let mut lists = [Vec::new(), Vec::new(), Vec::new()];
        for list in &mut lists {
            for _ in 0..reader.u16().map_err(cut_short)? {
                let replica = ReplicaId(reader.u64().map_err(cut_short)?);
                let node = NodeId(reader.u64().map_err(cut_short)?);
                list.push(Member { replica, node });
            }
        }
        if !reader.is_empty() {
            return Err(error("trailing bytes"));
        }
        let [voters, outgoing, learners] = lists;
        Ok(Membership { voters, outgoing, learners })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64) -> Member {
        Member { replica: ReplicaId(id), node: NodeId(id + 10) }
    }

    #[test]
    fn bytes_survive_and_every_cut_is_refused() {
        let membership = Membership {
            voters: vec![member(1), member(2)],
            outgoing: vec![member(2), member(3)],
            learners: vec![member(4)],
        };
        let bytes = membership.encode();
        assert_eq!(Membership::decode(&bytes), Ok(membership.clone()));
        for cut in 0..bytes.len() {
            assert!(Membership::decode(&bytes[..cut]).is_err());
        }
        assert_eq!(membership.members().count(), 4);
        assert_eq!(membership.node_of(ReplicaId(3)), Some(NodeId(13)));
    }

    #[test]
    fn unsound_memberships_are_told_apart() {
        let plain = |voters: &[u64], learners: &[u64]| Membership {
            voters: voters.iter().copied().map(member).collect(),
            learners: learners.iter().copied().map(member).collect(),
            outgoing: Vec::new(),
        };
        let joint = |outgoing: &[u64], membership: Membership| Membership {
            outgoing: outgoing.iter().copied().map(member).collect(),
            ..membership
        };
        let moved = Member { replica: ReplicaId(3), node: NodeId(99) };
        let crowded = Member { replica: ReplicaId(9), node: NodeId(11) };
        let table = [
            (plain(&[1, 2], &[3]), true),
            (joint(&[2, 3], plain(&[1, 2], &[3])), true),
            (plain(&[], &[3]), false),
            (joint(&[1], plain(&[], &[])), false),
            (plain(&[1, 1], &[]), false),
            (plain(&[2, 1], &[]), false),
            (plain(&[1, 2], &[2]), false),
            (Membership { learners: vec![crowded], ..plain(&[1, 2], &[]) }, false),
            (Membership { outgoing: vec![moved], ..plain(&[1, 3], &[]) }, false),
            (plain(&(1..=65).collect::<Vec<_>>(), &[]), false),
        ];
        for (membership, is_sound) in table {
            assert_eq!(membership.fault().is_none(), is_sound, "{membership:?}");
        }
    }
}
