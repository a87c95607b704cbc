//! Tests of a hung disk or state machine. One host of a group in virtual time.

mod apply;
mod disk;
mod driver;
