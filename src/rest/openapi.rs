//! The description of the API, made from the code that serves it.

use axum::Json;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, Server};
use utoipa::{Modify, OpenApi};

use super::error::Problem;
use super::{buckets, health, listing, metrics, objects, tags, uploads};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "BucketFS",
        description = "Objects in plain HTTP, the same that mounts and S3 show. A slash in a key \
                       may be sent as it is. Every error is a Problem.",
    ),
    paths(
        buckets::list, buckets::get, buckets::create, buckets::delete,
        listing::list,
        objects::put, objects::post, objects::get, objects::head, objects::delete,
        tags::get, tags::put, tags::delete,
        uploads::begin, uploads::part, uploads::parts, uploads::complete, uploads::abort,
        health::live, health::ready, health::cluster,
        metrics::metrics,
    ),
    components(schemas(Problem)),
    modifiers(&Bearer),
)]
struct Api;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", scheme);
        document.servers = Some(vec![Server::new("/")]);
    }
}

/// The OpenAPI document of this version.
pub fn document() -> Document {
    Api::openapi()
}

pub(super) async fn serve() -> Json<Document> {
    Json(document())
}
