//! Where one node counts what its layers measure.

use std::sync::Arc;

use crate::env::Clock;
use crate::metrics::Meter;
use crate::web::{RequestIds, RequestMeter, Requests};

#[derive(Clone)]
pub struct Measures {
    /// Of S3 and REST.
    pub requests: RequestMeter,
    pub request_ids: RequestIds,
    /// Of the kernels behind the mounts.
    pub kernel: Meter<1>,
    /// Of files and directories.
    pub syncs: Meter<1>,
    /// Of chunk files.
    pub chunks: Meter<1>,
}

impl Measures {
    pub fn new(clock: &Arc<dyn Clock>) -> Self {
        let requests = Meter::new(Arc::clone(clock));
        let meter = || Meter::new(Arc::clone(clock));
        let request_ids = RequestIds::new(clock.random());
        Self { requests, request_ids, kernel: meter(), syncs: meter(), chunks: meter() }
    }

    /// What the requests of a door are counted with.
    pub fn of_door(&self, door: &'static str) -> Requests {
        Requests { meter: self.requests.clone(), ids: self.request_ids.clone(), door }
    }
}
