//! Restores into a system by its own adapter: the planned restore is carried out, proved and released, the last in one
//! place whatever happened.

use crate::backup::close;
use onggi_source::{Context, Outcome, Proof, Purpose, Restore, Result, Source, Unit};

/// Carries out what was planned and shown. A drill leaves nothing; of a restore that failed what it made goes.
pub async fn carry_out(
    cx: &Context,
    source: &dyn Source,
    unit: &Unit,
    mut planned: Box<dyn Restore + '_>,
    proves: bool,
) -> Result<Option<Proof>> {
    let work = async {
        planned.apply(cx).await?;
        if proves { planned.prove(cx).await.map(Some) } else { Ok(None) }
    };
    let done = work.await;
    drop(planned);
    let outcome = if done.is_ok() && cx.purpose != Purpose::Drill { Outcome::Kept } else { Outcome::Dropped };
    let released = close(cx, source, unit, outcome).await;
    let proof = done?;
    released.map(|()| proof)
}
