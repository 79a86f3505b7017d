//! BucketFS: a mounted directory and an S3 endpoint as two views of the same replicated data.
//!
//! `ARCHITECTURE.md` has the map; the modules are layers, lowest first.

pub mod types;

pub mod error;

pub mod config;

pub mod env;

pub mod metrics;

pub mod chunk;

pub mod meta;

pub mod replication;

pub mod vfs;

pub mod web;

pub mod fuse;

#[cfg(feature = "s3")]
pub mod s3;

pub mod rest;

pub mod node;

pub mod cli;
