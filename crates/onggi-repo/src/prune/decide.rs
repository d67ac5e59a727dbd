//! What happens to each pack. Pure.

use super::{GRACE_MIN, MaxUnused, PruneOptions, PrunePlan, survey::Survey, usage::PackUse};
use crate::{
    format::{BlobKind, PackId},
    index::PackState,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashSet;

/// So many small packs are worth one large.
const SMALL_MIN: usize = 10;
/// A pack is small below four fifths of this, or of what 3 % of the packs do not reach.
const SMALL_SIZE: u64 = 4 << 20;

pub(super) fn decide(packs: &[PackUse], survey: &Survey, options: &PruneOptions, now: Timestamp) -> PrunePlan {
    let mut plan = PrunePlan { packs_seen: survey.packs.len(), ..PrunePlan::default() };
    let mut candidates = Vec::new();
    for pack in packs {
        plan.used_bytes += pack.used_bytes;
        match (pack.info.state, pack.used_bytes > 0) {
            (PackState::Live, true) => candidates.push(pack),
            (PackState::Live, false) if pack.is_there => plan.mark.push(pack.info.id),
            (PackState::Live | PackState::Tombstoned(_), false) if !pack.is_there => plan.drop.push(pack.info.id),
            (PackState::Tombstoned(_), true) => plan.recover.push(pack.info.id),
            (PackState::Tombstoned(since), false) => tombstone(&mut plan, pack, since, survey, options, now),
            // Announced nowhere: found below by their names.
            (PackState::Live | PackState::Unlisted, _) => {}
        }
    }
    choose_repack(&mut plan, candidates, options);
    let announced: HashSet<PackId> = packs.iter().map(|pack| pack.info.id).collect();
    plan.unreferenced = survey.packs.keys().filter(|id| !announced.contains(id)).copied().collect();
    for list in
        [&mut plan.mark, &mut plan.recover, &mut plan.remove, &mut plan.waiting, &mut plan.drop, &mut plan.unreferenced]
    {
        list.sort_unstable();
    }
    let freed = plan.mark.iter().chain(&plan.remove).chain(&plan.unreferenced).chain(&plan.repack);
    let freed: u64 = freed.filter_map(|id| survey.packs.get(id)).sum();
    plan.freed_bytes = freed.saturating_sub(plan.repacked_bytes);
    plan
}

/// A marked pack that is not needed: it goes when its time is over and no run is older than the mark.
fn tombstone(
    plan: &mut PrunePlan,
    pack: &PackUse,
    since: Option<Timestamp>,
    survey: &Survey,
    options: &PruneOptions,
    now: Timestamp,
) {
    let grace = SignedDuration::try_from(options.grace.max(GRACE_MIN)).unwrap_or(SignedDuration::MAX);
    match since {
        _ if options.is_instant => plan.remove.push(pack.info.id),
        // Without a time it is marked anew.
        None => plan.mark.push(pack.info.id),
        Some(since) if now.duration_since(since) >= grace && !survey.has_run_since_before(since, now) => {
            plan.remove.push(pack.info.id);
        }
        Some(_) => plan.waiting.push(pack.info.id),
    }
}

/// Repacks mixed packs and plain trees, many small packs, and the emptiest of the others until few unused bytes are left.
fn choose_repack(plan: &mut PrunePlan, packs: Vec<&PackUse>, options: &PruneOptions) {
    let small = small_packs(&packs);
    let is_plain = |pack: &PackUse| pack.plain.trees || options.care.compresses_data && pack.plain.data;
    let is_due = |pack: &PackUse| pack.info.kind.is_none() || is_plain(pack) || small.contains(&pack.info.id);
    let mut packs = packs;
    // What must be, then trees, then the worst share of unused bytes, by their names where equal.
    packs.sort_by(|a, b| {
        let is_tree = |pack: &PackUse| pack.info.kind == Some(BlobKind::Tree);
        let share = u128::from(b.unused_bytes) * u128::from(a.info.size);
        let share = share.cmp(&(u128::from(a.unused_bytes) * u128::from(b.info.size)));
        (is_due(b), is_tree(b)).cmp(&(is_due(a), is_tree(a))).then(share).then(a.info.id.cmp(&b.info.id))
    });
    let mut unused: u64 = packs.iter().map(|pack| pack.unused_bytes).sum();
    let allowed = match options.max_unused {
        MaxUnused::Percent(percent) => share(plan.used_bytes, percent),
        MaxUnused::Bytes(bytes) => bytes,
        MaxUnused::Unlimited => u64::MAX,
    };
    let mut left = options.repack_bytes_max.unwrap_or(u64::MAX);
    for pack in packs {
        let is_wanted = is_due(pack) || pack.unused_bytes > 0 && unused > allowed;
        if is_wanted && pack.info.size <= left {
            left -= pack.info.size;
            unused -= pack.unused_bytes;
            plan.repacked_bytes += pack.used_bytes;
            plan.repack.push(pack.info.id);
        } else {
            plan.kept += 1;
        }
    }
    plan.left_bytes = unused;
}

/// So many percent of some bytes.
#[expect(clippy::cast_sign_loss, reason = "a share of nothing negative is not negative")]
fn share(bytes: u64, percent: f64) -> u64 {
    (bytes as f64 * percent.max(0.0) / 100.0) as u64
}

/// Fully needed packs so small that together they are worth a rewrite.
fn small_packs(packs: &[&PackUse]) -> HashSet<PackId> {
    let mut sizes: Vec<_> = packs.iter().map(|pack| pack.info.size).collect();
    sizes.sort_unstable();
    let percentile = sizes.get(sizes.len() * 3 / 100).copied().unwrap_or(0);
    let limit = SMALL_SIZE.max(percentile) / 5 * 4;
    let mut chosen = HashSet::new();
    for kind in [BlobKind::Data, BlobKind::Tree] {
        let small = packs.iter().filter(|pack| pack.info.kind == Some(kind) && pack.info.size < limit);
        let small: Vec<_> = small.map(|pack| pack.info.id).collect();
        if small.len() >= SMALL_MIN {
            chosen.extend(small);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{index::PackInfo, prune::usage::Plain};

    const MIB: u64 = 1 << 20;

    /// A pack that is there, by its number, with needed and unneeded bytes.
    fn pack(number: u8, used_bytes: u64, unused_bytes: u64) -> PackUse {
        let info = PackInfo {
            id: PackId([number; 32]),
            size: used_bytes + unused_bytes,
            blobs: 1,
            kind: Some(BlobKind::Data),
            state: PackState::Live,
            index: None,
            is_unproved: false,
        };
        let plain = Plain::default();
        PackUse { info, is_good: true, is_there: true, used_bytes, used_blobs: 1, unused_bytes, plain }
    }

    fn now() -> Timestamp {
        "2026-11-20T00:00:00Z".parse().unwrap()
    }

    /// The numbers of the packs in each list: mark, recover, remove, waiting, drop, repack, unreferenced.
    fn lists(plan: &PrunePlan) -> [Vec<u8>; 7] {
        let lists =
            [&plan.mark, &plan.recover, &plan.remove, &plan.waiting, &plan.drop, &plan.repack, &plan.unreferenced];
        lists.map(|list| list.iter().map(|id| id.0[0]).collect())
    }

    #[track_caller]
    fn check(packs: &[PackUse], options: &PruneOptions, expected: [&[u8]; 7]) -> PrunePlan {
        let there = packs.iter().filter(|pack| pack.is_there).map(|pack| (pack.info.id, pack.info.size)).collect();
        let plan = decide(packs, &Survey::of_packs(there), options, now());
        assert_eq!(lists(&plan), expected.map(<[u8]>::to_vec));
        plan
    }

    fn keeping(max_unused: MaxUnused) -> PruneOptions {
        PruneOptions { max_unused, ..PruneOptions::default() }
    }

    #[test]
    fn the_emptiest_packs_are_repacked_until_few_unused_bytes_are_left() {
        let packs =
            [pack(1, 15 * MIB, MIB), pack(2, 4 * MIB, 12 * MIB), pack(3, 8 * MIB, 8 * MIB), pack(4, 16 * MIB, 0)];
        let plan = check(&packs, &keeping(MaxUnused::Bytes(MIB)), [&[], &[], &[], &[], &[], &[2, 3], &[]]);
        assert_eq!((plan.kept, plan.left_bytes, plan.repacked_bytes, plan.freed_bytes), (2, MIB, 12 * MIB, 20 * MIB));
        check(&packs, &keeping(MaxUnused::Bytes(0)), [&[], &[], &[], &[], &[], &[2, 3, 1], &[]]);
        check(&packs, &keeping(MaxUnused::Percent(20.0)), [&[], &[], &[], &[], &[], &[2, 3], &[]]);
        check(&packs, &keeping(MaxUnused::Unlimited), [&[], &[], &[], &[], &[], &[], &[]]);
    }

    #[test]
    fn ten_small_packs_are_worth_a_rewrite_and_nine_are_not() {
        let packs: Vec<_> = (1..=10).map(|number| pack(number, MIB, 0)).collect();
        check(&packs[..9], &PruneOptions::default(), [&[], &[], &[], &[], &[], &[], &[]]);
        let all: Vec<u8> = (1..=10).collect();
        check(&packs, &PruneOptions::default(), [&[], &[], &[], &[], &[], &all, &[]]);
    }

    #[test]
    fn mixed_packs_and_plain_trees_are_rewritten_in_any_case_and_plain_data_on_request() {
        let mut packs = [pack(1, 16 * MIB, 0), pack(2, 16 * MIB, 0), pack(3, 16 * MIB, 0)];
        packs[1].info.kind = None;
        packs[2].plain.trees = true;
        packs[0].plain.data = true;
        let mut options = keeping(MaxUnused::Unlimited);
        check(&packs, &options, [&[], &[], &[], &[], &[], &[2, 3], &[]]);
        options.care.compresses_data = true;
        check(&packs, &options, [&[], &[], &[], &[], &[], &[1, 2, 3], &[]]);
    }

    #[test]
    fn marks_grow_old_by_the_grace_time_and_never_less_than_a_day() {
        let hours = |hours| PackState::Tombstoned(Some(now() - SignedDuration::from_hours(hours)));
        let states = [hours(23), hours(24), hours(60), PackState::Tombstoned(None)];
        let mut packs: Vec<_> = (1..)
            .zip(states)
            .map(|(number, state)| {
                let mut pack = pack(number, 0, MIB);
                pack.info.state = state;
                pack
            })
            .collect();
        let mut options = PruneOptions { grace: std::time::Duration::ZERO, ..PruneOptions::default() };
        check(&packs, &options, [&[4], &[], &[2, 3], &[1], &[], &[], &[]]);
        options.grace = std::time::Duration::from_hours(48);
        check(&packs, &options, [&[4], &[], &[3], &[1, 2], &[], &[], &[]]);
        packs[2].used_bytes = 1;
        check(&packs, &options, [&[4], &[3], &[], &[1, 2], &[], &[], &[]]);
    }

    #[test]
    fn lost_packs_that_nobody_needs_leave_the_index() {
        let mut packs = [pack(1, 0, MIB), pack(2, 0, MIB)];
        packs[1].is_there = false;
        check(&packs, &PruneOptions::default(), [&[1], &[], &[], &[], &[2], &[], &[]]);
    }
}
