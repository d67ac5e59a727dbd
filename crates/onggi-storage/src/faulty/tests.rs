//! A fault hits exactly the call it is meant for, and does exactly what it says.

use super::*;
use crate::{FileId, conformance, memory::Memory, recording::CallKind};

fn pack(number: u8) -> Handle {
    Handle::new(FileType::Pack, FileId([number; 32]))
}

/// Three packs were created and the second removed, then a rule is added.
async fn three(rule: Rule) -> (Memory, Faulty) {
    let memory = Memory::new();
    let faulty = Faulty::new(Arc::new(memory.clone()));
    for number in [0x10, 0x20, 0x30] {
        faulty.create(pack(number), vec![number; 10].into()).await.unwrap();
    }
    faulty.remove(pack(0x20)).await.unwrap();
    (memory, faulty.with(rule))
}

fn unreachable<T: std::fmt::Debug>(answer: &Result<T>) {
    assert!(matches!(answer, Err(StorageError::Unreachable(_))), "{answer:?}");
}

#[tokio::test]
async fn without_rules_it_is_a_storage() {
    conformance::check(&Faulty::new(Arc::new(Memory::new()))).await;
    conformance::check_absent(&Faulty::new(Arc::new(Memory::absent()))).await;
}

#[tokio::test]
async fn a_create_becomes_what_the_fault_says() {
    use Failure::Unreachable;
    for (fault, is_ok, left) in [
        (Fault::Error(Unreachable), false, None),
        (Fault::ErrorButDone(Unreachable), false, Some("abcd")),
        (Fault::Prefix(Unreachable), false, Some("ab")),
        (Fault::Zeros(Unreachable), false, Some("\0\0\0\0")),
        (Fault::Stop, false, None),
        (Fault::Lie, true, None),
        (Fault::Done, true, Some("abcd")),
    ] {
        let memory = Memory::new();
        let faulty = Faulty::new(Arc::new(memory.clone())).with(Rule::new(fault.clone()));
        assert_eq!(faulty.create(pack(1), "abcd".into()).await.is_ok(), is_ok, "{fault:?}");
        let files: Vec<_> = memory.files().into_iter().map(|(_, content)| content).collect();
        assert_eq!(files, left.into_iter().collect::<Vec<_>>(), "{fault:?}");
        assert_eq!(faulty.injected(), [(Call::Create(pack(1), 4), fault)]);
    }
}

#[tokio::test]
async fn a_rule_hits_the_nth_of_its_calls_only() {
    let rule = Rule::new(Fault::Error(Failure::Full)).on(CallKind::Create).of(FileType::Pack).nth(1);
    let (_, faulty) = three(rule).await;
    faulty.create(Handle::Config, "x".into()).await.unwrap();
    faulty.create(pack(1), "x".into()).await.unwrap();
    faulty.read(pack(1), None).await.unwrap();
    assert!(matches!(faulty.create(pack(2), "x".into()).await, Err(StorageError::Full(_))));
    faulty.create(pack(3), "x".into()).await.unwrap();
    assert_eq!((faulty.calls(), faulty.mutations()), (9, 8));
}

#[tokio::test]
async fn after_a_stop_nothing_reaches_the_storage() {
    let (memory, faulty) = three(Rule::new(Fault::Done).mutating().then_stop()).await;
    faulty.remove(pack(0x10)).await.expect("the last call is done");
    assert!(faulty.is_stopped());
    unreachable(&faulty.remove(pack(0x30)).await);
    unreachable(&faulty.create(pack(9), "x".into()).await);
    unreachable(&faulty.read(pack(0x30), None).await);
    unreachable(&faulty.list(FileType::Pack).try_collect::<Vec<_>>().await);
    assert_eq!(memory.files().len(), 1);
    faulty.heal();
    faulty.remove(pack(0x30)).await.expect("healed");
}

#[tokio::test]
async fn of_two_swapped_calls_the_second_is_done() {
    let (memory, faulty) = three(Rule::new(Fault::Swapped).mutating().then_stop()).await;
    unreachable(&faulty.create(pack(1), "first".into()).await);
    unreachable(&faulty.create(pack(2), "second".into()).await);
    unreachable(&faulty.create(pack(3), "third".into()).await);
    let names: Vec<_> = memory.files().into_iter().map(|(handle, _)| handle).collect();
    assert_eq!(names, [pack(2), pack(0x10), pack(0x30)]);
}

#[tokio::test]
async fn reads_are_spoiled() {
    for (fault, expected) in [(Fault::ShortBody, "12"), (Fault::FlippedBit, "1224"), (Fault::Shifted, "2341")] {
        let faulty = Faulty::new(Arc::new(Memory::new())).with(Rule::new(fault));
        faulty.create(pack(1), "1234".into()).await.unwrap();
        assert_eq!(faulty.read(pack(1), None).await.unwrap(), expected);
        assert_eq!(faulty.read(pack(1), None).await.unwrap(), "1234");
    }
    let (_, faulty) = three(Rule::new(Fault::NotThere).times(2)).await;
    assert!(faulty.stat(pack(0x10)).await.unwrap_err().is_not_found());
    assert!(faulty.read(pack(0x10), None).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn lists_lie_in_every_way() {
    for (fault, expected) in [
        (ListFault::Fails, "error"),
        (ListFault::BreaksOff(1), "10:10 error"),
        (ListFault::Empty, ""),
        (ListFault::LacksEach(2), "10:10"),
        (ListFault::LacksDigit(1), "30:10"),
        (ListFault::EndsAfter(1), "10:10"),
        (ListFault::Duplicated, "10:10 30:10 10:10 30:10"),
        (ListFault::TwoSizes, "10:10 30:10 10:11 30:11"),
        (ListFault::LacksNewest(1), "10:10"),
        (ListFault::HasRemoved(1), "10:10 30:10 20:10"),
        (ListFault::WrongSizes, "10:9 30:9"),
        (ListFault::Reversed, "30:10 10:10"),
    ] {
        let (_, faulty) = three(Rule::new(Fault::List(fault))).await;
        let items: Vec<_> = faulty.list(FileType::Pack).collect().await;
        let word = |item: &Result<FileInfo>| match item {
            Ok(info) => format!("{:02x}:{}", info.handle.id().unwrap().0[0], info.size),
            Err(_) => "error".into(),
        };
        assert_eq!(items.iter().map(word).collect::<Vec<_>>().join(" "), expected, "{fault:?}");
    }
}

#[tokio::test]
async fn a_seed_replays_its_faults() {
    let run = |seed| async move {
        let faulty = Faulty::new(Arc::new(Memory::new())).with_chance(Chance::tolerable(seed));
        for number in 0..200 {
            drop(faulty.create(pack(number), "x".into()).await);
            drop(faulty.read(pack(number), None).await);
        }
        faulty.injected()
    };
    let mut hits = 0;
    for seed in 0..20 {
        let injected = run(seed).await;
        assert_eq!(injected, run(seed).await, "seed {seed}");
        hits += usize::from(!injected.is_empty());
    }
    assert!((5..=20).contains(&hits), "{hits} of 20 seeds have faults");
}

#[tokio::test]
async fn a_hanging_call_never_answers() {
    let (_, faulty) = three(Rule::new(Fault::Hang)).await;
    let call = faulty.stat(pack(0x10));
    futures::pin_mut!(call);
    for _ in 0..10 {
        assert!(futures::poll!(&mut call).is_pending());
    }
}
