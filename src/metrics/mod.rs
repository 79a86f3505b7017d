//! Counts and latencies that layers keep of their own work, for whoever asks: cheap to feed, and
//! written out in the text form that Prometheus reads. The only place that names its library.

mod meter;

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use meter::{Meter, MeteredDisk};

/// Upper bounds in seconds: from a hit in memory to a disk that stalls.
const BOUNDS: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5,
    10.0,
];

/// What text of this module is; the OpenMetrics specification.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn histogram() -> Histogram {
    Histogram::new(BOUNDS)
}

/// How long one kind of work took, each time. Clones count together.
#[derive(Clone, Debug)]
pub struct Latency(Histogram);

impl Latency {
    pub fn observe(&self, time: Duration) {
        self.0.observe(time.as_secs_f64());
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self(histogram())
    }
}

/// The names and values of N labels.
pub type Labels<const N: usize> = [(&'static str, &'static str); N];

/// [`Latency`] of several kinds of work, told apart by labels, of which there must be few.
#[derive(Clone)]
pub struct Latencies<const N: usize>(Family<Labels<N>, Histogram, fn() -> Histogram>);

impl<const N: usize> Latencies<N> {
    pub fn observe(&self, labels: &Labels<N>, time: Duration) {
        self.0.get_or_create(labels).observe(time.as_secs_f64());
    }
}

impl<const N: usize> Default for Latencies<N> {
    fn default() -> Self {
        Self(Family::new_with_constructor(histogram))
    }
}

type Number = Gauge<f64, AtomicU64>;

/// All that is measured of one node.
#[derive(Default)]
pub struct Book(Registry);

impl Book {
    /// A latency that goes on being counted, as `bucketfs_NAME_seconds`.
    pub fn latency(&mut self, name: &str, help: &str, latency: &Latency) {
        self.0.register(full_name(name, "_seconds"), help, latency.0.clone());
    }

    pub fn latencies<const N: usize>(&mut self, name: &str, help: &str, latencies: &Latencies<N>) {
        self.0.register(full_name(name, "_seconds"), help, latencies.0.clone());
    }

    /// A number as it is now, as `bucketfs_NAME`.
    pub fn number(&mut self, name: &str, help: &str, value: f64) {
        let number = Number::default();
        number.set(value);
        self.0.register(full_name(name, ""), help, number);
    }

    /// One number for each value of a label.
    pub fn numbers(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (String, f64)>,
    ) {
        let family: Family<Vec<(&'static str, String)>, Number> = Family::default();
        for (value, number) in values {
            family.get_or_create(&vec![(label, value)]).set(number);
        }
        self.0.register(full_name(name, ""), help, family);
    }

    /// # Errors
    /// Only when a value cannot be written.
    pub fn write(&self, out: &mut String) -> fmt::Result {
        text::encode(out, &self.0)
    }
}

fn full_name(name: &str, unit: &str) -> String {
    format!("bucketfs_{name}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_written_for_prometheus() {
        let (commits, requests) = (Latency::default(), Latencies::<2>::default());
        commits.observe(Duration::from_millis(3));
        commits.clone().observe(Duration::from_secs(99));
        requests.observe(&[("door", "s3"), ("method", "GET")], Duration::from_micros(70));
        let mut book = Book::default();
        book.latency("commit", "Time of a commit", &commits);
        book.latencies("request", "Time of a request", &requests);
        book.number("dirty_bytes", "Bytes not committed", 7.5);
        let buckets = [("a".to_owned(), 1.0), ("quote\"d".to_owned(), 2.0)];
        book.numbers("bucket_entries", "Entries", "bucket", buckets);
        let mut text = String::new();
        book.write(&mut text).unwrap();
        for line in [
            "# TYPE bucketfs_commit_seconds histogram",
            "bucketfs_commit_seconds_count 2",
            "bucketfs_commit_seconds_bucket{le=\"0.005\"} 1",
            "bucketfs_commit_seconds_bucket{le=\"+Inf\"} 2",
            "bucketfs_request_seconds_count{door=\"s3\",method=\"GET\"} 1",
            "bucketfs_dirty_bytes 7.5",
            "bucketfs_bucket_entries{bucket=\"quote\\\"d\"} 2.0",
        ] {
            assert!(text.lines().any(|there| there == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
