//! Single behaviours of the core, one claim a test.

mod model;

use std::time::Duration;

use model::{ARGS, Host, READ, WRITE};
use naam_abi::limits::MESSAGES_MAX;
use naam_abi::siphash::{Key, PUBLIC_KEY};
use naam_abi::tables::Site;
use naam_abi::wire::{self, Header, Kind, Status};
use naam_client::{Call, CallError, Core, Function, FunctionInfo, Integrity, Options, SessionInfo, Shard, SubmitError};

const NOW: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

fn core_of(session: SessionInfo, options: &Options) -> Core {
    Core::new(session, options, 1472, NOW)
}

fn core() -> Core {
    core_of(model::session(), &Options::default())
}

fn read(args: &[u8; ARGS]) -> Call<'_> {
    Call::new(Function { number: READ }, args)
}

fn write(args: &[u8; ARGS]) -> Call<'_> {
    Call::new(Function { number: WRITE }, args)
}

/// The next datagram, if one is due.
fn sent(core: &mut Core, now: u64) -> Option<Vec<u8>> {
    let mut buffer = vec![0xee; 1472];
    core.transmit(now, &mut buffer).map(|out| {
        let (header, _) = wire::parse(&buffer).unwrap();
        assert_eq!((usize::from(header.length), out.port), (out.len, core.session().port(header.shard)));
        buffer.truncate(out.len);
        buffer
    })
}

type Outcome = Result<Vec<u8>, CallError>;

fn arrive(core: &mut Core, bytes: &[u8], now: u64) -> Vec<Outcome> {
    let mut ends = Vec::new();
    core.receive(now, bytes, &mut |end| ends.push(end.outcome.map(|reply| reply.bytes.to_vec())));
    ends
}

fn ticked(core: &mut Core, now: u64) -> Vec<Outcome> {
    let mut ends = Vec::new();
    core.tick(now, &mut |end| ends.push(end.outcome.map(|reply| reply.bytes.to_vec())));
    ends
}

/// The reply that says `status` to every message of a request.
fn refusal(request: &[u8], status: Status, edit: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut bytes = request.to_vec();
    let mut header = Header::decode(&bytes).unwrap();
    header.kind = Kind::Error;
    header.status = status as u16;
    edit(&mut header);
    header.encode(&mut bytes);
    header.tag = wire::tag(PUBLIC_KEY, &bytes);
    header.encode(&mut bytes);
    bytes
}

#[test]
fn calls_of_one_function_and_shard_share_a_datagram() {
    let mut core = core();
    let args = [7; ARGS];
    for i in 0..4 {
        core.submit(&read(&args).shard(Shard::Number(i % 2)), NOW).unwrap();
        core.submit(&write(&args).shard(Shard::Number(0)), NOW).unwrap();
    }
    let mut trains = Vec::new();
    while let Some(bytes) = sent(&mut core, NOW) {
        let (header, messages) = wire::parse(&bytes).unwrap();
        assert_eq!(messages.count(), usize::from(header.count));
        assert_eq!(header.tag, wire::tag(PUBLIC_KEY, &bytes));
        trains.push((header.function, header.shard, header.count, header.nonce));
    }
    assert_eq!(trains, [(READ, 0, 2, 1), (WRITE, 0, 4, 2), (READ, 1, 2, 3)]);
}

#[test]
fn a_datagram_ends_at_its_limits() {
    let mut core = core();
    let args = [7; ARGS];
    for _ in 0..40 {
        core.submit(&read(&args).reply_room(8), NOW).unwrap();
    }
    // 48 bytes of header, then messages of 32 + 16: 29 fit 1,472 bytes.
    let counts: Vec<_> =
        std::iter::from_fn(|| sent(&mut core, NOW)).map(|bytes| Header::decode(&bytes).unwrap().count).collect();
    assert_eq!(counts, [29, 11]);
    for _ in 0..40 {
        core.submit(&Call::new(Function { number: READ }, &[]).reply_room(0), NOW).unwrap();
    }
    let first = sent(&mut core, NOW).unwrap();
    assert_eq!(usize::from(Header::decode(&first).unwrap().count), MESSAGES_MAX);
}

