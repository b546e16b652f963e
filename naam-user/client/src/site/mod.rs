//! The client site: handlers run in this process, on memory that one-sided READs fetch.
//!
//! A [`SiteClient`] stands over a [`Client`]. For every call it decides by [`Placement`] where it runs: at the host, as
//! a request, or here, by the same bytes in `naam-engine`, each READ being a call of built-in function 0 in the same
//! client, so that packing, retries and leases are the same. The host goes on serving whatever it gets, so a placement
//! that changes under load loses and repeats nothing: a call runs at one site from its beginning to its end.
//!
//! Here run functions whose handler was learned ([`SiteClient::learn`]): bytes whose hash the daemon's list names, admitted
//! once more on this machine. The first op that writes is performed at home, and all that follows: the message is cut there
//! and carried home as a Continue, if the session has by itself the rights that it has through handlers. Without them,
//! functions that write run at home from the beginning.
//!
//! ```no_run
//! # fn example(client: naam_client::Client, lease: &naam_client::connect::Lease, control: &naam_client::connect::Control)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! use naam_client::site::{Placement, SiteClient};
//! let mut site = SiteClient::new(client, Placement::Hint);
//! for (name, listed, bytes) in lease.objects(control, |_| true)? {
//!     site.learn(&name, &listed.sha256, &bytes)?;
//! }
//! let get = site.client().function("mica_get").ok_or("no function mica_get")?;
//! let answer = site.call(&naam_client::Call::new(get, b"..."))?;
//! println!("ran at {:?}: {:?}", answer.site, answer.outcome?);
//! # Ok(())
//! # }
//! ```

mod learn;
mod stats;
mod visit;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use naam_abi::limits::{FUNCTIONS_MAX, REGIONS_MAX, REPLY_BYTES, SHARDS_MAX};
use naam_abi::onesided;
use naam_abi::tables::{RIGHT_READ, Site};
use naam_abi::wire::{CARRIED_BYTES_MAX, Status, padded};
use naam_engine::{Action, Engine, Machine, Program, Request, Run};
use naam_transport::TransportError;

use crate::client::{Client, ClientError, OwnedReply, now};
use crate::core::{self, Call, Completion, Function, Reply, Serving, Shard};
use crate::error::{CallError, SubmitError};
use crate::session::FunctionInfo;

pub use learn::LearnError;
pub use stats::SiteStats;
use visit::{Doing, Visit};

/// Where a shard's calls run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// At the host.
    Host,
    /// Here, as far as it can be done here.
    Client,
    /// Where the host's replies say, for as long as their lease holds; otherwise at the host.
    #[default]
    Hint,
}

/// A call that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SiteTicket {
    index: u32,
    /// Tells the uses of an index apart.
    generation: u32,
}

impl SiteTicket {
    /// Below the client's window; no other call in flight has the same.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// The end of a call: every ticket gets exactly one.
#[derive(Clone, Copy, Debug)]
pub struct SiteCompletion<'a> {
    /// Which call.
    pub ticket: SiteTicket,
    /// Where it ran to its end.
    pub site: Site,
    /// What became of it.
    pub outcome: Result<Reply<'a>, CallError>,
}

/// The same, with the reply's bytes copied.
#[derive(Clone, Debug)]
pub struct SiteAnswer {
    /// Where it ran to its end.
    pub site: Site,
    /// What became of it.
    pub outcome: Result<OwnedReply, CallError>,
}

/// What an answer of the client below is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Nobody,
    /// The call itself, at home.
    Home(u32),
    /// A READ of the call that runs here.
    Read(u32),
}

/// A handler that can run here.
#[derive(Debug)]
struct Learned {
    program: Arc<Program>,
    /// The version of the function that it is.
    version: u16,
    /// By shard: the placement's epoch at which home served this version. Replacing or unloading a handler moves all.
    confirmed: [Option<u32>; SHARDS_MAX],
    /// When it was learned, on the core's clock.
    since: u64,
}

impl Learned {
    /// Whether home has said that it serves it, after the last change that is known.
    fn is_confirmed(&self, shard: u16, placement: &core::Placement) -> bool {
        let confirmed = self.confirmed.get(usize::from(shard)).copied().flatten();
        confirmed.is_some_and(|epoch| placement.epoch <= epoch)
    }

