//! What changed inside of a text file, as a unified diff.

use onggi_engine::restore::SnapshotTree;
use onggi_repo::diff::{Change, Difference};
use onggi_repo::format::{BlobId, NodeKind};
use onggi_source::{Context, Known, Purpose, ReadError, SourceError, Stored, TreePath};
use serde_json::json;
use similar::TextDiff;

use crate::escape::{escape, escape_text};
use crate::failure::Failure;
use crate::session::{Opened, Session};

/// Files that are compared inside.
pub const TEXTS_MAX: usize = 10_000;
/// Longer files are hardly texts for people.
const BYTES_MAX: u64 = 16 << 20;

/// Whether a file is on both sides and not too long.
pub fn may_be_text(change: &Change) -> bool {
    let (old, new) = change.sizes;
    change.difference == Difference::Content && change.kind == NodeKind::File && old.max(new) <= BYTES_MAX
}

/// Shows what changed in a file, if both contents are text.
pub async fn show(opened: &Opened, trees: (BlobId, BlobId), path: &[u8], session: &Session) -> Result<(), Failure> {
    let act = || format!("compare /{}", escape(path));
    let failed = |error: SourceError| Failure::new(onggi_engine::exit::Exit::from(&error), act()).chain(&error);
    let tree_path = TreePath::new(path).map_err(|error| Failure::usage(act()).because(error))?;
    let cx = session.run(Purpose::Restore).context;
    let (old, new) = (
        content(opened, trees.0, &tree_path, &cx).await.map_err(failed)?,
        content(opened, trees.1, &tree_path, &cx).await.map_err(failed)?,
    );
    let (Some(old), Some(new)) = (text(&old), text(&new)) else { return Ok(()) };
    let name = format!("/{}", escape(path));
    let diff = TextDiff::from_lines(old, new).unified_diff().header(&name, &name).to_string();
    if session.output.is_json() {
        session.output.json(json!({"message_type": "text", "path": name, "diff": diff}));
    } else {
        // a line of a stored file must not draw on the terminal
        diff.lines().for_each(|line| session.output.data(escape_line(line)));
    }
    Ok(())
}

fn escape_line(line: &str) -> String {
    if line.chars().any(|sign| sign.is_control() && sign != '\t') {
        escape_text(line).into_owned()
    } else {
        line.to_owned()
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

async fn content(opened: &Opened, tree: BlobId, path: &TreePath, cx: &Context) -> Result<Vec<u8>, SourceError> {
    let tree = SnapshotTree::new(opened.repo.clone(), vec![tree], Vec::new());
    let content = tree.open(path).await?;
    let lost = |error| match error {
        ReadError::Unit(error) => error,
        ReadError::Item(problem) => SourceError::Damaged(problem.to_string()),
    };
    let layout = content.open(cx, &Known::default()).await.map_err(lost)?;
    let mut bytes = vec![0; layout.length.min(BYTES_MAX) as usize];
    for range in layout.data {
        let (start, end) = (range.start as usize, (range.end as usize).min(bytes.len()));
        if start < end {
            content.read(cx, range.start, &mut bytes[start..end]).await.map_err(lost)?;
        }
    }
    content.confirm(cx).await.map_err(lost)?;
    Ok(bytes)
}
