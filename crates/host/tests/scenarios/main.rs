//! Goal: what a host promises to callers, to the leader it is bound to, and by a lease, one
//! scenario each. Method: one host of a group of three; the test is its clock, its disk and its two
//! peers, and decides what arrives when.

mod bindings;
mod callers;
mod driver;
mod leases;
mod rollback;
