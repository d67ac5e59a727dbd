//! The ways to a Director that cannot be reached straight.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use onggi_lab::service::Sshd;
use onggi_source::Timestamp;
use onggi_source::bosh::director::{Director, DirectorError, Proxy, Route, Target};
use onggi_ssh::Trust;

use crate::place::{Place, script};

fn route(proxy: &str, spared: &str, trust: Trust) -> Arc<Route> {
    Arc::new(Route::through(Proxy::parse(proxy).unwrap(), spared, trust, Timestamp::UNIX_EPOCH))
}

async fn deployments(place: &Place, route: Arc<Route>) -> Result<Vec<String>, DirectorError> {
    let director = Director::connect(&place.cx, Target { route, ..place.target() }).await?;
    director.deployments(&place.cx).await
}

#[tokio::test]
async fn a_socks_proxy_is_gone_through_unless_the_host_is_spared() {
    let Some(place) = Place::new(script()) else { return };
    let socks = Socks::start();
    let proxy = format!("socks5://127.0.0.1:{}", socks.port);
    let trust = Trust::Files(Vec::new());
    assert_eq!(deployments(&place, route(&proxy, "", trust.clone())).await.unwrap(), ["cf", "empty"]);
    assert_eq!(socks.count.load(Ordering::SeqCst), 2);
    deployments(&place, route(&proxy, "10.0.0.0/8,127.0.0.0/8", trust)).await.unwrap();
    assert_eq!(socks.count.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn all_that_is_asked_goes_through_one_tunnel() {
    let Some(place) = Place::new(script()) else { return };
    let Some(sshd) = Sshd::start() else { return };
    let proxy = tunnel(&sshd, "client_rsa");
    let route = route(&proxy, "", Trust::Files(vec![sshd.known_hosts()]));
    assert_eq!(deployments(&place, route.clone()).await.unwrap(), ["cf", "empty"]);
    deployments(&place, route).await.unwrap();
    let log = fs::read_to_string(sshd.file("log")).unwrap();
    assert_eq!(log.matches("Accepted publickey").count(), 1, "{log}");
}

#[tokio::test]
async fn a_tunnel_that_was_lost_is_opened_again() {
    let Some(place) = Place::new(script()) else { return };
    let Some(sshd) = Sshd::start() else { return };
    let route = route(&tunnel(&sshd, "client_rsa"), "", Trust::Files(vec![sshd.known_hosts()]));
    deployments(&place, route.clone()).await.unwrap();
    sshd.restart(&[]);
    assert_eq!(deployments(&place, route).await.unwrap(), ["cf", "empty"]);
}

#[tokio::test]
async fn a_tunnel_of_an_unknown_host_is_not_entered() {
    let Some(place) = Place::new(script()) else { return };
    let Some(sshd) = Sshd::start() else { return };
    let error = deployments(&place, route(&tunnel(&sshd, "client_rsa"), "", Trust::Files(Vec::new()))).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("SSH tunnel: host is not trusted"), "{error}");
}

fn tunnel(sshd: &Sshd, key: &str) -> String {
    let key = sshd.file(key).display().to_string();
    format!("ssh+socks5://{}@127.0.0.1:{}?private-key={key}", sshd.user(), sshd.port())
}

/// A SOCKS 5 proxy without login.
struct Socks {
    port: u16,
    count: Arc<AtomicUsize>,
}

impl Socks {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let counted = count.clone();
        // It ends with the process of the test.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || serve(client));
            }
        });
        Self { port, count }
    }
}

fn serve(mut client: TcpStream) -> Option<()> {
    let mut take = |length: usize| {
        let mut bytes = vec![0; length];
        client.read_exact(&mut bytes).ok()?;
        Some((bytes, client.try_clone().ok()?))
    };
    let (head, _) = take(2)?;
    let (_, mut out) = take(head[1].into())?;
    out.write_all(&[5, 0]).ok()?;
    let (head, _) = take(4)?;
    let host = match head[3] {
        1 => take(4)?.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("."),
        3 => {
            let length = take(1)?.0[0];
            String::from_utf8(take(length.into())?.0).ok()?
        }
        _ => return None,
    };
    let port = u16::from_be_bytes(take(2)?.0.try_into().ok()?);
    let server = TcpStream::connect((host, port)).ok()?;
    out.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
    let (mut from, mut to) = (server.try_clone().ok()?, client.try_clone().ok()?);
    thread::spawn(move || std::io::copy(&mut from, &mut to));
    let mut server = server;
    std::io::copy(&mut client, &mut server).ok()?;
    server.shutdown(std::net::Shutdown::Write).ok()
}