    /// Whether it may run: nothing has changed as far as replies have told, and they have told not too long ago.
    fn holds(&self, shard: u16, placement: &core::Placement) -> bool {
        let lease = u64::from(placement.lease_ms) * 1_000_000;
        let heard = placement.held_until.saturating_sub(lease).max(self.since);
        let unchanged = placement.epoch == 0 || self.is_confirmed(shard, placement);
        unchanged && now() < heard.saturating_add(SILENCE_NS)
    }
}

/// Longest that a handler runs here without a word from its shard: of one that READs nothing, no reply would tell that it
/// was replaced.
const SILENCE_NS: u64 = 1_000_000_000;

/// See the [module](self).
pub struct SiteClient {
    client: Client,
    engine: Engine,
    /// Handlers that can run here, by function.
    programs: Box<[Option<Box<Learned>>; FUNCTIONS_MAX]>,
    placements: Box<[Placement; SHARDS_MAX]>,
    /// Built-in function 0, if the app serves it.
    read: Option<Function>,
    /// By region: rights through handlers and raw.
    rights: [(u8, u8); REGIONS_MAX],
    /// Whether home performs whatever a carried message of this session may ask for: what it may do through handlers, it may
    /// do by itself.
    carries: bool,
    visits: Vec<Visit>,
    free: Vec<u32>,
    owners: Box<[Owner]>,
    /// Visits with something to do that does not wait for an answer.
    ready: VecDeque<u32>,
    /// Something was submitted to the client below since it last sent.
    unsent: bool,
    stats: SiteStats,
}

impl SiteClient {
    /// A client whose shards are all placed by `placement`. It knows no handler yet.
    pub fn new(client: Client, placement: Placement) -> Self {
        Self::with_machine(client, placement, Machine::Best)
    }

    /// The same, with handlers run by `machine`.
    pub fn with_machine(client: Client, placement: Placement, machine: Machine) -> Self {
        let session = client.core().session();
        let whole = session.regions.values().all(|info| info.handler_rights & !info.raw_rights == 0);
        let carries = whole && !session.regions.is_empty();
        let mut rights = [(0, 0); REGIONS_MAX];
        for info in session.regions.values() {
            if let Some(entry) = rights.get_mut(info.index as usize) {
                *entry = (info.handler_rights, info.raw_rights);
            }
        }
        let window = client.core().window();
        Self {
            engine: Engine::new(machine),
            programs: Box::new([const { None }; FUNCTIONS_MAX]),
            placements: Box::new([placement; SHARDS_MAX]),
            read: client.function(onesided::NAMES[usize::from(onesided::READ)]),
            rights,
            carries,
            visits: Vec::new(),
            free: Vec::new(),
            owners: vec![Owner::Nobody; window].into(),
            ready: VecDeque::new(),
            unsent: false,
            stats: SiteStats::default(),
            client,
        }
    }

    /// The client below.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What was counted.
    pub fn stats(&self) -> SiteStats {
        self.stats
    }

