//! A Director: which deployments there are, which instances they have, and who may log in on these.
//!
//! All that is asked is what the reference's client asks, in its order. Requests that change nothing are repeated a few
//! times; a token that has run out is fetched anew, also hours after the first call.

mod address;
mod error;
mod login;
mod manifest;
mod model;
mod route;
mod task;
mod trust;
mod visit;
mod wire;

use std::sync::Arc;

use secrecy::SecretString;

pub use self::address::Address;
pub use self::error::DirectorError;
use self::login::Entry;
pub use self::manifest::Jobs;
use self::model::{DeploymentAnswer, Info, Named};
pub use self::model::{Host, Instance, Task};
pub use self::route::{Proxy, Route, Stream, Tunnel};
pub use self::trust::Authorities;
pub use self::visit::{Guest, Visit, Wait};
use self::wire::{Ask, Wire};
use crate::context::Context;
use crate::percent::escape;

type Result<T, E = DirectorError> = std::result::Result<T, E>;

/// The port of a Director.
const PORT: u16 = 25555;

/// Receives each request in words, for those who debug; never a secret.
pub type Trace = Arc<dyn Fn(&str) + Send + Sync>;

/// What is needed to reach a Director.
pub struct Target {
    /// `https://host:port`, `host:port` or `host`; whatever it says, it is reached over TLS.
    pub url: String,
    /// The client or user.
    pub client: String,
    /// Its secret or password.
    pub secret: SecretString,
    /// Whom to believe.
    pub authorities: Authorities,
    /// How to get there.
    pub route: Arc<Route>,
    /// Who hears of requests.
    pub trace: Option<Trace>,
}

/// A Director that has said who it is.
pub struct Director {
    wire: Wire,
    address: Address,
    entry: Entry,
    uuid: String,
}

impl Director {
    /// Asks the Director how it lets clients in; they enter with the first call that needs it.
    pub async fn connect(cx: &Context, target: Target) -> Result<Self> {
        let address = Address::parse(&target.url, PORT)?;
        let wire = Wire::new(target.route, &target.authorities, target.trace)?;
        let answer = wire.ask(cx, &address, &Ask::get("/info"), None).await?.successful()?;
        let info: Info = answer.json()?;
        let entry = Entry::new(info.user_authentication, &target.client, &target.secret)?;
        Ok(Self { wire, address, entry, uuid: info.uuid })
    }

    /// What the Director calls itself, for good.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The names of all deployments.
    pub async fn deployments(&self, cx: &Context) -> Result<Vec<String>> {
        let found: Vec<Named> = self.call(cx, &Ask::get("/deployments")).await?.json()?;
        Ok(found.into_iter().map(|deployment| deployment.name).collect())
    }

    /// Tasks that are not over, of all clients.
    pub async fn tasks(&self, cx: &Context) -> Result<Vec<Task>> {
        self.call(cx, &Ask::get("/tasks?state=queued,processing,cancelling&verbose=1")).await?.json()
    }

    /// The manifest of a deployment, as the Director has it.
    pub async fn manifest(&self, cx: &Context, deployment: &str) -> Result<String> {
        let ask = Ask::get(format!("/deployments/{}", escape(deployment)));
        let answer: DeploymentAnswer = self.call(cx, &ask).await?.json()?;
        Ok(answer.manifest)
    }

    /// The instances of a deployment, in the Director's order.
    pub async fn instances(&self, cx: &Context, deployment: &str) -> Result<Vec<Instance>> {
        let ask = Ask::get(format!("/deployments/{}/vms?format=full", escape(deployment)));
        let lines = self.run_task(cx, &ask).await?;
        lines.lines().filter(|line| !line.trim().is_empty()).map(|line| model::parse(line.as_bytes())).collect()
    }

    /// Asks as the client, along redirects; whatever host they name, it is this one.
    async fn call(&self, cx: &Context, ask: &Ask) -> Result<wire::Answer> {
        let mut answer = self.ask_entered(cx, ask).await?;
        for _ in 0..wire::REDIRECTS_MAX {
            let Some(path) = answer.redirect()? else { return answer.successful() };
            answer = self.ask_entered(cx, &Ask::get(path)).await?;
        }
        Err(DirectorError::Malformed("it redirects without end".to_owned()))
    }

    /// Asks with a token; one that the Director does not take any more is replaced once.
    async fn ask_entered(&self, cx: &Context, ask: &Ask) -> Result<wire::Answer> {
        let word = self.entry.word(cx, &self.wire).await?;
        let answer = self.wire.ask(cx, &self.address, ask, Some(&word)).await?;
        if !answer.is_unauthorized() {
            return Ok(answer);
        }
        let Some(word) = self.entry.renewed(cx, &self.wire, &word).await? else {
            return Err(DirectorError::Denied(format!("{} does not know the client or its secret", self.address)));
        };
        let answer = self.wire.ask(cx, &self.address, ask, Some(&word)).await?;
        if answer.is_unauthorized() {
            return Err(DirectorError::Denied(format!("{} does not take a token that is new", self.address)));
        }
        Ok(answer)
    }
}
