//! Goal: work that a client began ends soon after the client has left. Method: one node, a client
//! that pipelines walks over all keys and leaves at once, and the engine's count of answered reads.

use crate::support::OneNode;

#[test]
fn walks_of_a_client_that_left_end() {
    let node = OneNode::start(1, 2);
    let mut watching = node.client();
    for part in 0..20 {
        let pairs: String = (0..1_000).map(|n| format!(" {{{n}}}{part} 1")).collect();
        assert_eq!(watching.ask(&format!("MSET{pairs}")), ["+OK"]);
    }
    let before = node.reads_served();
    let mut leaving = node.client();
    leaving.send("DBSIZE\r\n".repeat(300).as_bytes());
    drop(leaving);
    // Each question is an exchange with the node, so this does not spin.
    while watching.ask("INFO clients")[0].contains("connected_clients:2") {}
    let answered = node.reads_served() - before;
    assert!(answered < 100, "{answered} walks for nobody");
}
