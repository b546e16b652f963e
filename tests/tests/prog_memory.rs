//! The client site's choice of a memory, and what becomes of one that is lost: home is the kernel, by test runs, the memory a
//! mapping of its regions that is as slow, and breaks as soon, as the test says.

#[path = "site/home.rs"]
#[allow(dead_code, reason = "prog_site uses the rest")]
mod home;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use home::{Home, PERUSE, args, call, first, learn, sum};
use naam_client::site::choice::{Choice, FACTOR, READS_MIN};
use naam_client::site::memory::{Lost, Memory};
use naam_client::site::search::Found;
use naam_client::site::{Placement, SiteClient};
use naam_client::{Call, ClientError, Function, Options, Shard};
use naam_loader::Hook;
use naam_tests::stage::SHARD;
use rustix::event::{EventfdFlags, eventfd};

/// Much longer than anything takes.
const WAIT: Duration = Duration::from_secs(60);
/// READs of a call.
const READS: u64 = 12;

/// Region 0, mapped.
struct Mirror {
    home: Arc<Home>,
    /// Time from a READ to its bytes.
    slow: Duration,
    /// READs until it breaks.
    left: u32,
    wanted: Vec<(u64, u64, u32, Instant)>,
    /// Tells after `slow`, if it can tell.
    tells: Option<Arc<OwnedFd>>,
    polls: Arc<AtomicU32>,
}

impl Mirror {
    fn new(home: &Arc<Home>, slow_ms: u64, left: u32) -> Box<Self> {
        Box::new(Self {
            home: Arc::clone(home),
            slow: Duration::from_millis(slow_ms),
            left,
            wanted: Vec::new(),
            tells: None,
            polls: Arc::default(),
        })
    }
}

impl Memory for Mirror {
    fn name(&self) -> &'static str {
        "mirror"
    }

    fn read(&mut self, tag: u64, region: u32, offset: u64, len: u32) -> bool {
        self.wanted.push((tag, offset, len, Instant::now()));
        region == 0 && self.wanted.len() < 64
    }

    fn flush(&mut self) -> Result<(), Lost> {
        Ok(())
    }

    fn poll(&mut self, each: &mut dyn FnMut(u64, &[u8])) -> Result<(), Lost> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        let (due, waits) = self.wanted.drain(..).partition(|(.., at)| at.elapsed() >= self.slow);
        self.wanted = waits;
        let due: Vec<_> = due;
        for (tag, offset, len, _) in due {
            self.left = self.left.checked_sub(1).ok_or(Lost { memory: "mirror", cause: "it broke".into() })?;
            let mut bytes = vec![0; len as usize];
            self.home.stage.memory[0].copy_out(offset, &mut bytes).expect("inside");
            each(tag, &bytes);
        }
        Ok(())
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        let (told, slow) = (self.tells.as_ref()?, self.slow);
        // What it has told before is forgotten.
        let _ = rustix::io::read(told, &mut [0; 8]);
        let theirs = Arc::clone(told);
        std::thread::spawn(move || {
            std::thread::sleep(slow);
            rustix::io::write(&theirs, &1u64.to_ne_bytes()).expect("an eventfd");
        });
        Some(told.as_fd())
    }

    fn in_flight(&self) -> usize {
        self.wanted.len()
    }
}

/// A call that runs here, with the right answer.
fn reads(site: &mut SiteClient) {
    assert_eq!(first(call(site, PERUSE, &args(0, READS, 64))), sum(0, READS));
}

/// What its trial beside one-sided functions comes to.
fn tried(site: &mut SiteClient, memory: Box<Mirror>) -> Choice {
    site.choose_memory(memory).expect("the line does not fail");
    let choice = site.choice().expect("there was a trial").clone();
    assert_eq!((choice.tried, choice.chosen), ("mirror", site.memory_name()), "{choice}");
    choice
}

/// Home is far away.
fn slowly() -> home::Fate {
    Box::new(|_| {
        std::thread::sleep(Duration::from_millis(20));
        true
    })
}

/// READs by the memory and by one-sided functions that a call takes.
fn counts(site: &mut SiteClient) -> (u64, u64) {
    // A trial may have lasted longer than what was learned.
    learn(site);
    let before = site.stats();
    reads(site);
    let stats = site.stats();
    (stats.memory_reads - before.memory_reads, stats.reads - before.reads)
}

