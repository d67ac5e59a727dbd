//! TLS and HTTP/1.1 on one port, in a thread of its own.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::answer::{Asked, Desk, Reply};

/// Answers until it is stopped.
pub(super) fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    desk: &Arc<Mutex<Desk>>,
    mut stopped: watch::Receiver<bool>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        listener.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        let acceptor = TlsAcceptor::from(tls);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopped.wait_for(|stopped| *stopped) => return,
            };
            let Ok((stream, _)) = accepted else { continue };
            // Else an answer waits for the client's word that it has the one before.
            stream.set_nodelay(true).expect("a socket");
            let (acceptor, desk) = (acceptor.clone(), desk.clone());
            tokio::spawn(async move {
                // A client that does not trust us hangs up; that is its affair.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(|request| reply(&desk, request));
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}

async fn reply(desk: &Arc<Mutex<Desk>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (authorization, range) = (header(header::AUTHORIZATION), header(header::RANGE));
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let asked = Asked { method: head.method.to_string(), path, authorization, range, body };
    let Reply { status, location, body } = desk.lock().unwrap_or_else(PoisonError::into_inner).answer(&asked);
    let mut builder = Response::builder().status(status);
    if let Some(location) = location {
        builder = builder.header(header::LOCATION, location);
    }
    Ok(builder.body(Full::new(body.into())).expect("a status and a location"))
}
