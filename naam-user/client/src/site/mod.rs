//! The client site: handlers run in this process, on memory that one-sided READs fetch.
//!
//! A [`SiteClient`] stands over a [`Client`]. For every call it decides by [`Placement`] where it runs: at the host, as
//! a request, or here, by the same bytes in `naam-engine`, each READ being a call of built-in function 0 in the same
//! client, so that packing, retries and leases are the same; or by another [`Memory`], such as RDMA
//! (`site::verbs`), where [a trial](SiteClient::try_memory) shows that it is not slower. The host goes on serving whatever it gets, so a placement
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

pub mod choice;
mod drive;
mod earliest;
mod lacking;
mod learn;
mod learned;
pub mod memory;
mod pushed;
mod read;
pub mod search;
mod stats;
mod trial;
#[cfg(feature = "verbs")]
pub mod verbs;
mod visit;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use naam_abi::limits::{FUNCTIONS_MAX, REGIONS_MAX, REPLY_BYTES, SHARDS_MAX};
use naam_abi::onesided;
use naam_abi::tables::Site;
use naam_abi::wire::padded;
use naam_engine::{Engine, Machine, Request, Run};
use naam_transport::TransportError;

use crate::client::{Client, ClientError, OwnedReply, now};
use crate::core::{Call, Completion, Function, Reply};
use crate::error::{CallError, SubmitError};

use choice::Choice;
use earliest::Earliest;
use lacking::Lacking;
pub use learn::LearnError;
use learned::{Learned, note_serving};
use memory::{Lost, Memory};
use search::Search;
pub use stats::SiteStats;
use trial::Trial;
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
    /// A READ of a memory's trial.
    Trial,
}

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
    lacking: Lacking,
    /// When the present turn began, on the core's clock: looking at it for every step costs more than a step.
    turn: u64,
    /// Something was submitted to the client below since it last sent.
    unsent: bool,
    /// Where READs come from before built-in function 0.
    memory: Option<Box<dyn Memory>>,
    lost: Option<Lost>,
    /// The earliest deadline of visits that wait for the memory.
    fetching_until: Earliest,
    /// Since when it is looked at without anything having come.
    looked: Option<u64>,
    trial: Option<Box<Trial>>,
    choice: Option<Choice>,
    search: Option<Search>,
    stats: SiteStats,
}

impl SiteClient {
    /// A client whose shards are all placed by `placement`. It knows no handler yet.
    pub fn new(client: Client, placement: Placement) -> Self {
        Self::with_machine(client, placement, Machine::Best)
    }

    /// The same, with handlers run by `machine`.
    pub fn with_machine(mut client: Client, placement: Placement, machine: Machine) -> Self {
        client.core_mut().hold(true);
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
            lacking: Lacking::default(),
            turn: 0,
            unsent: false,
            memory: None,
            lost: None,
            fetching_until: Earliest::default(),
            looked: None,
            trial: None,
            choice: None,
            search: None,
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
                self.visits[index as usize].begin_at_home(call, shard);
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
        self.wake();
        let mut ended = self.drive(&mut done);
        // Before the caller's words on answers, which may take any time.
        self.flush_memory();
        self.unsent = false;
        let Self { client, visits, owners, programs, ready, stats, free, trial, .. } = self;
        client.poll(|Completion { ticket, outcome, serving }| {
            match std::mem::replace(&mut owners[ticket.index()], Owner::Nobody) {
                Owner::Home(index) => {
                    let visit = &mut visits[index as usize];
                    note_serving(&mut programs[usize::from(visit.function.number)], visit.shard, serving);
                    let ticket = SiteTicket { index, generation: visit.generation };
                    visit.end_at_home(owners);
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
                Owner::Trial => {
                    if let Some(trial) = trial {
                        trial.take(ticket.index(), outcome);
                    }
                }
                Owner::Nobody => {}
            }
        })?;
        self.take_back();
        self.wake();
        self.poll_memory();
        self.take_found();
        self.go_on_with_trial();
        ended += self.drive(&mut done);
        ended += self.expire(&mut done);
        ended += self.expire_fetches(&mut done);
        self.wake();
        self.flush_memory();
        // What the steps asked for goes out now, not at the next poll.
        if std::mem::take(&mut self.unsent) {
            self.client.flush()?;
        }
        Ok(ended)
    }

    /// Ends every call, because nothing will be sent or received any more.
    pub fn close(&mut self, mut done: impl FnMut(SiteCompletion<'_>)) {
        let Self { client, visits, owners, stats, free, .. } = self;
        client.core_mut().close(&mut |Completion { ticket, outcome, .. }| {
            if let Owner::Home(index) = std::mem::replace(&mut owners[ticket.index()], Owner::Nobody) {
                let visit = &mut visits[index as usize];
                visit.end_at_home(owners);
                free.push(index);
                stats.ended_at_host += 1;
                let ticket = SiteTicket { index, generation: visit.generation };
                done(SiteCompletion { ticket, site: Site::Host, outcome });
            }
        });
        self.lacking = Lacking::default();
        self.ready.clear();
        (self.trial, self.search) = (None, None);
        for index in 0..self.visits.len() as u32 {
            if self.visits[index as usize].doing != Doing::Nothing {
                self.end(index, Site::Client, Err(CallError::Closed { may_have_run: false }), &mut done);
            }
        }
    }

    /// Waits until something may have arrived, or `limit` is over.
    ///
    /// # Errors
    /// As [`Client::wait`].
    pub fn wait(&mut self, limit: Duration) -> Result<(), TransportError> {
        if self.waits_for_memory() {
            return self.wait_for_memory(limit);
        }
        let limit = self.trial.as_ref().map_or(limit, |trial| limit.min(trial.left()));
        if self.ready.is_empty() { self.client.wait(self.lacking.bound(limit)) } else { Ok(()) }
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