#[test]
fn a_datagram_carries_no_more_messages_than_asked_for() {
    let mut core = core_of(model::session(), &Options { messages_max: 3, ..Options::default() });
    let args = [7; ARGS];
    for _ in 0..7 {
        core.submit(&read(&args), NOW).unwrap();
    }
    let counts: Vec<_> =
        std::iter::from_fn(|| sent(&mut core, NOW)).map(|bytes| Header::decode(&bytes).unwrap().count).collect();
    assert_eq!(counts, [3, 3, 1]);
}

#[test]
fn a_lingering_datagram_goes_when_full_or_when_its_time_is_over() {
    let options = Options { linger: Duration::from_micros(100), ..Options::default() };
    let mut core = core_of(model::session(), &options);
    let args = [7; ARGS];
    core.submit(&read(&args), NOW).unwrap();
    assert_eq!(sent(&mut core, NOW + 99_999), None);
    assert_eq!(core.next_event(), Some(NOW + 100_000));
    for _ in 0..17 {
        core.submit(&read(&args), NOW + 1).unwrap();
    }
    // 17 messages of 32 + 48 fill a datagram; the eighteenth waits its own time.
    assert_eq!(Header::decode(&sent(&mut core, NOW + 2).unwrap()).unwrap().count, 17);
    assert_eq!(sent(&mut core, NOW + 99_000), None);
    assert_eq!(Header::decode(&sent(&mut core, NOW + 100_002).unwrap()).unwrap().count, 1);
}

#[test]
fn a_full_window_and_used_up_slots_say_so() {
    let options = Options { window: 4, ..Options::default() };
    let mut session = model::session();
    session.slots = 2;
    let mut core = core_of(session, &options);
    let args = [7; ARGS];
    core.submit(&write(&args), NOW).unwrap();
    core.submit(&write(&args), NOW).unwrap();
    assert_eq!(core.submit(&write(&args), NOW), Err(SubmitError::NoSlot { slots: 2 }));
    core.submit(&read(&args), NOW).unwrap();
    core.submit(&read(&args), NOW).unwrap();
    assert_eq!(core.submit(&read(&args), NOW), Err(SubmitError::Busy { window: 4 }));
    assert_eq!((core.stats().busy, core.stats().submitted), (2, 4));
    // An answer makes room again.
    let mut request = sent(&mut core, NOW).unwrap();
    Host::new().serve(&mut request, NOW, 1, false).unwrap();
    assert_eq!(arrive(&mut core, &request, NOW + MS).len(), 2);
    core.submit(&write(&args), NOW + MS).unwrap();
}

#[test]
fn calls_that_cannot_be_sent_are_refused_at_once() {
    let mut core = core();
    let function = Function { number: READ };
    let long = [0; 1088];
    let error = core.submit(&Call::new(Function { number: 20 }, &[]), NOW).unwrap_err();
    assert_eq!(error, SubmitError::NoFunction { number: 20 });
    let error = core.submit(&Call::new(function, &[0; 1089]), NOW).unwrap_err();
    assert_eq!(error, SubmitError::ArgsTooLong { len: 1089, max: 1088 });
    let error = core.submit(&Call::new(function, &[]).shard(Shard::Number(64)), NOW).unwrap_err();
    assert_eq!(error, SubmitError::NoShard { shard: 64, shards: 64 });
    let mut narrow = Core::new(model::session(), &Options::default(), 1000, NOW);
    let error = narrow.submit(&Call::new(function, &long), NOW).unwrap_err();
    assert_eq!(error, SubmitError::RoomTooLong { room: 1088, max: 1000 });
    assert_eq!(core.stats().submitted, 0);
}

