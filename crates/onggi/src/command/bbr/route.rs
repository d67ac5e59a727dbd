//! The detour that `BOSH_ALL_PROXY` asks for.

use std::sync::Arc;

use onggi_source::bosh::Cause;
use onggi_source::bosh::director::{Proxy, Route};

use super::Run;

/// Names the detour.
pub const VARIABLE: &str = "BOSH_ALL_PROXY";

/// The way to Directors and instances: the same for all of a run, so that a tunnel is opened once.
pub fn of(run: &Run) -> Result<Arc<Route>, Cause> {
    let route = run.route.get_or_init(|| make(run).map(Arc::new));
    route.clone().map_err(Into::into)
}

fn make(run: &Run) -> Result<Route, String> {
    let Some(text) = run.machine.variable(&[VARIABLE]) else { return Ok(Route::Direct) };
    let proxy = Proxy::parse(text).map_err(|error| error.to_string())?;
    let spared = run.machine.variable(&["NO_PROXY", "no_proxy"]).unwrap_or_default();
    Ok(Route::through_any(proxy, spared, run.cx.world.now()))
}