#[test]
fn the_faster_way_is_taken() {
    let home = Home::new(Hook::Xdp, 32);
    let mut site = home.site(Placement::Client);
    let slow = tried(&mut site, Mirror::new(&home, 40, u32::MAX));
    assert!(slow.chosen == "onesided" && slow.reads.iter().all(|count| *count >= READS_MIN), "{slow}");
    let (by_memory, onesided) = slow.tried_us.zip(slow.onesided_us).expect("both were measured");
    assert!(by_memory >= 40e3 && by_memory > onesided * FACTOR, "{slow}");
    assert_eq!(counts(&mut site), (0, READS));
    // The other way may be the slow one.
    home.wire().arrives = Some(slowly());
    let fast = tried(&mut site, Mirror::new(&home, 0, u32::MAX));
    assert!(fast.chosen == "mirror" && fast.onesided_us.is_some_and(|us| us >= 20e3), "{fast}");
    assert_eq!(counts(&mut site), (READS, 0));
    assert_eq!((site.stats().memory_trials, site.stats().memory_lost), (2, 0));
}

#[test]
fn what_fails_is_not_chosen() {
    let home = Home::new(Hook::Xdp, 32);
    let mut site = home.site(Placement::Client);
    for (left, why) in [(0, "it broke"), (5, "it broke")] {
        let broke = tried(&mut site, Mirror::new(&home, 0, left));
        assert_eq!((broke.chosen, broke.tried_us, broke.why.as_str()), ("onesided", None, &*format!("mirror: {why}")));
        assert_eq!(counts(&mut site), (0, READS));
    }
    // Too slow for a trial.
    let late = tried(&mut site, Mirror::new(&home, 2_000, u32::MAX));
    assert_eq!((late.chosen, late.reads[0]), ("onesided", 0), "{late}");
    // One-sided functions that nobody answers.
    home.wire().arrives = Some(Box::new(|_| false));
    let silent = tried(&mut site, Mirror::new(&home, 1, u32::MAX));
    assert_eq!((silent.chosen, silent.onesided_us), ("mirror", None), "{silent}");
    home.wire().arrives = None;
    assert_eq!(counts(&mut site), (READS, 0));
    // An app without them, and a session that may READ nothing by itself.
    let mut session = home.session();
    session.functions.remove("naam_read");
    let mut without = SiteClient::new(home.client(session, &Options::default()), Placement::Client);
    let choice = tried(&mut without, Mirror::new(&home, 1, u32::MAX));
    assert_eq!((choice.chosen, choice.why.as_str()), ("mirror", "one-sided functions: the app serves none"));
    let mut session = home.session();
    session.regions.values_mut().for_each(|region| region.raw_rights = 0);
    let mut without = SiteClient::new(home.client(session, &Options::default()), Placement::Client);
    let choice = tried(&mut without, Mirror::new(&home, 0, u32::MAX));
    assert!(choice.chosen == "onesided" && choice.why.contains("no raw right"), "{choice}");
}

