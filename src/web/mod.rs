//! HTTP as S3 and REST are served: listeners, TLS, limits, and an end in order. Knows no requests.

mod answers;
mod counted;
mod listener;
mod preface;
mod tls;

pub use counted::{RequestId, RequestIds, RequestMeter, Requests, current};
pub use hyper::service::Service;
pub use listener::{Endpoint, Options};
pub use tls::Tls;