#[test]
fn a_lost_write_is_repeated_under_its_slot_and_sequence() {
    let mut core = core();
    core.submit(&write(&[7; ARGS]), NOW).unwrap();
    let message = |bytes: &[u8]| wire::parse(bytes).unwrap().1.next().unwrap().unwrap().0;
    let first = message(&sent(&mut core, NOW).unwrap());
    let mut now = NOW;
    let second = loop {
        now += MS;
        assert!(now < NOW + 100 * MS, "never repeated");
        assert_eq!(ticked(&mut core, now), []);
        if let Some(bytes) = sent(&mut core, now) {
            break message(&bytes);
        }
    };
    assert_eq!((first.request, first.slot, first.sequence), (second.request, second.slot, second.sequence));
    assert_ne!(first.sent, second.sent);
    assert_eq!(core.stats().retries, 1);
}

#[test]
fn timeouts_say_whether_the_message_may_have_run() {
    let mut core = core();
    let args = [7; ARGS];
    let call = write(&args).timeout(Duration::from_millis(50));
    core.submit(&call, NOW).unwrap();
    // Never sent.
    let timeout = |attempts, may_have_run| Err(CallError::Timeout { attempts, may_have_run });
    assert_eq!(ticked(&mut core, NOW + 51 * MS), [timeout(0, false)]);
    // Sent, unanswered.
    core.submit(&call, NOW + 60 * MS).unwrap();
    sent(&mut core, NOW + 60 * MS).unwrap();
    assert_eq!(ticked(&mut core, NOW + 200 * MS), [timeout(1, true)]);
    // An answer says "not run", but of this copy only.
    core.submit(&call, NOW + 300 * MS).unwrap();
    let request = sent(&mut core, NOW + 300 * MS).unwrap();
    let reply = refusal(&request, Status::Elsewhere, |_| {});
    assert_eq!(arrive(&mut core, &reply, NOW + 301 * MS), []);
    assert_eq!(ticked(&mut core, NOW + 400 * MS), [timeout(1, true)]);
    assert_eq!((core.stats().timeouts, core.stats().timeouts_not_run), (3, 1));
}

#[test]
fn a_repeated_answer_asks_again_once() {
    let mut core = core();
    let args = [7; ARGS];
    core.submit(&write(&args).timeout(Duration::from_millis(50)), NOW).unwrap();
    let first = sent(&mut core, NOW).unwrap();
    let late = refusal(&first, Status::Version, |header| header.handler = 2);
    assert_eq!(arrive(&mut core, &late, NOW + 1), []);
    sent(&mut core, NOW + 1).expect("asked again at once");
    // A copy of that answer speaks of the first attempt, and the second is under way.
    assert_eq!(arrive(&mut core, &late, NOW + 2), []);
    assert_eq!((sent(&mut core, NOW + 3), core.stats().late), (None, 1));
    assert_eq!(ticked(&mut core, NOW + 60 * MS), [Err(CallError::Timeout { attempts: 2, may_have_run: true })]);
}

#[test]
fn a_replaced_handler_is_asked_again_by_its_new_version() {
    let mut core = core();
    let (mut host, args) = (Host::new(), [7; ARGS]);
    host.version = 5;
    core.submit(&write(&args), NOW).unwrap();
    core.submit(&write(&args), NOW).unwrap();
    let mut request = sent(&mut core, NOW).unwrap();
    host.serve(&mut request, NOW, 1, false).unwrap();
    assert_eq!(arrive(&mut core, &request, NOW + 10), []);
    let mut request = sent(&mut core, NOW + 10).expect("asked again at once");
    assert_eq!(Header::decode(&request).unwrap().handler, 5);
    host.serve(&mut request, NOW + 20, 1, false).unwrap();
    assert_eq!(arrive(&mut core, &request, NOW + 30).len(), 2);
    let stats = core.stats();
    assert_eq!((stats.version_retries, stats.version_refreshes, stats.succeeded), (2, 1, 2));
    assert_eq!(host.effects.values().copied().max(), Some(2), "both calls had the same arguments");
}

