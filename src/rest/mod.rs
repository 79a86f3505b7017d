//! The REST API ↔ vfs: objects in plain HTTP and JSON, health, metrics. Translates, decides nothing.

mod auth;
mod body;
mod buckets;
mod conditions;
mod error;
mod headers;
mod health;
mod listing;
mod metrics;
mod objects;
mod openapi;
mod range;
mod request;
mod server;
mod state;
mod tags;
mod uploads;

pub use openapi::document;
pub use server::{Options, Rest};
pub use state::Served;
