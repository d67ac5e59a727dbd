//! Connections that a host makes for us: it becomes the way to machines that only it reaches.

use crate::error::SshError;
use crate::login::Session;
use tokio::io::{AsyncRead, AsyncWrite};

impl Session {
    /// Has the host connect to a port of another one. What it refuses cannot be reached.
    pub async fn forward(
        &self,
        host: &str,
        port: u16,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, SshError> {
        let opened = self.ssh.channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 0).await;
        opened.map(russh::Channel::into_stream).map_err(|error| SshError::Unreachable(error.into()))
    }
}