#[test]
fn a_running_write_is_asked_for_later() {
    let mut core = core();
    let (mut host, args) = (Host::new(), [7; ARGS]);
    core.submit(&write(&args), NOW).unwrap();
    let request = sent(&mut core, NOW).unwrap();
    host.serve(&mut request.clone(), NOW, 3 * MS, false).unwrap();
    let mut repeat = request.clone();
    host.serve(&mut repeat, NOW + 1, 3 * MS, false).unwrap();
    assert_eq!(arrive(&mut core, &repeat, NOW + 2), []);
    assert_eq!((core.stats().running, sent(&mut core, NOW + 3)), (1, None));
    assert_eq!(ticked(&mut core, NOW + 100 * MS), []);
    let mut again = sent(&mut core, NOW + 100 * MS).unwrap();
    host.serve(&mut again, NOW + 100 * MS, 1, false).unwrap();
    assert_eq!(arrive(&mut core, &again, NOW + 101 * MS), [Ok(model::expected_reply(&args))]);
    assert_eq!((core.stats().from_slot, host.effects.len()), (1, 1));
}

/// A reply that says "over budget" after `steps` steps.
fn over_budget(request: &[u8], steps: u8) -> Vec<u8> {
    let mut bytes = request.to_vec();
    bytes[wire::HEADER_BYTES + 18] = steps;
    refusal(&bytes, Status::Budget, |_| {})
}

#[test]
fn what_met_a_busy_host_is_repeated_and_nothing_else_is() {
    let mut core = core();
    core.submit(&read(&[7; ARGS]), NOW).unwrap();
    let request = sent(&mut core, NOW).unwrap();
    assert_eq!(arrive(&mut core, &over_budget(&request, 3), NOW + MS), []);
    assert_eq!((core.stats().out_of_time, sent(&mut core, NOW + MS)), (1, None));
    assert_eq!(ticked(&mut core, NOW + 200 * MS), []);
    let again = sent(&mut core, NOW + 200 * MS).unwrap();
    // 32 steps are all that a message gets; asking again would not help.
    let refused = [Err(CallError::Refused { status: Status::Budget, code: 0, may_have_run: true })];
    assert_eq!(arrive(&mut core, &over_budget(&again, 32), NOW + 201 * MS), refused);
    // So a write: time cuts nothing that has had an effect, and gives the slot back.
    core.submit(&write(&[7; ARGS]), NOW + 300 * MS).unwrap();
    let request = sent(&mut core, NOW + 300 * MS).unwrap();
    assert_eq!(arrive(&mut core, &over_budget(&request, 3), NOW + 301 * MS), []);
    assert_eq!((core.stats().out_of_time, ticked(&mut core, NOW + 600 * MS)), (2, vec![]));
    let again = sent(&mut core, NOW + 600 * MS).unwrap();
    let identity = |datagram: &[u8]| datagram[wire::HEADER_BYTES..][..14].to_vec();
    assert_eq!(identity(&again), identity(&request), "under its slot and sequence");
    // What its slot says is its end, however many steps it took to look it up.
    let mut from_slot = again;
    from_slot[wire::HEADER_BYTES + 17] = wire::MESSAGE_DUPLICATE;
    assert_eq!(arrive(&mut core, &over_budget(&from_slot, 0), NOW + 601 * MS), refused);
}

#[test]
fn duplicates_and_late_answers_are_counted_and_harmless() {
    let mut core = core();
    let args = [7; ARGS];
    core.submit(&read(&args), NOW).unwrap();
    let mut reply = sent(&mut core, NOW).unwrap();
    Host::new().serve(&mut reply, NOW, 1, false).unwrap();
    assert_eq!(arrive(&mut core, &reply, NOW + 1).len(), 1);
    assert_eq!(arrive(&mut core, &reply, NOW + 2), []);
    assert_eq!((core.stats().duplicates, core.stats().late), (1, 0));
    // The entry's next use has another id.
    core.submit(&read(&args), NOW + 3).unwrap();
    assert_eq!(arrive(&mut core, &reply, NOW + 4), []);
    assert_eq!((core.stats().late, core.in_flight()), (1, 1));
}

