//! The client site over a wire made of function calls: home is the kernel, by test runs.

#[path = "site/home.rs"]
mod home;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use home::{Home, PERUSE, READ, WALK, args, call, first, learn, sum};
use naam_abi::tables::{RIGHT_ALL, Site};
use naam_abi::wire::{self, HEADER_BYTES, Header, Kind, MESSAGE_BYTES, Message, Status};
use naam_client::site::{Placement, SiteClient};
use naam_client::{AsyncClient, Call, CallError, ClientError, FunctionInfo, Options, SessionInfo, Shard};
use naam_loader::Hook;
use naam_tests::bench::SESSION;
use naam_tests::frame::sign;
use naam_tests::pieces::Numbers;
use naam_tests::stage::{SHARD, VALUE, pattern};

/// A message whose budget is used up at home comes to its end here, if that is a reader's; a writer goes home again to
/// write, and to end.
#[test]
fn what_home_gives_back_goes_on_here() {
    for hook in [Hook::Xdp, Hook::Tc] {
        let home = Home::new(hook, 3);
        let mut site = home.site(Placement::Hint);
        // Odd and even sums: those of an odd one write.
        for (count, rounds) in [(2, 0), (20, 1), (50, 2)] {
            for from in [0, 8] {
                let before = site.stats();
                let answer = call(&mut site, PERUSE, &args(from, count, 64));
                // A visit here has 32 steps, one at home 3.
                let ended = if rounds == 0 { Site::Host } else { Site::Client };
                assert_eq!((answer.site, first(answer)), (ended, sum(from, count)), "{count} READs");
                let stats = site.stats();
                assert_eq!(stats.taken_back - before.taken_back, rounds, "{count} READs: {stats:?}");
                assert_eq!(stats.returned - before.returned, rounds.saturating_sub(1), "{count} READs: {stats:?}");
            }
        }
        assert_eq!((site.stats().begun_here, home.stage.changes()), (0, vec![]));
        let mut added = 0;
        for count in [2, 20, 50] {
            for from in [0, 8] {
                // All words are multiples of 8: the last of them is made odd.
                let at = from + (count - 1) * 8;
                home.stage.memory[0].store(at, pattern(0, at) + 1, Ordering::SeqCst).expect("inside");
                let before = site.stats();
                let answer = call(&mut site, WALK, &args(from, count, 64));
                assert_eq!((answer.site, first(answer)), (Site::Host, sum(from, count) + 1), "{count} READs");
                added += 1;
                assert_eq!(home.added(64), added);
                let (taken, returned) =
                    (site.stats().taken_back - before.taken_back, site.stats().returned - before.returned);
                assert_eq!((taken, returned), if count == 50 { (2, 2) } else { (1, 1) }, "{count} READs");
                assert_eq!(site.stats().ended_here, before.ended_here);
                home.stage.restore(0, at);
            }
        }
        assert_eq!((home.replay(), site.client().stats().malformed), (vec![], 0));
        home.stage.restore(1, 64);
    }
}

/// Nothing goes on here that may not: where the shard is placed at the host, where no handler was learned, or another
/// version than the one that was cut.
#[test]
fn what_cannot_go_on_here_goes_home_again() {
    let home = Home::new(Hook::Xdp, 3);
    let reads = args(0, 20, 64);
    let at_home = |site: &mut SiteClient| {
        let answer = call(site, PERUSE, &reads);
        assert_eq!((answer.site, first(answer)), (Site::Host, sum(0, 20)));
        assert_eq!((site.stats().taken_back, site.stats().ended_here), (0, 0), "{:?}", site.stats());
        assert_eq!(site.client().stats().pushbacks, 6);
    };
    at_home(&mut home.site(Placement::Host));
    at_home(&mut SiteClient::new(home.client(home.session(), &Options::default()), Placement::Hint));
    // What was learned is the version that follows the one that serves.
    let mut session = home.session();
    let listed = session.functions["peruse"];
    session.functions.insert("peruse".into(), FunctionInfo { version: 2, ..listed });
    let mut site = SiteClient::new(home.client(session, &Options::default()), Placement::Hint);
    learn(&mut site);
    site.list("peruse", listed).unwrap();
    at_home(&mut site);
    // A plain client knows nothing of all this.
    let mut client = home.client(home.session(), &Options::default());
    let function = client.function("peruse").unwrap();
    let reply = client.call(&Call::new(function, &reads).shard(Shard::Number(SHARD))).unwrap();
    assert_eq!((&reply.bytes[..8], client.stats().pushbacks), (&sum(0, 20).to_le_bytes()[..], 6));
}

