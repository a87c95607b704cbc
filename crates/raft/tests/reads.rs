//! Goal: what the transcripts do not tell of reads. Method: one voter, whose rounds are confirmed at once,
//! and a learner that asks it.

mod support;

use quorate_raft::{Body, Config, Membership, Message};
use quorate_types::{Index, Monotonic, ReplicaId};
use support::{BASE, Disk, Site, member};

fn site(reads_pending_max: usize) -> Site {
    let membership = Membership { learners: vec![member(2)], ..Membership::of_voters([member(1)]) };
    let mut config = Config::new(ReplicaId(1), 7, 0);
    config.reads_pending_max = reads_pending_max;
    Site::new(config, Disk::new(membership), BASE.index, Monotonic(0))
}

/// The learner asks with this context.
fn ask(site: &mut Site, context: u64) {
    let (from, to, term) = (ReplicaId(2), ReplicaId(1), site.kernel.role().term);
    let message = Message { from, to, term, body: Body::ReadIndex { context } };
    site.kernel.handle_message(site.now, message);
}

/// What the learner is answered: context and index.
fn answers(site: &mut Site) -> Vec<(u64, Option<Index>)> {
    let ready = site.take_ready();
    let answer = |message: &Message| match message.body {
        Body::ReadIndexReply { context, index } => Some((context, index)),
        _ => None,
    };
    ready.send_now.iter().filter_map(|(_, message)| answer(message)).collect()
}

/// Goal: what followers ask counts against the bound of reads as well, and who is refused learns it at
/// once. Method: one question more than the bound allows, and one to a replica that does not lead.
#[test]
fn a_question_beyond_the_bound_or_to_no_leader_is_refused() {
    let mut site = site(2);
    ask(&mut site, 10);
    assert_eq!(answers(&mut site), [(10, None)], "it does not lead");
    site.elect();
    let at = Some(site.kernel.commit());
    for context in 11..=13 {
        ask(&mut site, context);
    }
    let mut answered = answers(&mut site);
    answered.sort();
    assert_eq!(answered, [(11, at), (12, at), (13, None)]);
    ask(&mut site, 14);
    assert_eq!(answers(&mut site), [(14, at)], "there is room again");
}

/// Goal: a host asks for a lease only where that spares a round. Method: reads of a caller and of the
/// learner, ended by a round and by a lease.
#[test]
fn a_read_is_fresh_until_its_round_begins() {
    let mut site = site(9);
    site.elect();
    assert!(!site.kernel.has_fresh_reads());
    ask(&mut site, 10);
    assert!(site.kernel.has_fresh_reads());
    assert_eq!(answers(&mut site).len(), 1);
    assert!(!site.kernel.has_fresh_reads(), "its round is confirmed");
    let begun = site.kernel.read(site.now);
    assert!(begun.is_ok() && site.kernel.has_fresh_reads());
    site.kernel.confirm_reads_by_lease();
    assert!(!site.kernel.has_fresh_reads(), "a lease has ended it");
    assert_eq!(site.take_ready().reads.len(), 1);
}
