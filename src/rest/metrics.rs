//! What is measured, in the text form that Prometheus reads.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::auth::Monitor;
use super::error::{Answer, Problem};
use super::state::{Served, Shared};
use crate::error::{Error, Result};
use crate::metrics::{self, Book};
use crate::vfs::Caller;

/// Latencies, bytes not committed, sizes; for the keys of monitors and administrators.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses(
        (status = 200, content_type = "application/openmetrics-text", body = String),
        (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 503, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn metrics(_: Monitor, State(shared): State<Shared>) -> Answer<Response> {
    let served = shared.watched()?;
    #[expect(clippy::disallowed_methods, reason = "no simulation goes through this door")]
    let text = tokio::task::spawn_blocking(move || text(&served)).await;
    let text = text.unwrap_or(Err(Error::ShuttingDown))?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

fn text(served: &Served) -> Result<String> {
    let mut book = Book::default();
    latencies(&mut book, served);
    sizes(&mut book, served)?;
    buckets(&mut book, served)?;
    let mut text = String::new();
    book.write(&mut text).map_err(|_| Error::invalid("the metrics have no text form"))?;
    Ok(text)
}

fn latencies(book: &mut Book, served: &Served) {
    let requests = "Time until the answer to a request of S3 or REST began";
    book.latencies("request", requests, &served.requests);
    book.latencies("fuse_operation", "Time of a request of a mount's kernel", &served.kernel);
    let commit = "Time until a change of the metadata was answered as its caller asked";
    book.latency("commit", commit, served.replica.commits());
    book.latencies("disk_sync", "Time of a sync of a file or a directory", &served.syncs);
    book.latencies("chunk", "Time of a read or a write of a chunk file", &served.chunks);
}

fn sizes(book: &mut Book, served: &Served) -> Result<()> {
    let report = served.vfs.report()?;
    let status = served.replica.status();
    let oldest = served.vfs.oldest_dirty().as_secs_f64();
    let numbers = [
        ("dirty_bytes", "Bytes written and not yet in chunks", report.buffered_bytes as f64),
        ("oldest_dirty_seconds", "Age of the oldest write that is not committed", oldest),
        ("open_files", "Files that are open or have bytes to commit", report.open_files as f64),
        ("inodes", "Files and directories", report.inodes as f64),
        ("data_bytes", "Bytes that files refer to in chunks", report.data_bytes as f64),
        ("disk_total_bytes", "Size of the file system of the store", report.disk_total as f64),
        ("disk_available_bytes", "Room left on it", report.disk_available as f64),
        ("log_bytes", "Size of the log", status.log_bytes as f64),
        ("log_unsynced_records", "Records not known to be on disk", status.log_unsynced as f64),
        ("table_bytes", "Size of the metadata table on disk", status.table_bytes as f64),
        ("applied_index", "Last log entry in the table", status.applied.unwrap_or(0) as f64),
        ("disk_failed", "1 after a failed write or sync", f64::from(status.disk_failed.is_some())),
    ];
    for (name, help, value) in numbers {
        book.number(name, help, value);
    }
    Ok(())
}

fn buckets(book: &mut Book, served: &Served) -> Result<()> {
    let buckets = served.vfs.buckets(&Caller::default())?;
    book.number("buckets", "Buckets", buckets.len() as f64);
    let entries = buckets.into_iter().map(|bucket| (bucket.name, bucket.entries as f64));
    let help = "Files and directories right below a bucket";
    book.numbers("bucket_entries", help, "bucket", entries);
    Ok(())
}
