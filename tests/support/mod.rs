//! What the tests from outside share: private mounts, targets, the running program, waiting with a deadline.
//!
//! Every test thread takes a mount namespace of its own (`mounts::own_namespace`), so nothing a test mounts can be
//! seen, disturbed or left behind outside it. These tests need root; they say so instead of passing without it.
#![allow(dead_code, reason = "each test program uses its own part of this module")]

pub mod churn;
pub mod clients;
pub mod cluster;
pub mod history;
pub mod http;
pub mod jobs;
pub mod links;
pub mod mounts;
pub mod node;
pub mod rng;
pub mod s3;
pub mod s3_frames;
pub mod s3_world;
pub mod sys;
pub mod target;
pub mod tools;
pub mod tree;
pub mod wait;
pub mod writers;
pub mod xattr;
