//! The registry client against scripted servers, our own server, and Debian's.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod auth;
mod docker_registry;
mod fake;
mod http_server;
mod pull;
mod push;
mod serve;
mod skopeo;
mod support;
mod unlisted;