/// Whoever waits for a memory that tells does not look at it all the while.
#[test]
fn a_memory_that_tells_is_waited_for_asleep() {
    let home = Home::new(Hook::Xdp, 32);
    let looked = |tells: bool| {
        let mut site = home.site(Placement::Client);
        let mut memory = Mirror::new(&home, 20, u32::MAX);
        let polls = Arc::clone(&memory.polls);
        memory.tells = tells.then(|| Arc::new(eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd")));
        site.set_memory(memory);
        assert_eq!(counts(&mut site), (READS, 0));
        assert_eq!(site.stats().memory_sleeps > 0, tells, "{:?}", site.stats());
        polls.load(Ordering::SeqCst)
    };
    let (asleep, awake) = (looked(true), looked(false));
    assert!(asleep * 4 < awake, "{asleep} looks instead of {awake}");
}

/// Calls run by one-sided functions until the trial is over; none of them waits for it.
#[test]
fn calls_go_on_while_a_memory_is_tried() {
    let home = Home::new(Hook::Xdp, 32);
    let mut site = home.site(Placement::Client);
    let function = Function { number: PERUSE };
    let arguments = args(0, READS, 64);
    let submitted = Call::new(function, &arguments).shard(Shard::Number(SHARD)).timeout(WAIT);
    site.submit(&submitted).unwrap();
    let mixed = site.choose_memory(Mirror::new(&home, 0, u32::MAX)).unwrap_err();
    assert!(matches!(mixed, ClientError::Mixed { in_flight: 1 }), "{mixed}");
    site.try_memory(Mirror::new(&home, 10, u32::MAX));
    let (mut ended, end) = (0, Instant::now() + WAIT);
    while site.choice().is_none() {
        assert!(Instant::now() < end, "the trial does not end");
        if site.in_flight() < 4 {
            site.submit(&submitted).unwrap();
        }
        ended += site
            .poll(|completion| assert_eq!(completion.outcome.unwrap().bytes[..8], sum(0, READS).to_le_bytes()))
            .unwrap();
    }
    let stats = site.stats();
    assert!(ended > 20 && stats.memory_reads == 0 && stats.reads >= ended as u64 * READS, "{ended}: {stats:?}");
}

/// What is lost is looked for by another thread, until it is there: by then, and from then on, calls have their answers.
#[test]
fn a_lost_memory_is_found_again() {
    for (then, slow_ms, found) in [(Found::Take, 5, "mirror"), (Found::Try, 0, "mirror"), (Found::Try, 50, "onesided")]
    {
        let home = Home::new(Hook::Xdp, 32);
        let mut site = home.site(Placement::Client);
        let (asked, (allow, allowed)) = (Arc::new(AtomicU32::new(0)), channel());
        let (times, theirs) = (Arc::clone(&asked), Arc::clone(&home));
        let connect = move || {
            // The first time it takes long, and comes to nothing.
            if times.fetch_add(1, Ordering::SeqCst) == 0 {
                allowed.recv()?;
                return Err("nobody answers".into());
            }
            Ok(Mirror::new(&theirs, slow_ms, u32::MAX) as Box<dyn Memory>)
        };
        site.look_for_lost(then, Box::new(connect));
        site.set_memory(Mirror::new(&home, 0, 30));
        let go_on = |site: &mut SiteClient, what: &str, until: &dyn Fn(&SiteClient) -> bool| {
            let end = Instant::now() + WAIT;
            while !until(site) {
                assert!(Instant::now() < end, "{what}: {:?}", site.stats());
                reads(site);
                learn(site);
            }
        };
        go_on(&mut site, "it is lost", &|site| site.stats().memory_lost == 1);
        go_on(&mut site, "it is looked for", &|_| asked.load(Ordering::SeqCst) == 1);
        // Whoever looks for it waits; calls do not.
        let before = site.stats();
        (0..20).for_each(|_| reads(&mut site));
        assert_eq!((site.memory_name(), site.stats().memory_found), ("onesided", 0));
        assert!(site.stats().reads > before.reads, "{:?}", site.stats());
        allow.send(()).unwrap();
        if then == Found::Take {
            go_on(&mut site, "it is found", &|site| site.stats().memory_found == 1);
        } else {
            // No calls, so that one of both ways is clearly faster.
            if found == "mirror" {
                home.wire().arrives = Some(slowly());
            }
            let end = Instant::now() + WAIT;
            while site.stats().memory_trials == 0 {
                assert!(Instant::now() < end, "it is not tried");
                site.poll(|_| ()).unwrap();
                site.wait(Duration::from_millis(50)).unwrap();
            }
            home.wire().arrives = None;
            learn(&mut site);
        }
        assert_eq!((site.memory_name(), asked.load(Ordering::SeqCst)), (found, 2), "{then:?}: {:?}", site.choice());
        let (by_memory, onesided) = counts(&mut site);
        assert_eq!((by_memory > 0, onesided > 0), (found == "mirror", found == "onesided"));
        assert_eq!(site.stats().memory_found, u64::from(found == "mirror"));
    }
}

/// Nobody looks for the memory of a client that is gone.
#[test]
fn the_search_ends_with_its_client() {
    let home = Home::new(Hook::Xdp, 32);
    let mut site = home.site(Placement::Client);
    let held = Arc::new(());
    let theirs = Arc::clone(&held);
    site.look_for_lost(
        Found::Take,
        Box::new(move || {
            let _theirs = &theirs;
            Err("never".into())
        }),
    );
    site.set_memory(Mirror::new(&home, 0, 0));
    reads(&mut site);
    assert_eq!((site.stats().memory_lost, Arc::strong_count(&held)), (1, 2));
    drop(site);
    let end = Instant::now() + WAIT;
    while Arc::strong_count(&held) > 1 {
        assert!(Instant::now() < end, "its thread goes on");
        std::thread::yield_now();
    }
}
