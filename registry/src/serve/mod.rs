//! The store as a registry: distribution specification over HTTP/1.1, on loopback by default.
//!
//! ```text
//! listener ─ connection (bounded) ─ handle ─ route ─┬ read    manifests, blobs, tags, catalog
//!                                     │             ├ upload  blobs coming in (body: their bytes)
//!                                     ▼             └ write   manifests coming in
//!                                   reply
//! ```
//!
//! The async part ends at the request's edge: it moves bytes. Everything that touches the store
//! blocks and runs on threads for that. Reading needs no rights, writing only [`ServeOptions::
//! writable`]: who may connect is decided by the address, which is why the default is loopback.

mod body;
mod handle;
mod keeper;
mod names;
mod read;
mod reply;
mod route;
mod upload;
mod write;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lapstrake_layerstore::compress::Compression;
use lapstrake_layerstore::store::Store;
use tokio::sync::{Semaphore, watch};

use crate::limits;
use keeper::Keeper;
use upload::Uploads;

/// How the server behaves.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// Whether clients may push.
    pub writable: bool,
    /// How layers that were never compressed are compressed when somebody wants them.
    pub compression: Compression,
}

/// A server that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The threads cannot be started.
    #[error("cannot start the server's threads")]
    Threads(#[source] io::Error),
}

/// A running server; dropped, it stops.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to serve a store; port 0 takes a free one. It listens when this returns.
    pub fn start(
        store: Arc<Store>,
        address: SocketAddr,
        options: ServeOptions,
    ) -> Result<Self, ServeError> {
        let listen = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let ServeOptions { writable, compression } = options;
        let uploads = Uploads::default();
        let keeper = Keeper::new(Arc::clone(&store));
        let state = Arc::new(State { store, keeper, writable, compression, uploads });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(limits::SERVER_CONNECTIONS)
            .thread_name("lap-serve")
            .enable_all()
            .build()
            .map_err(ServeError::Threads)?;
        let (stop, stopped) = watch::channel(false);
        let serve = move || {
            runtime.block_on(accept(listener, state, stopped));
            // Work on the store goes by rename, so it may be left in the middle.
            runtime.shutdown_timeout(limits::SERVER_STOP_TIMEOUT);
        };
        let builder = std::thread::Builder::new().name("lap-serve".to_owned());
        let thread = builder.spawn(serve).map_err(ServeError::Threads)?;
        Ok(Self { address: bound, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops: no new connection or request; what is being answered is cut.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic there has printed itself; stopping is done either way.
            thread.join().unwrap_or_default();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// What all requests share.
#[derive(Debug)]
struct State {
    store: Arc<Store>,
    keeper: Keeper,
    writable: bool,
    compression: Compression,
    uploads: Uploads,
}

/// Accepts connections until it is told to stop.
async fn accept(listener: TcpListener, state: Arc<State>, mut stopped: watch::Receiver<bool>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut tidying = tokio::time::interval(limits::SERVER_LEASE_IDLE / 4);
    let places = Arc::new(Semaphore::new(limits::SERVER_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
            _ = tidying.tick() => {
                state.keeper.let_go_if_idle();
                continue;
            }
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, or a client that hung up: the next moment is another one.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| handle::request(Arc::clone(&state), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits::SERVER_HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away in the middle is no event for anybody.
            connection.await.unwrap_or_default();
            drop(place);
        });
    }
}
