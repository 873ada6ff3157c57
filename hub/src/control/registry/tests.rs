use proto::limits::REQUEST_ID_MEMORY_MS;

use super::*;

const NOW: u64 = 1_700_000_000_000;
const PAYER: Point = Point::from_bytes([2; 33]);
const PAYEE: Point = Point::from_bytes([3; 33]);

fn stream() -> Stream {
    Stream { payer: PAYER, payee: PAYEE, accepted: false, opened_ms: NOW }
}

fn inbound(amount_sat: u64) -> Inbound {
    Inbound {
        amount_sat,
        owner: OwnerId(5000),
        channel_id: ChannelId([7; 32]),
        state: InboundState::Requested,
    }
}

#[test]
fn a_call_is_executed_once_and_an_id_serves_one_body() {
    let mut registry = Registry::default();
    let id = RequestId::new(NOW, [1; 10]);
    let (remembered, input) = registry.check_call(id, [1; 32], NOW).unwrap();
    assert_eq!(remembered, Remembered::Fresh);
    registry.apply(&input.unwrap());
    assert_eq!(registry.check_call(id, [1; 32], NOW), Ok((Remembered::Repeat, None)));
    assert_eq!(registry.check_call(id, [2; 32], NOW), Err(RememberError::Reused));
}

#[test]
fn an_id_too_old_to_be_remembered_is_never_executed() {
    let mut registry = Registry::default();
    let id = RequestId::new(NOW, [1; 10]);
    let (_, input) = registry.check_call(id, [1; 32], NOW).unwrap();
    registry.apply(&input.unwrap());
    let later = NOW + REQUEST_ID_MEMORY_MS + 1;
    let forget = registry.check_forget(later).unwrap();
    registry.apply(&forget);
    assert_eq!(registry.check_forget(later), None);
    assert!(matches!(registry.check_call(id, [1; 32], later), Err(RememberError::Id(_))));
}

#[test]
fn streams_are_bounded_by_wallet_and_known_to_their_ends_only() {
    let mut registry = Registry::default();
    let id = StreamId([1; 16]);
    registry.apply(&registry.check_stream(id, stream(), 1).unwrap());
    assert_eq!(registry.check_stream(id, stream(), 9), Err(RegistryError::StreamExists));
    assert_eq!(
        registry.check_stream(StreamId([2; 16]), stream(), 1),
        Err(RegistryError::TooManyStreams { maximum: 1 })
    );
    assert!(registry.stream_of(id, &PAYEE).is_ok());
    assert_eq!(registry.stream_of(id, &Point::from_bytes([9; 33])), Err(RegistryError::NoSuchStream));
    registry.apply(&Input::StreamAccepted { id });
    assert!(registry.stream_of(id, &PAYER).unwrap().accepted);
    registry.apply(&Input::StreamEnded { id });
    assert!(registry.streams().is_empty());
}

#[test]
fn inbound_channels_are_bounded_by_count_and_sum_until_they_end() {
    let mut registry = Registry::default();
    let requested = |request: u8, amount| Input::InboundRequested {
        node: PAYER,
        request: RequestId::new(NOW, [request; 10]).0,
        inbound: inbound(amount),
    };
    registry.apply(&requested(1, 600));
    assert_eq!(registry.check_inbound(&PAYER, 400, 2, 1000), Ok(()));
    assert_eq!(
        registry.check_inbound(&PAYER, 401, 2, 1000),
        Err(RegistryError::TooMuchInbound { total: 1001, maximum: 1000 })
    );
    assert_eq!(registry.check_inbound(&PAYER, 1, 1, 1000), Err(RegistryError::TooManyInbound { maximum: 1 }));
    assert_eq!(registry.check_inbound(&PAYEE, 1000, 1, 1000), Ok(()));
    let request = RequestId::new(NOW, [1; 10]).0;
    registry.apply(&Input::InboundEnded { node: PAYER, request });
    assert_eq!(registry.check_inbound(&PAYER, 1000, 1, 1000), Ok(()));
    // The request stays known until it is too old to come again.
    assert!(registry.inbound().contains_key(&(PAYER, request)));
    registry.apply(&registry.check_forget(NOW + REQUEST_ID_MEMORY_MS + 1).unwrap());
    assert!(registry.inbound().is_empty());
}

#[test]
fn replay_equals_the_run_and_a_snapshot_is_the_state() {
    let inputs = [
        Input::StreamOpened { id: StreamId([1; 16]), stream: stream() },
        Input::StreamAccepted { id: StreamId([1; 16]) },
        Input::InboundRequested { node: PAYER, request: [1; 16], inbound: inbound(5) },
        Input::InboundOpened { node: PAYER, request: [1; 16] },
        Input::CallRemembered { request: [2; 16], body: [3; 32] },
        Input::Earned { next_event: 7, total_msat: 8 },
    ];
    let mut run = Registry::default();
    let mut replayed = Registry::default();
    for input in &inputs {
        run.apply(input);
        let mut bytes = Vec::new();
        input.encode(&mut bytes);
        replayed.apply(&Input::decode(&bytes).unwrap());
    }
    assert_eq!(run, replayed);
    assert_eq!(Registry::decode(&run.encode()).unwrap(), run);
    assert_eq!(Registry::decode(&[9, 1]), Err(StateError::Version { found: 9 }));
    assert_eq!(Input::decode(&[]), Err(StateError::Broken));
}

/// A registry whose snapshot the journal refused would end the process at the next one, and at every one after.
#[test]
fn a_registry_with_everything_it_may_hold_fits_a_snapshot() {
    let far = u64::MAX;
    let mut registry = Registry::default();
    let empty = registry.encode().len();
    let mut worst = 0;
    let mut grow = |registry: &mut Registry, input: Input, most: usize| {
        let before = registry.encode().len();
        registry.apply(&input);
        worst += (registry.encode().len() - before) * most;
    };
    let stream = Stream { opened_ms: far, ..stream() };
    grow(&mut registry, Input::StreamOpened { id: StreamId([1; 16]), stream }, MAX_STREAMS);
    let inbound = Inbound { amount_sat: far, owner: OwnerId(far), ..inbound(0) };
    let asked = Input::InboundRequested { node: PAYER, request: [1; 16], inbound };
    grow(&mut registry, asked, MAX_INBOUND);
    grow(&mut registry, Input::CallRemembered { request: [1; 16], body: [1; 32] }, MAX_REQUESTS);
    assert!(empty + worst < journal::limits::MAX_SNAPSHOT_BYTES, "{worst} bytes");
}

#[test]
fn the_counts_by_payer_follow_the_streams_over_a_snapshot() {
    let mut registry = Registry::default();
    for at in 0..3 {
        registry.apply(&Input::StreamOpened { id: StreamId([at; 16]), stream: stream() });
    }
    registry.apply(&Input::StreamEnded { id: StreamId([0; 16]) });
    registry.apply(&Input::StreamEnded { id: StreamId([9; 16]) });
    assert_eq!(Registry::decode(&registry.encode()), Ok(registry.clone()));
    assert!(registry.check_stream(StreamId([5; 16]), stream(), 3).is_ok());
    let full = RegistryError::TooManyStreams { maximum: 2 };
    assert_eq!(registry.check_stream(StreamId([5; 16]), stream(), 2), Err(full));
    for at in 1..3 {
        registry.apply(&Input::StreamEnded { id: StreamId([at; 16]) });
    }
    assert_eq!(registry, Registry::default());
}
