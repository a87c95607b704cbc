//! The bytes under way to each node, summed over all groups that a host leads: one group's window
//! is bounded by its own configuration, the sum of them by the host's.

use quorate_types::NodeId;

use crate::kernel::Kernel;

/// Bytes of appends under way to each node. A node whose bytes have reached the bound is sent one append
/// of each group at a time, so that every group goes on, and one node that acknowledges nothing takes no
/// room from another.
#[derive(Debug)]
pub struct Windows {
    node_bytes_max: usize,
    /// A handful of nodes: a scan beats a map.
    nodes: Vec<(NodeId, usize)>,
}

impl Windows {
    /// Nothing is under way.
    #[must_use]
    pub fn new(node_bytes_max: usize) -> Windows {
        Windows { node_bytes_max, nodes: Vec::new() }
    }

    /// Bytes under way to `node`.
    #[must_use]
    pub fn bytes(&self, node: NodeId) -> usize {
        self.nodes.iter().find(|(known, _)| *known == node).map_or(0, |(_, bytes)| *bytes)
    }

    pub(crate) fn has_room(&self, node: NodeId) -> bool {
        self.bytes(node) < self.node_bytes_max
    }

    /// What a group has under way changes from `before` to `after`.
    fn change(&mut self, node: NodeId, before: usize, after: usize) {
        match self.nodes.iter_mut().find(|(known, _)| *known == node) {
            Some((_, bytes)) => *bytes = *bytes - before + after,
            None => {
                assert!(before == 0, "{before} bytes to {node} were never counted");
                self.nodes.push((node, after));
            }
        }
    }
}

impl Kernel {
    /// Tells the host's sum what this group has under way now. Where it leads nothing, that is nothing.
    pub(crate) fn count_windows(&mut self, windows: &mut Windows) {
        let leading = self.leading.as_ref();
        if leading.is_none() && self.window_counts.is_empty() {
            return;
        }
        let followers = || leading.iter().flat_map(|leading| &leading.followers);
        let bytes_to = |node: NodeId| -> usize {
            let there = followers().filter(|follower| follower.member.node == node);
            there.map(|follower| follower.window_bytes()).sum()
        };
        for (node, counted) in &mut self.window_counts {
            let bytes = bytes_to(*node);
            windows.change(*node, std::mem::replace(counted, bytes), bytes);
        }
        self.window_counts.retain(|(_, counted)| *counted > 0);
        for follower in followers() {
            let node = follower.member.node;
            let is_counted = self.window_counts.iter().any(|(known, _)| *known == node);
            let bytes = bytes_to(node);
            if !is_counted && bytes > 0 {
                windows.change(node, 0, bytes);
                self.window_counts.push((node, bytes));
            }
        }
    }

    /// This replica is given up: what it has under way counts no more.
    pub fn release_windows(&mut self, windows: &mut Windows) {
        for (node, counted) in self.window_counts.drain(..) {
            windows.change(node, counted, 0);
        }
    }
}

#[cfg(test)]
#[path = "windows_tests.rs"]
mod tests;
