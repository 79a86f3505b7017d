//! Load for a program that will be killed, and what must be found after it.
//!
//! `world` holds what a writer has been promised, `writer` keeps it in step with what it does, `loads` are the kinds of
//! work, `rounds` starts, kills, restarts and compares.

pub mod loads;
pub mod rounds;
pub mod world;
pub mod writer;