    /// Places a shard's future calls.
    pub fn place(&mut self, shard: u16, placement: Placement) {
        if let Some(entry) = self.placements.get_mut(usize::from(shard)) {
            *entry = placement;
        }
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> usize {
        self.visits.len() - self.free.len()
    }

    /// Where a call of `function` on `shard` would run now.
    pub fn site(&self, function: Function, shard: u16) -> Site {
        if self.is_placed_here(shard) && self.program(function, shard).is_some() { Site::Client } else { Site::Host }
    }

    fn is_placed_here(&self, shard: u16) -> bool {
        match self.placements.get(usize::from(shard)) {
            Some(Placement::Client) => true,
            Some(Placement::Hint) => {
                let hint = self.client.core().placement(shard).unwrap_or_default();
                hint.site == Site::Client && now() < hint.held_until
            }
            _ => false,
        }
    }

    /// The handler that can run here for `function`, if the host serves no other version as far as replies have told.
    fn program(&self, function: Function, shard: u16) -> Option<&Arc<Program>> {
        let learned = self.programs.get(usize::from(function.number))?.as_ref()?;
        let info = self.client.core().info(function)?;
        // A function that writes is worth beginning here only if it can be carried home.
        let worth = !info.writes || self.carries;
        let placement = self.client.core().placement(shard)?;
        let runs = (info.version == learned.version || info.version == 0) && self.read.is_some() && worth;
        (runs && learned.holds(shard, &placement)).then_some(&learned.program)
    }

    /// A call that goes home asks there which version serves, if it is not known of what was learned.
    fn ask(&mut self, function: Function, shard: u16) {
        let learned = self.programs.get(usize::from(function.number)).and_then(Option::as_ref);
        let placement = self.client.core().placement(shard).unwrap_or_default();
        let here = self.placements.get(usize::from(shard)).is_some_and(|placed| *placed != Placement::Host);
        if here && learned.is_some_and(|learned| !learned.is_confirmed(shard, &placement)) {
            self.client.core_mut().ask_version(function);
        }
    }

    /// Takes in what the control plane says of a function by now: what [`learn`](Self::learn) is to compare with.
    ///
    /// # Errors
    /// As [`Core::learn`](crate::Core::learn).
    pub fn list(&mut self, function: &str, info: FunctionInfo) -> Result<Function, SubmitError> {
        self.client.core_mut().learn(function, info)
    }

    /// Takes a call and decides where it runs.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub fn submit(&mut self, call: &Call<'_>) -> Result<SiteTicket, SubmitError> {
        let window = self.client.core().window();
        if self.in_flight() >= window {
            return Err(SubmitError::Busy { window });
        }
        let session = self.client.core().session();
        let shard = call.shard.number(session.shards.min(SHARDS_MAX as u16));
        if self.site(call.function, shard) == Site::Client {
            return self.begin(call, shard);
        }
        self.ask(call.function, shard);
        let index = self.claim();
        match self.client.submit(call) {
            Ok(ticket) => {
                self.owners[ticket.index()] = Owner::Home(index);
                self.visits[index as usize].begin_at_home(call.function, shard);
                Ok(self.ticket(index))
            }
            Err(error) => {
                self.free.push(index);
                Err(error)
            }
        }
    }

    /// Begins a call here.
    fn begin(&mut self, call: &Call<'_>, shard: u16) -> Result<SiteTicket, SubmitError> {
        let number = call.function.number;
        let learned = self.programs.get(usize::from(number)).and_then(Option::as_ref);
        let learned = learned.ok_or(SubmitError::NoFunction { number })?;
        let (program, version) = (Arc::clone(&learned.program), learned.version);
        let info = self.client.core().info(call.function).ok_or(SubmitError::NoFunction { number })?;
        // As the core makes it: the room of the request that home would get.
        let reply = usize::from(call.reply_room.unwrap_or(info.reply_max)).min(REPLY_BYTES);
        let room = padded(call.args.len().max(reply));
        let request = Request { args: call.args, reply_room: room, shard };
        let index = self.claim();
        let visit = &mut self.visits[index as usize];
        let started = match &mut visit.run {
            Some(run) => run.restart(&program, &request),
            None => Run::start(&program, &request).map(|run| visit.run = Some(run)),
        };
        if started.is_err() {
            self.free.push(index);
            return Err(SubmitError::ArgsTooLong { len: call.args.len(), max: naam_abi::limits::ARGS_BYTES });
        }
        visit.begin(call, shard, version);
        self.stats.begun_here += 1;
        self.ready.push_back(index);
        Ok(self.ticket(index))
    }

