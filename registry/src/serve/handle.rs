//! From a request to a reply: who answers what, and the life of an upload across requests.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_RANGE, HOST, RANGE};
use hyper::{Method, Request, Response, StatusCode};
use lapstrake_layerstore::StoreError;
use lapstrake_layerstore::digest::Digest;

use super::reply::{Reply, ReplyBody};
use super::route::{self, Resource, Unroutable};
use super::upload::{self, Upload};
use super::{State, body, read, write};

/// What of a request's head matters beside method and path.
#[derive(Debug, Clone, Default)]
pub(super) struct Context {
    /// How the client calls us.
    pub(super) host: Option<String>,
    /// What follows the question mark.
    pub(super) query: Option<String>,
    /// The bytes asked for.
    pub(super) range: Option<String>,
    /// The bytes sent.
    pub(super) content_range: Option<String>,
}

impl Context {
    fn of(request: &Request<Incoming>) -> Self {
        let header = |name| {
            let value = request.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        Self {
            host: header(HOST),
            query: request.uri().query().map(str::to_owned),
            range: header(RANGE),
            content_range: header(CONTENT_RANGE),
        }
    }
}

/// Answers one request.
pub(super) async fn request(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Infallible> {
    let with_body = request.method() != Method::HEAD;
    let reply = match route::resource(request.uri().path()) {
        Ok(resource) => dispatch(state, resource, request).await,
        Err(Unroutable::Path) => {
            Reply::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such path")
        }
        Err(Unroutable::Digest) => {
            let message = "not a sha256 digest";
            Reply::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
        }
    };
    Ok(reply.into_response(with_body))
}

/// Sends a request to whom it concerns.
async fn dispatch(state: Arc<State>, resource: Resource, request: Request<Incoming>) -> Reply {
    let allowed = route::allowed(&resource, state.writable);
    if !allowed.contains(request.method()) {
        return not_allowed(allowed, state.writable);
    }
    let context = Context::of(&request);
    let method = request.method().clone();
    match (resource, method) {
        (Resource::Base, _) => read::base(),
        (Resource::Catalog, _) => blocking(move || read::catalog(&state, &context)).await,
        (Resource::Tags(name), _) => blocking(move || read::tags(&state, &context, &name)).await,
        (Resource::Blob(digest), _) => {
            blocking(move || read::blob(&state, &context, &digest)).await
        }
        (Resource::Manifest(name, target), Method::PUT) => {
            match body::gather(request.into_body()).await {
                Ok(bytes) => {
                    blocking(move || write::manifest(&state, &name, &target, &bytes)).await
                }
                Err(refusal) => refusal,
            }
        }
        (Resource::Manifest(name, target), _) => {
            blocking(move || read::manifest(&state, &context, &name, &target)).await
        }
        (Resource::Uploads(name), _) => begin(state, name, context, request.into_body()).await,
        (Resource::Upload(name, id), method) => {
            let upload = match state.uploads.take(&name, &id) {
                Ok(upload) => upload,
                Err(unavailable) => return unavailable.reply(),
            };
            go_on(state, upload, &method, context, request.into_body()).await
        }
    }
}

fn not_allowed(allowed: &[Method], writable: bool) -> Reply {
    let message = if writable { "not possible here" } else { "this registry is read-only" };
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let reply = Reply::error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message);
    reply.header(ALLOW, names.join(", "))
}

/// Runs work on the store where it may block.
async fn blocking(work: impl FnOnce() -> Result<Reply, StoreError> + Send + 'static) -> Reply {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => store_failure(&error),
        Err(_) => internal(),
    }
}

/// The answer when our own code panicked.
pub(super) fn internal() -> Reply {
    Reply::error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "internal error")
}

/// The answer when the store failed.
pub(super) fn store_failure(error: &StoreError) -> Reply {
    let message = crate::manifest::chain(error);
    Reply::error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &message)
}

/// `POST uploads/`: mount, all at once, or an upload to go on with.
async fn begin(state: Arc<State>, name: String, context: Context, body: Incoming) -> Reply {
    let query = |key| route::query(context.query.as_deref(), key);
    if let Some(digest) = query("mount").and_then(|text| text.parse().ok()) {
        let (state, name) = (Arc::clone(&state), name.clone());
        let mounted = tokio::task::spawn_blocking(move || upload::mount(&state, &name, digest));
        match mounted.await {
            Ok(Ok(Some(reply))) => return reply,
            Ok(Err(error)) => return store_failure(&error),
            // Not here, so it has to be uploaded.
            _ => {}
        }
    }
    let at_once = query("digest");
    let begun = {
        let state = Arc::clone(&state);
        tokio::task::spawn_blocking(move || upload::begin(&state, &name)).await
    };
    let upload = match begun {
        Ok(Ok(Some(upload))) => upload,
        Ok(Ok(None)) => {
            let message = "too many uploads at once";
            return Reply::error(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message);
        }
        Ok(Err(error)) => return store_failure(&error),
        Err(_) => return internal(),
    };
    if at_once.is_some() {
        return go_on(state, upload, &Method::PUT, context, body).await;
    }
    let reply = upload.status(StatusCode::ACCEPTED);
    state.uploads.put_back(upload);
    reply
}

/// A request on an upload that was taken out of the table.
async fn go_on(
    state: Arc<State>,
    upload: Upload,
    method: &Method,
    context: Context,
    body: Incoming,
) -> Reply {
    if *method == Method::GET {
        let reply = upload.status(StatusCode::NO_CONTENT);
        state.uploads.put_back(upload);
        return reply;
    }
    if *method == Method::DELETE {
        state.uploads.forget(upload.id());
        return Reply::empty(StatusCode::NO_CONTENT);
    }
    if !upload.accepts(context.content_range.as_deref()) {
        let reply = upload.status(StatusCode::RANGE_NOT_SATISFIABLE);
        state.uploads.put_back(upload);
        return reply;
    }
    let digest = if *method == Method::PUT {
        let text = route::query(context.query.as_deref(), "digest").unwrap_or_default();
        let Ok(digest) = text.parse::<Digest>() else {
            state.uploads.put_back(upload);
            let message = "the query has no sha256 digest";
            return Reply::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message);
        };
        Some(digest)
    } else {
        None
    };
    let upload = match body::receive(&state, upload, body).await {
        Ok(upload) => upload,
        Err(reply) => return reply,
    };
    if let Some(digest) = digest {
        return blocking(move || upload.finish(&state, digest)).await;
    }
    let reply = upload.status(StatusCode::ACCEPTED);
    state.uploads.put_back(upload);
    reply
}