#[test]
fn wrong_tags_and_strangers_are_dropped_and_counted() {
    let mut session = model::session();
    session.integrity = Integrity::Tagged { id: 9, key: Key { k0: 1, k1: 2 } };
    let mut core = core_of(session, &Options::default());
    core.submit(&read(&[7; ARGS]), NOW).unwrap();
    let request = sent(&mut core, NOW).unwrap();
    assert_eq!(Header::decode(&request).unwrap().key, 9);
    // Tagged with the public key instead of the session's.
    assert_eq!(arrive(&mut core, &refusal(&request, Status::Session, |_| {}), NOW), []);
    assert_eq!(arrive(&mut core, &refusal(&request, Status::Session, |header| header.session = 78), NOW), []);
    assert_eq!(arrive(&mut core, &request, NOW), [], "our own request comes back");
    assert_eq!(arrive(&mut core, &request[..40], NOW), []);
    let stats = core.stats();
    assert_eq!((stats.wrong_tag, stats.foreign, stats.unexpected, stats.malformed), (1, 1, 1, 1));
    assert_eq!(core.in_flight(), 1);
}

#[test]
fn without_integrity_no_tag_is_made_or_asked_for() {
    let mut session = model::session();
    session.integrity = Integrity::Off;
    let mut core = core_of(session, &Options::default());
    core.submit(&read(&[7; ARGS]), NOW).unwrap();
    let request = sent(&mut core, NOW).unwrap();
    assert_eq!(Header::decode(&request).unwrap().tag, 0);
    let reply = refusal(&request, Status::NoFunction, |header| header.tag = 0);
    let refused = CallError::Refused { status: Status::NoFunction, code: 0, may_have_run: false };
    assert_eq!(arrive(&mut core, &reply, NOW), [Err(refused)]);
}

#[test]
fn replies_move_placements_forward_only() {
    let mut core = core();
    let reply = |core: &mut Core, epoch| {
        core.submit(&read(&[7; ARGS]).shard(Shard::Number(3)), NOW).unwrap();
        let request = sent(core, NOW).unwrap();
        let bytes = refusal(&request, Status::NoFunction, |header| {
            (header.epoch, header.placement, header.lease) = (epoch, Site::Dpu as u8, 40);
        });
        arrive(core, &bytes, NOW);
        Header::decode(&request).unwrap().epoch
    };
    reply(&mut core, 9);
    assert_eq!(reply(&mut core, 4), 9, "requests carry the newest epoch");
    let placement = core.placement(3).unwrap();
    assert_eq!((placement.epoch, placement.site, placement.lease_ms), (9, Site::Dpu, 40));
}

#[test]
fn closing_ends_every_call() {
    let mut core = core();
    core.submit(&read(&[7; ARGS]), NOW).unwrap();
    sent(&mut core, NOW).unwrap();
    core.submit(&read(&[8; ARGS]), NOW).unwrap();
    let mut ends = Vec::new();
    core.close(&mut |end| ends.push(end.outcome.unwrap_err().may_have_run()));
    ends.sort_unstable();
    assert_eq!((ends, core.in_flight(), core.stats().closed), (vec![false, true], 0, 2));
    assert_eq!((sent(&mut core, NOW), core.next_event()), (None, None));
}

#[test]
fn functions_can_be_learned_later() {
    let mut core = core();
    assert_eq!(core.function("late"), None);
    let info = FunctionInfo { number: 33, version: 4, writes: false, reply_max: 8 };
    let function = core.learn("late", info).unwrap();
    assert_eq!(core.function("late"), Some(function));
    core.submit(&Call::new(function, &[]), NOW).unwrap();
    let header = Header::decode(&sent(&mut core, NOW).unwrap()).unwrap();
    assert_eq!((header.function, header.handler), (33, 4));
}
