//! A real S3 service in this process, over a folder, whose every call a test can meddle with.

use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use s3s::{Body, auth::SimpleAuth, service::S3Service, service::S3ServiceBuilder};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Mutex as AsyncMutex,
};
use tokio_rustls::TlsAcceptor;

pub const ACCESS_KEY: &str = "onggi-test";
pub const SECRET_KEY: &str = "correct horse battery staple";
pub const BUCKET: &str = "bucket";

/// What happens to one call.
#[derive(Debug, Clone, Default)]
pub enum Meddle {
    #[default]
    Pass,
    /// It is answered so, and nothing is done.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Nothing is done and the connection ends.
    Cut,
    /// It is done, and the connection ends before the answer.
    Lose,
    /// It is done without its condition.
    WithoutCondition,
    /// It is done; the answer has this ETag.
    Etag(&'static str),
    /// It never ends.
    Stall,
}

type Script = dyn Fn(&Method, &str) -> Meddle + Send + Sync;

/// A running service with one bucket; ends with the test.
pub struct Service {
    pub url: String,
    root: TempDir,
    state: Arc<State>,
}

struct State {
    s3: S3Service,
    /// In this service a conditional write is two steps and a list stumbles over what vanishes; in a real one each is
    /// one step. So here one happens at a time.
    alone: AsyncMutex<()>,
    script: Mutex<Arc<Script>>,
    calls: Mutex<Vec<String>>,
}

impl Service {
    pub async fn start() -> Self {
        Self::serve(None, true).await
    }

    /// A service that takes calls without signature, so that a call can be changed on its way.
    pub async fn start_open() -> Self {
        Self::serve(None, false).await
    }

    pub async fn start_tls(tls: TlsAcceptor) -> Self {
        Self::serve(Some(tls), true).await
    }

    async fn serve(tls: Option<TlsAcceptor>, signed: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        if signed {
            builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        }
        let state = Arc::new(State {
            s3: builder.build(),
            alone: AsyncMutex::new(()),
            script: Mutex::new(Arc::new(|_: &Method, _: &str| Meddle::Pass)),
            calls: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(accept(listener, tls.clone(), state.clone()));
        let url = if tls.is_some() { format!("https://localhost:{port}") } else { format!("http://127.0.0.1:{port}") };
        Self { url, root, state }
    }

    /// From now on decides what happens to each call.
    pub fn meddle(&self, script: impl Fn(&Method, &str) -> Meddle + Send + Sync + 'static) {
        *self.state.script.lock().unwrap() = Arc::new(script);
    }

    /// The calls since the last question, as `METHOD path`.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state.calls.lock().unwrap())
    }

    /// Where an object lies on disk.
    pub fn file(&self, key: &str) -> PathBuf {
        self.root.path().join(BUCKET).join(key)
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (tls, state) = (tls.clone(), state.clone());
        tokio::spawn(async move {
            match tls {
                None => connection(socket, state).await,
                // A client that does not trust us ends the handshake.
                Some(tls) => {
                    if let Ok(socket) = tls.accept(socket).await {
                        connection(socket, state).await;
                    }
                }
            }
        });
    }
}

async fn connection(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<State>) {
    let service = service_fn(move |request| answer(state.clone(), request));
    // Broken connections are what half of the tests are about.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

async fn answer(state: Arc<State>, mut request: Request<Incoming>) -> io::Result<Response<Body>> {
    let path = request.uri().path().to_owned();
    state.calls.lock().unwrap().push(format!("{} {path}", request.method()));
    let script = state.script.lock().unwrap().clone();
    let meddle = script(request.method(), &path);
    match &meddle {
        Meddle::Answer(status, headers, text) => {
            // A connection is reused only if the whole request was read.
            let mut response = Response::builder().status(*status).header("connection", "close");
            for (name, value) in headers {
                response = response.header(*name, value);
            }
            return Ok(response.body(Body::from(text.clone())).unwrap());
        }
        Meddle::Cut => return Err(io::ErrorKind::ConnectionReset.into()),
        Meddle::Stall => std::future::pending().await,
        Meddle::WithoutCondition => drop(request.headers_mut().remove("if-none-match")),
        _ => {}
    }
    let is_list = request.uri().query().is_some_and(|query| query.contains("list-type"));
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD) && !is_list;
    let _alone = if is_read { None } else { Some(state.alone.lock().await) };
    let mut response =
        state.s3.call(request.map(Body::from)).await.map_err(|error| io::Error::other(format!("{error:?}")))?;
    match meddle {
        Meddle::Lose => return Err(io::ErrorKind::ConnectionReset.into()),
        Meddle::Etag(etag) if response.status() == StatusCode::OK => {
            response.headers_mut().insert("etag", etag.parse().unwrap());
        }
        _ => {}
    }
    Ok(response)
}
