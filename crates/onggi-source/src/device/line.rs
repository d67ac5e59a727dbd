//! A way to a device's command line: the seam between the adapter and the network.

use std::future::Future;

use async_trait::async_trait;
use bytes::Bytes;
use onggi_ssh::exec::Dialog;
use onggi_ssh::{Login, Session, SshError, login};

/// Reaches devices.
#[async_trait]
pub trait Dialer: Send + Sync {
    /// Connects and logs in.
    async fn dial(&self, login: &Login) -> Result<Box<dyn Line>, SshError>;
}

/// A connection to one device. Dropping it hangs up.
#[async_trait]
pub trait Line: Send {
    /// Types, at a terminal that is opened when first needed.
    async fn send(&mut self, text: &str) -> Result<(), SshError>;

    /// What appears next; `None` once the device has hung up. May be dropped half-way without loss.
    async fn receive(&mut self) -> Result<Option<Bytes>, SshError>;

    /// Runs one command as a call of its own: its output, at most so long, and its exit status.
    async fn run(&mut self, command: &str, bytes_max: usize) -> Result<(Vec<u8>, Option<u32>), SshError>;
}

/// Reaches them over SSH.
pub struct SshDialer;

#[async_trait]
impl Dialer for SshDialer {
    async fn dial(&self, options: &Login) -> Result<Box<dyn Line>, SshError> {
        // boxed: the future of a whole key exchange is long
        let session = boxed(login(options)).await?;
        Ok(Box::new(SshLine { session, dialog: None }))
    }
}

fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> futures::future::BoxFuture<'a, T> {
    Box::pin(future)
}

struct SshLine {
    session: Session,
    dialog: Option<Dialog>,
}

impl SshLine {
    async fn dialog(&mut self) -> Result<&mut Dialog, SshError> {
        if self.dialog.is_none() {
            self.dialog = Some(self.session.dialog().await?);
        }
        Ok(self.dialog.as_mut().expect("opened above"))
    }
}

#[async_trait]
impl Line for SshLine {
    async fn send(&mut self, text: &str) -> Result<(), SshError> {
        self.dialog().await?.send(text).await
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, SshError> {
        Ok(self.dialog().await?.receive().await)
    }

    async fn run(&mut self, command: &str, bytes_max: usize) -> Result<(Vec<u8>, Option<u32>), SshError> {
        let ran = self.session.run(command, b"", bytes_max).await?;
        Ok((ran.output, ran.status.filter(|_| !ran.is_cut)))
    }
}
