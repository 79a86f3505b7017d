//! S3 over HTTP ↔ vfs: translates requests, decides nothing. The only place that names s3s.

mod acl;
mod attributes;
mod auth;
mod body;
mod buckets;
mod conditions;
mod copy;
mod document;
mod error;
mod fields;
mod forms;
mod host;
mod ignored;
mod listing;
mod multipart;
mod objects;
mod part;
mod rename;
mod requests;
mod server;
mod service;
mod tags;
mod words;

pub use server::{Options, open};
