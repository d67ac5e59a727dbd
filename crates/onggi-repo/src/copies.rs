//! The spare copies of config and keys beside their originals: each is what its original is, and none outlives it. A copy
//! that is not there is no fault, since restic makes none.

use crate::{
    Repository, Result,
    control::{self, Control},
    error::Act,
    kernel::hash,
    repository::open_config,
};
use bytes::Bytes;
use onggi_storage::Handle;
use std::fmt;

/// What is wrong with a copy or with its original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFault {
    /// The original is good and the copy is another.
    Differs,
    /// The copy is good; its original is damaged, or it is the config or the key in use and gone.
    OriginalLost,
    /// The copy is of a key that is gone. If that was removed by a program that knows no copies, its password may still
    /// open the repository.
    Orphan,
    /// Neither is good.
    Worthless,
}

/// A copy that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultyCopy {
    /// The copy.
    pub handle: Handle,
    /// What it is a copy of.
    pub original: Handle,
    /// What is wrong.
    pub fault: CopyFault,
    pub(crate) what: Control,
}

impl FaultyCopy {
    /// What is wrong, for people.
    pub(crate) fn reason(&self) -> String {
        let original = &self.original;
        match self.fault {
            CopyFault::Differs => format!("is not what {original} is"),
            CopyFault::OriginalLost => format!("is good, and {original} is lost or damaged"),
            CopyFault::Orphan => {
                format!("{original} is gone: if it was removed, its password may still open the repository")
            }
            CopyFault::Worthless => format!("is damaged, and {original} is lost or damaged too"),
        }
    }
}

impl fmt::Display for FaultyCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.handle, self.reason())
    }
}

impl Repository {
    /// Compares all copies with their originals.
    pub(crate) async fn faulty_copies(&self) -> Result<Vec<FaultyCopy>> {
        let mut faulty = Vec::new();
        let is_config = |sealed: &Bytes| open_config(self.master(), sealed).is_ok();
        faulty.extend(self.faulty_copy(Control::Config, Handle::Config, is_config).await?);
        for id in control::keys(&**self.fresh()).await? {
            let is_key = |content: &Bytes| hash::sha256(content) == id.0;
            faulty.extend(self.faulty_copy(Control::Key(id), id.handle(), is_key).await?);
        }
        Ok(faulty)
    }

    async fn faulty_copy(
        &self,
        what: Control,
        original: Handle,
        is_good: impl Fn(&Bytes) -> bool,
    ) -> Result<Option<FaultyCopy>> {
        let Some(copy) = if_there(control::read(&**self.fresh(), &what).await)? else { return Ok(None) };
        let first = self.fresh().read(original.clone(), None).await.act(|| format!("read {original}"));
        let first = if_there(first)?;
        let is_first_good = first.as_ref().is_some_and(&is_good);
        if is_first_good && first.as_ref() == Some(&copy) {
            return Ok(None);
        }
        let fault = match (is_good(&copy), is_first_good) {
            (_, true) => CopyFault::Differs,
            (false, false) => CopyFault::Worthless,
            (true, false) if first.is_none() && self.is_other_key(what) => CopyFault::Orphan,
            (true, false) => CopyFault::OriginalLost,
        };
        Ok(Some(FaultyCopy { handle: what.handle(), original, fault, what }))
    }

    fn is_other_key(&self, what: Control) -> bool {
        matches!(what, Control::Key(id) if id != self.key_id())
    }
}

/// One that cannot be read to its end is empty.
fn if_there(read: Result<Bytes>) -> Result<Option<Bytes>> {
    match read {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) if error.is_damage() => Ok(Some(Bytes::new())),
        Err(error) => Err(error),
    }
}
