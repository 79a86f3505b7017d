//! The vfs on a simulated disk: random work against a plain model, and the power cut at every sync.

mod cluster;
mod copies;
mod crash;
mod mending;
mod model;
mod objects;
mod races;
mod semantics;
mod shortage;
mod silent;
mod store;
mod stress;
mod stuck;
mod words;
mod workload;