/// A call that home has given back comes to its one end, and its effect happens once, whatever the wire does to its
/// pieces; copies that come later find it there.
#[test]
fn pieces_lost_and_repeated_have_one_effect() {
    let seed = std::env::var("NAAM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_251_122);
    println!("NAAM_SEED={seed}");
    let mut numbers = Numbers(seed);
    for (hook, steps) in [(Hook::Xdp, 1), (Hook::Tc, 3), (Hook::Xdp, 7)] {
        let home = Home::new(hook, steps);
        let mut site = home.site(Placement::Hint);
        let mut fates = Numbers(seed + u64::from(steps));
        let again = Arc::downgrade(&home);
        let mut before = Vec::<Vec<u8>>::new();
        home.wire().arrives = Some(Box::new(move |datagram| {
            if let Some(home) = again.upgrade()
                && fates.below(4) == 0
            {
                // A copy, of this one or of one before, whose answer nobody gets.
                before.push(datagram.to_vec());
                home.serve(&before[fates.below(before.len() as u64) as usize]);
            }
            before.push(datagram.to_vec());
            fates.below(6) > 0
        }));
        let mut added = HashMap::new();
        for round in 0..20 {
            let (mut expected, mut lasts) = (HashMap::new(), vec![]);
            for at in 0..8 {
                let (from, count, to) = (at * 512, 1 + numbers.below(45), 64 * (1 + numbers.below(4)));
                // Half of the walks write.
                let odd = numbers.below(2);
                let last = from + (count - 1) * 8;
                home.stage.memory[0].store(last, pattern(0, last) + odd, Ordering::SeqCst).expect("inside");
                lasts.push(last);
                let number = if numbers.below(3) == 0 { PERUSE } else { WALK };
                let arguments = args(from, count, to);
                let function = naam_client::Function { number };
                let call = Call::new(function, &arguments).shard(Shard::Number(SHARD)).timeout(Duration::from_secs(30));
                let ticket = site.submit(&call).expect("it is taken");
                expected.insert(ticket, sum(from, count) + odd);
                if number == WALK && odd == 1 {
                    *added.entry(to).or_insert(0) += 1;
                }
            }
            while !expected.is_empty() {
                site.poll(|end| {
                    let sum = expected.remove(&end.ticket).expect("one end for each");
                    let reply = end.outcome.unwrap_or_else(|error| panic!("round {round}: {error}"));
                    assert_eq!(reply.bytes[..8], sum.to_le_bytes(), "{hook}, round {round}");
                })
                .unwrap();
                site.wait(Duration::from_millis(1)).unwrap();
            }
            lasts.iter().for_each(|offset| home.stage.restore(0, *offset));
        }
        for to in [64, 128, 192, 256] {
            assert_eq!(home.added(to), added.get(&to).copied().unwrap_or(0), "{hook}, {steps} steps");
        }
        let stats = site.stats();
        println!("{hook}, {steps} steps a visit: {stats:?}");
        assert!(stats.taken_back > 80 && stats.ended_here > 20 && stats.returned > 60, "too little was tried");
        assert_eq!((stats.strange_pushbacks, stats.strange_reads, stats.never_sent), (0, 0, 0));
        assert_eq!(home.replay(), [], "late copies had an effect");
    }
}

/// A writer that found nothing to write ends at home all the same: a copy of it that comes late, and would find
/// something by then, gets that end.
#[test]
fn what_did_not_write_never_will() {
    let home = Home::new(Hook::Xdp, 3);
    let mut site = home.site(Placement::Hint);
    for count in [2, 5, 20, 40] {
        let answer = call(&mut site, WALK, &args(0, count, 64));
        assert_eq!((answer.site, first(answer)), (Site::Host, sum(0, count)));
    }
    assert!(site.stats().taken_back >= 4, "{:?}", site.stats());
    assert_eq!(home.stage.changes(), []);
    for at in 0..40 {
        home.stage.memory[0].store(at * 8, 1, Ordering::SeqCst).expect("inside");
    }
    // The last call's, whose sequence is its slot's newest.
    assert_eq!(home.replay(), [], "a late copy has written");
}

/// Offset of the first message's header in an answer, and of its room.
const MESSAGE: usize = HEADER_BYTES;
const ROOM: usize = HEADER_BYTES + MESSAGE_BYTES;
/// Offsets in the room of a walk that was cut: its op and its state lie behind four words of arguments.
const OP: usize = ROOM + 32;
const STATE: usize = OP + 40;

/// What the engine cannot take in is counted and not believed: the call asks again, and the true answer is its end.
#[test]
fn strange_pushbacks_are_counted_and_not_believed() {
    let home = Home::new(Hook::Xdp, 3);
    let lies: [(usize, u8); 6] =
        [(MESSAGE + 16, 2), (MESSAGE + 16, 4), (OP, 4), (OP + 28, 0), (OP + 28, 72), (OP + 28, 12)];
    for (at, byte) in lies {
        let mut site = home.site(Placement::Hint);
        let mut first_one = true;
        home.wire().bend = Some(Box::new(move |answer| {
            if answer[5] == Kind::Pushback as u8 && std::mem::take(&mut first_one) {
                answer[at] = byte;
                sign(answer);
            }
        }));
        let answer = call(&mut site, PERUSE, &args(0, 20, 64));
        assert_eq!((answer.site, first(answer)), (Site::Client, sum(0, 20)), "{byte} at {at}");
        let stats = (site.stats().strange_pushbacks, site.client().stats().malformed, site.client().stats().pushbacks);
        assert_eq!(stats, (1, 1, 2), "{byte} at {at}");
    }
    assert_eq!(home.stage.changes(), []);
}

/// An answer to a READ that is none: what was given back goes home from where it stood, and ends rightly.
#[test]
fn strange_reads_send_what_was_given_back_home() {
    let home = Home::new(Hook::Xdp, 3);
    let mut site = home.site(Placement::Hint);
    for number in [PERUSE, WALK] {
        let mut answers = 0;
        home.wire().bend = Some(Box::new(move |answer| {
            let message = Message::decode(&answer[MESSAGE..]).expect("a message");
            if answer[10] == READ as u8 {
                answers += 1;
                if answers == 4 {
                    Message { reply_len: 0, ..message }.encode(&mut answer[MESSAGE..]);
                    sign(answer);
                }
            }
        }));
        let before = site.stats();
        assert_eq!(first(call(&mut site, number, &args(0, 20, 64))), sum(0, 20), "{number}");
        let stats = site.stats();
        assert_eq!(stats.strange_reads - before.strange_reads, 1, "{number}: {stats:?}");
        assert_eq!(stats.taken_back - before.taken_back, 2, "{number}: {stats:?}");
    }
    assert_eq!(home.stage.changes(), []);
}

/// Whatever stands in a Pushback, its call ends with a status or in time, and no word changes that the session could not
/// have changed by itself.
#[test]
fn made_up_states_change_nothing_and_end() {
    let home = Home::new(Hook::Xdp, 3);
    let reads = [naam_abi::tables::RIGHT_READ; 8];
    home.stage.bench.datapath.tables().set_rights(SESSION, [RIGHT_ALL; 8], reads);
    let mut numbers = Numbers(5);
    let mut ends = HashMap::<String, u32>::new();
    let mut site = home.site(Placement::Hint);
    for round in 0..150 {
        let mut bytes = Numbers(round);
        home.wire().bend = Some(Box::new(move |answer| {
            // The client, which believes to have all rights, is given back what home has ended for want of them.
            let over = Message::decode(&answer[MESSAGE..]).expect("a message").status == Status::Budget as u16;
            let given_back = over || answer[5] == Kind::Pushback as u8;
            if answer.len() < STATE + 24 || !given_back || bytes.below(4) == 0 {
                return;
            }
            let message = Message::decode(&answer[MESSAGE..]).expect("a message");
            let op = 1 + bytes.below(4) as u8;
            let lie =
                Message { step: op, steps: 1 + bytes.below(60) as u8, arg_len: 32, reply_len: 0, status: 0, ..message };
            Message { flags: wire::MESSAGE_CARRIED, state_len: 3, reply_max: 2, ..lie }.encode(&mut answer[MESSAGE..]);
            answer[5] = Kind::Pushback as u8;
            let mut word = |at: usize, word: u64| answer[at..at + 8].copy_from_slice(&word.to_le_bytes());
            for at in (ROOM..STATE + 24).step_by(8) {
                word(at, if bytes.below(2) == 0 { bytes.below(40) } else { bytes.below(u64::MAX) });
            }
            if bytes.below(4) > 0 {
                word(OP, bytes.below(VALUE / 8) * 8);
                word(OP + 24, bytes.below(3) | (1 + bytes.below(8)) << 35);
            }
            sign(answer);
        }));
        let number = if numbers.below(2) == 0 { WALK } else { PERUSE };
        let arguments = args(0, 20, 64);
        let call = Call::new(naam_client::Function { number }, &arguments).reply_room(240);
        let call = call.shard(Shard::Number(SHARD)).timeout(Duration::from_millis(50));
        let answer = site.call(&call).expect("it is taken");
        let end = match answer.outcome {
            Ok(_) => "ok".into(),
            Err(CallError::Refused { status, .. }) => format!("{status:?}"),
            Err(CallError::Timeout { .. }) => "timeout".into(),
            Err(CallError::Failed { .. }) => "failed".into(),
            Err(error) => panic!("{error}"),
        };
        *ends.entry(format!("{end} at {:?}", answer.site)).or_default() += 1;
        assert_eq!(home.stage.changes(), [], "round {round}");
    }
    let stats = site.stats();
    println!("{ends:?}, {stats:?}, {:?}", site.client().stats());
    assert!(stats.strange_pushbacks > 50 && stats.taken_back > 50 && ends.len() > 4, "too little was tried");
    assert_eq!(site.in_flight(), 0);
}

/// READs of visits that are ready together share datagrams, by shard.
#[test]
fn reads_of_many_visits_share_datagrams() {
    let home = Home::new(Hook::Xdp, 32);
    let mut site = home.site(Placement::Client);
    let arguments = args(0, 5, 64);
    for (shards, datagrams) in [(1, 5), (2, 10)] {
        learn(&mut site);
        for at in 0..16 {
            let function = naam_client::Function { number: PERUSE };
            site.submit(&Call::new(function, &arguments).shard(Shard::Number(at % shards))).expect("it is taken");
        }
        let mut ended = 0;
        while ended < 16 {
            ended += site
                .poll(|end| assert_eq!(end.outcome.expect("an answer").bytes[..8], sum(0, 5).to_le_bytes()))
                .unwrap();
            site.wait(Duration::from_millis(100)).unwrap();
        }
        let sent = std::mem::take(&mut home.wire().sent);
        let counts: Vec<_> = sent.iter().map(|(function, bytes)| (*function, bytes[7])).collect();
        assert_eq!(counts, vec![(READ, 16 / shards as u8); datagrams], "{shards} shards");
    }
}

/// One slot, and a home that answers nothing but READs: who waits for the slot sleeps, and ends at its deadline, not sent.
#[test]
fn visits_without_a_slot_sleep_and_end_in_time() {
    let home = Home::new(Hook::Xdp, 32);
    home.stage.memory[0].store(0, 1, Ordering::SeqCst).expect("inside");
    let session = SessionInfo { slots: 1, ..home.session() };
    let mut site = SiteClient::new(home.client(session, &Options::default()), Placement::Client);
    learn(&mut site);
    home.wire().arrives = Some(Box::new(|datagram| Header::decode(datagram).expect("ours").function == READ));
    let arguments = args(0, 1, 64);
    let walk = Call::new(naam_client::Function { number: WALK }, &arguments).shard(Shard::Number(SHARD));
    // The first has the slot for longer than the others wait.
    for timeout in [2_500, 100, 150, 200, 250] {
        site.submit(&walk.timeout(Duration::from_millis(timeout))).expect("it is taken");
    }
    let (mut ends, mut turns, began) = (vec![], 0, Instant::now());
    while site.in_flight() > 0 {
        site.poll(|end| ends.push((end.ticket.index(), end.outcome.map(|_| ())))).unwrap();
        site.wait(Duration::from_secs(10)).unwrap();
        turns += 1;
        assert!(turns < 2_000, "it spins: {:?}, {ends:?}", site.stats());
    }
    assert!(began.elapsed() >= Duration::from_millis(2_500));
    let not_sent = |index| (index, Err(CallError::Timeout { attempts: 0, may_have_run: false }));
    assert_eq!(ends[..4], [not_sent(1), not_sent(2), not_sent(3), not_sent(4)]);
    let (0, Err(CallError::Timeout { attempts: 1.., may_have_run: true })) = ends[4] else { panic!("{ends:?}") };
    assert_eq!((site.stats().never_sent, site.stats().ended_here, site.stats().ended_at_host), (4, 4, 1));

    // Once home answers, each gets its turn.
    home.wire().arrives = None;
    learn(&mut site);
    for _ in 0..20 {
        site.submit(&walk.timeout(Duration::from_secs(30))).expect("it is taken");
    }
    let mut ended = 0;
    while ended < 20 {
        ended += site.poll(|end| assert!(end.outcome.is_ok(), "{:?}", end.outcome)).unwrap();
        site.wait(Duration::from_millis(100)).unwrap();
    }
    assert_eq!(home.added(64), 20);
}

/// A call that was given back has its place in the window still; where there is none for its READs it goes home.
#[test]
fn a_full_window_sends_what_was_given_back_home() {
    let home = Home::new(Hook::Xdp, 3);
    for window in [1, 2] {
        let options = Options { window, ..Options::default() };
        let mut site = SiteClient::new(home.client(home.session(), &options), Placement::Hint);
        learn(&mut site);
        let arguments = args(0, 20, 64);
        for _ in 0..window {
            let function = naam_client::Function { number: PERUSE };
            let call = Call::new(function, &arguments).shard(Shard::Number(SHARD)).timeout(Duration::from_secs(30));
            site.submit(&call).expect("it is taken");
        }
        let mut ended = 0;
        while ended < window {
            ended += site
                .poll(|end| assert_eq!(end.outcome.expect("an answer").bytes[..8], sum(0, 20).to_le_bytes()))
                .unwrap();
            site.wait(Duration::from_millis(100)).unwrap();
        }
        assert!(site.stats().returned > 0, "{:?}", site.stats());
    }
}

/// A client that closes ends every call it has, and says of each whether it may have run.
#[test]
fn a_site_closes_with_calls_everywhere() {
    let home = Home::new(Hook::Xdp, 3);
    home.stage.memory[0].store(0, 1, Ordering::SeqCst).expect("inside");
    let session = SessionInfo { slots: 1, ..home.session() };
    let mut site = SiteClient::new(home.client(session, &Options::default()), Placement::Client);
    learn(&mut site);
    // READs are answered until the writers have come to their write; then nothing is.
    home.wire().arrives = Some(Box::new(|datagram| Header::decode(datagram).expect("ours").function == READ));
    let (walk, peruse) = (args(0, 1, 64), args(0, 20, 64));
    let call = |number, args| Call::new(naam_client::Function { number }, args).shard(Shard::Number(SHARD));
    let sent = site.submit(&call(WALK, &walk)).unwrap();
    let waiting = site.submit(&call(WALK, &walk)).unwrap();
    (0..3).for_each(|_| assert_eq!(site.poll(|end| panic!("{end:?}")).unwrap(), 0));
    home.wire().arrives = Some(Box::new(|_| false));
    let reading = site.submit(&call(PERUSE, &peruse)).unwrap();
    assert_eq!(site.poll(|end| panic!("{end:?}")).unwrap(), 0);
    let mut ends = HashMap::new();
    site.close(|end| assert!(ends.insert(end.ticket, end.outcome.map(|_| ())).is_none(), "one end each"));
    let closed = |may_have_run| Err(CallError::Closed { may_have_run });
    assert_eq!(ends, HashMap::from([(sent, closed(true)), (waiting, closed(false)), (reading, closed(false))]));
    assert_eq!(site.in_flight(), 0);
}

/// Calls as futures run where their shard is placed, with the same guarantees; the site is reached between two turns.
#[test]
fn futures_run_at_the_client_site() {
    let home = Home::new(Hook::Xdp, 8);
    for at in 0..40 {
        home.stage.memory[0].store(at * 8, pattern(0, at * 8) + u64::from(at == 0), Ordering::SeqCst).expect("inside");
    }
    let options = Options { window: 8, ..Options::default() };
    let site = SiteClient::new(home.client(home.session(), &options), Placement::Client);
    let client = AsyncClient::start_site(site).unwrap();
    block_on_all(vec![client.with_site(learn)]).remove(0).unwrap();
    let mut ended_here = 0;
    for placement in [Placement::Client, Placement::Host] {
        let mut here = 0;
        block_on_all(vec![client.with_site(move |site| site.place(SHARD, placement))]).remove(0).unwrap();
        let before = home.added(64);
        let arguments: Vec<_> = (0..40).map(|at| args(0, at % 30, 64)).collect();
        let calls = arguments.iter().zip(0..).map(|(arguments, at)| {
            let function = client.function(if at % 2 == 0 { "walk" } else { "peruse" }).unwrap();
            let client = client.clone();
            async move {
                let call = Call::new(function, arguments).shard(Shard::Number(SHARD)).timeout(Duration::from_secs(30));
                client.call_anywhere(&call).await
            }
        });
        for (at, end) in (0..).zip(block_on_all(calls.collect())) {
            let (reply, site) = end.unwrap_or_else(|error| panic!("{at}: {error}"));
            let odd = u64::from(at % 30 > 0);
            assert_eq!(reply.bytes[..8], (sum(0, at % 30) + odd).to_le_bytes(), "{at}");
            here += u64::from(site == Site::Client);
            assert!(site == Site::Host || at % 2 == 1 || at % 30 == 0, "{at}: only home ends what has written");
        }
        // Until home has spoken, and after a second in which it did not, a call that is placed here begins there.
        assert_eq!(here > 5, placement == Placement::Client, "{here} ended here");
        ended_here += here;
        assert_eq!(home.added(64) - before, 18, "{placement:?}");
    }
    let stats = block_on_all(vec![client.with_site(|site| site.stats())]).remove(0).unwrap();
    assert_eq!((stats.ended_here, stats.ended_at_host), (ended_here, 80 - ended_here), "{stats:?}");
    assert_eq!(client.stats().in_flight, 0);

    // What panics in the site ends the client, not its callers.
    let panics = block_on_all(vec![client.with_site(|_| -> () { panic!("on purpose") })]).remove(0);
    assert!(matches!(panics, Err(ClientError::Closed)), "{panics:?}");
    let after = block_on_all(vec![client.with_site(|site| site.in_flight())]).remove(0);
    assert!(matches!(after, Err(ClientError::Closed)), "{after:?}");

    let plain = AsyncClient::start(home.session(), &options, home.line()).unwrap();
    let none = block_on_all(vec![plain.with_site(|site| site.in_flight())]).remove(0);
    assert!(matches!(none, Err(ClientError::NoSite)), "{none:?}");
}

/// Runs futures side by side: any executor will do.
fn block_on_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut ends: Vec<_> = futures.iter().map(|_| None).collect();
    let (mut context, until) = (Context::from_waker(Waker::noop()), Instant::now() + Duration::from_secs(60));
    while ends.iter().any(Option::is_none) {
        assert!(Instant::now() < until, "futures hang");
        for (future, end) in futures.iter_mut().zip(&mut ends).filter(|(_, end)| end.is_none()) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                *end = Some(output);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    ends.into_iter().flatten().collect()
}