    fn claim(&mut self) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.visits.push(Visit::default());
            self.visits.len() as u32 - 1
        });
        let visit = &mut self.visits[index as usize];
        visit.generation = visit.generation.wrapping_add(1);
        index
    }

    fn ticket(&self, index: u32) -> SiteTicket {
        SiteTicket { index, generation: self.visits[index as usize].generation }
    }

    /// Runs steps, sends what is due, takes what has arrived; never waits. Returns how many calls ended.
    ///
    /// # Errors
    /// As [`Client::poll`].
    pub fn poll(&mut self, mut done: impl FnMut(SiteCompletion<'_>)) -> Result<usize, TransportError> {
        let mut ended = self.drive(&mut done);
        self.unsent = false;
        let Self { client, visits, owners, programs, ready, stats, free, .. } = self;
        client.poll(|Completion { ticket, outcome, serving }| {
            match std::mem::replace(&mut owners[ticket.index()], Owner::Nobody) {
                Owner::Home(index) => {
                    let (function, shard) = (visits[index as usize].function, visits[index as usize].shard);
                    note_serving(&mut programs[usize::from(function.number)], shard, serving);
                    let ticket = SiteTicket { index, generation: visits[index as usize].generation };
                    visits[index as usize].doing = Doing::Nothing;
                    free.push(index);
                    stats.ended_at_host += 1;
                    ended += 1;
                    done(SiteCompletion { ticket, site: Site::Host, outcome });
                }
                Owner::Read(index) => {
                    stats.reads += 1;
                    visits[index as usize].take(outcome, stats);
                    ready.push_back(index);
                }
                Owner::Nobody => {}
            }
        })?;
        ended += self.drive(&mut done);
        // What the steps asked for goes out now, not at the next poll.
        if std::mem::take(&mut self.unsent) {
            self.client.flush()?;
        }
        Ok(ended)
    }

    /// Lets every visit that is ready go on until it waits or has ended; how many have ended.
    fn drive(&mut self, done: &mut impl FnMut(SiteCompletion<'_>)) -> usize {
        let mut ended = 0;
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else { break };
            ended += usize::from(self.go_on(index, done));
        }
        ended
    }

    /// One visit's next op; true if that was its end.
    fn go_on(&mut self, index: u32, done: &mut impl FnMut(SiteCompletion<'_>)) -> bool {
        let visit = &mut self.visits[index as usize];
        let left = visit.deadline.saturating_duration_since(Instant::now());
        let Some(run) = visit.run.as_mut().filter(|_| !visit.goes_home) else { return self.go_home(index, left, done) };
        if let Some(error) = visit.failed.take() {
            return self.end(index, Site::Client, Err(error), done);
        }
        loop {
            let (region, offset, len) = match run.action() {
                Action::Read { region, offset, len } => (region, offset, len),
                Action::Ended(end) => {
                    self.stats.steps += u64::from(end.steps);
                    let ticket = SiteTicket { index, generation: visit.generation };
                    let outcome = match end.status {
                        Status::Ok => {
                            let steps = u8::try_from(end.steps).unwrap_or(u8::MAX);
                            Ok(Reply { code: end.code, bytes: end.reply, from_slot: false, steps, hops: 0 })
                        }
                        Status::Failed => Err(CallError::Failed { code: end.code }),
                        status => Err(CallError::Refused { status, code: end.code, may_have_run: false }),
                    };
                    self.stats.ended_here += 1;
                    done(SiteCompletion { ticket, site: Site::Client, outcome });
                    visit.doing = Doing::Nothing;
                    self.free.push(index);
                    return true;
                }
                Action::Spent | Action::Effect(_) if self.carries => return self.carry_home(index, left, done),
                // What home would say of the same steps.
                Action::Spent => {
                    run.refuse(Status::Budget);
                    continue;
                }
                Action::Effect(_) => {
                    visit.goes_home = true;
                    return self.go_home(index, left, done);
                }
            };
            let (handler, raw) = self.rights[region as usize % REGIONS_MAX];
            if handler & RIGHT_READ == 0 {
                run.refuse(Status::Denied);
                continue;
            }
            if raw & RIGHT_READ == 0 || self.read.is_none() {
                self.stats.without_right += 1;
                visit.goes_home = true;
                return self.go_home(index, left, done);
            }
            let args = onesided::read_args(region, offset, len);
            let function = self.read.expect("just checked");
            let shard = Shard::Number(visit.shard);
            let read = Call { function, shard, args: &args, reply_room: Some(len as u16), timeout: left };
            match self.client.submit(&read) {
                Ok(ticket) => {
                    self.owners[ticket.index()] = Owner::Read(index);
                    self.unsent = true;
                    visit.doing = Doing::Read;
                }
                Err(SubmitError::Busy { .. }) => self.ready.push_back(index),
                Err(_) => {
                    visit.goes_home = true;
                    return self.go_home(index, left, done);
                }
            }
            return false;
        }
    }

    /// Sends a call home as it stands: its next op is performed there. It has had no effect here, and no copy of it was sent.
    fn carry_home(&mut self, index: u32, left: Duration, done: &mut impl FnMut(SiteCompletion<'_>)) -> bool {
        let visit = &mut self.visits[index as usize];
        let mut buffer = [0; CARRIED_BYTES_MAX];
        let carried = visit.run.as_mut().and_then(|run| run.cut(&mut buffer));
        let call = visit.call(left);
        let submitted = carried.map(|carried| self.client.submit_carried(&call, &carried, visit.version));
        let Some(submitted) = submitted else {
            visit.goes_home = true;
            return self.go_home(index, left, done);
        };
        match submitted {
            Ok(ticket) => {
                self.owners[ticket.index()] = Owner::Home(index);
                self.unsent = true;
                visit.doing = Doing::Home;
                self.stats.sent_home += 1;
                self.stats.carried_home += 1;
                false
            }
            Err(SubmitError::Busy { .. } | SubmitError::NoSlot { .. }) => {
                self.ready.push_back(index);
                false
            }
            Err(_) => {
                visit.goes_home = true;
                self.go_home(index, left, done)
            }
        }
    }

    /// Sends a call home, where it begins anew: here it has had no effect.
    fn go_home(&mut self, index: u32, left: Duration, done: &mut impl FnMut(SiteCompletion<'_>)) -> bool {
        let visit = &mut self.visits[index as usize];
        match self.client.submit(&visit.call(left)) {
            Ok(ticket) => {
                self.owners[ticket.index()] = Owner::Home(index);
                self.unsent = true;
                visit.doing = Doing::Home;
                self.stats.sent_home += 1;
                false
            }
            Err(SubmitError::Busy { .. } | SubmitError::NoSlot { .. }) => {
                self.ready.push_back(index);
                false
            }
            Err(_) => {
                let outcome = Err(CallError::Refused { status: Status::TooLong, code: 0, may_have_run: false });
                self.end(index, Site::Host, outcome, done)
            }
        }
    }

    fn end(
        &mut self,
        index: u32,
        site: Site,
        outcome: Result<Reply<'_>, CallError>,
        done: &mut impl FnMut(SiteCompletion<'_>),
    ) -> bool {
        let ticket = self.ticket(index);
        self.visits[index as usize].doing = Doing::Nothing;
        self.free.push(index);
        *(if site == Site::Client { &mut self.stats.ended_here } else { &mut self.stats.ended_at_host }) += 1;
        done(SiteCompletion { ticket, site, outcome });
        true
    }

    /// Waits until something may have arrived, or `limit` is over.
    ///
    /// # Errors
    /// As [`Client::wait`].
    pub fn wait(&mut self, limit: Duration) -> Result<(), TransportError> {
        if self.ready.is_empty() { self.client.wait(limit) } else { Ok(()) }
    }

    /// Calls a function and waits for the answer.
    ///
    /// # Errors
    /// A call that cannot be taken, or a transport that fails. How the call ended is in the answer.
    pub fn call(&mut self, call: &Call<'_>) -> Result<SiteAnswer, ClientError> {
        let ticket = self.submit(call)?;
        let mut answer = None;
        while answer.is_none() {
            let ended = self.poll(|completion| {
                if completion.ticket == ticket {
                    let outcome = completion.outcome.map(OwnedReply::from);
                    answer = Some(SiteAnswer { site: completion.site, outcome });
                }
            })?;
            if ended == 0 {
                self.wait(Duration::from_millis(100))?;
            }
        }
        answer.ok_or(ClientError::Closed)
    }
}

/// Takes in which version of a function home serves: the handler that runs here is confirmed, or forgotten.
fn note_serving(learned: &mut Option<Box<Learned>>, shard: u16, serving: Option<Serving>) {
    let (Some(Serving { version, epoch }), Some(known)) = (serving, learned.as_mut()) else { return };
    if version != known.version {
        *learned = None;
    } else if let Some(confirmed) = known.confirmed.get_mut(usize::from(shard)) {
        *confirmed = Some(epoch).max(*confirmed);
    }
}
