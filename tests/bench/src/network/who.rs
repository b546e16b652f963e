//! Who looks a key up: the host, or the client in two ways.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use naam_abi::handler::Step;
use naam_abi::onesided;
use naam_client::site::{SiteClient, SiteTicket};
use naam_client::{Call, Client, Function, Shard};
use naam_handler::{Msg, View as _, View1k, native};

use super::contents::Service;

/// Takes GETs, and tells their ends: the operation's number and the value found.
pub trait Gets {
    /// Takes the GET with these arguments as operation `number`.
    fn submit(&mut self, number: u64, args: &[u8]) -> Result<()>;
    /// Goes on with what is in flight; how many have ended.
    fn poll(&mut self, done: &mut dyn FnMut(u64, Option<&[u8]>)) -> Result<usize>;
}

fn get(service: Service, function: Function, args: &[u8]) -> Call<'_> {
    Call::new(function, args).shard(Shard::Number(0)).reply_room(service.reply_bytes() as u16)
}

fn function(client: &Client, service: Service) -> Result<Function> {
    client.function(service.handler()).with_context(|| format!("no {}", service.handler()))
}

/// Requests to whoever answers the client's datagrams.
pub struct ByRequest {
    client: Client,
    service: Service,
    get: Function,
    /// Operations by the index of their ticket.
    numbers: Box<[u64]>,
}

impl ByRequest {
    /// By this client.
    pub fn new(client: Client, service: Service) -> Result<Self> {
        let get = function(&client, service)?;
        Ok(Self { get, service, numbers: vec![0; client.core().window()].into(), client })
    }
}

impl Gets for ByRequest {
    fn submit(&mut self, number: u64, args: &[u8]) -> Result<()> {
        let ticket = self.client.submit(&get(self.service, self.get, args))?;
        self.numbers[ticket.index()] = number;
        Ok(())
    }

    fn poll(&mut self, done: &mut dyn FnMut(u64, Option<&[u8]>)) -> Result<usize> {
        let Self { client, service, numbers, .. } = self;
        Ok(client.poll(|completion| {
            let found = completion.outcome.ok().and_then(|reply| service.found(reply.code, reply.bytes));
            done(numbers[completion.ticket.index()], found);
        })?)
    }
}

/// The handler runs in the client's engine; its READs go to the host's kernel.
pub struct ByEngine {
    client: SiteClient,
    service: Service,
    get: Function,
    numbers: HashMap<SiteTicket, u64>,
}

impl ByEngine {
    /// By this client, which has learned the handler.
    pub fn new(client: SiteClient, service: Service) -> Result<Self> {
        let get = function(client.client(), service)?;
        Ok(Self { client, service, get, numbers: HashMap::new() })
    }
}

impl Gets for ByEngine {
    fn submit(&mut self, number: u64, args: &[u8]) -> Result<()> {
        let ticket = self.client.submit(&get(self.service, self.get, args))?;
        self.numbers.insert(ticket, number);
        Ok(())
    }

    fn poll(&mut self, done: &mut dyn FnMut(u64, Option<&[u8]>)) -> Result<usize> {
        let Self { client, service, numbers, .. } = self;
        Ok(client.poll(|completion| {
            let found = completion.outcome.ok().and_then(|reply| service.found(reply.code, reply.bytes));
            if let Some(number) = numbers.remove(&completion.ticket) {
                done(number, found);
            }
        })?)
    }
}

/// A look-up in flight.
struct LookUp {
    number: u64,
    message: Msg,
}

/// What people build on one-sided reads without handlers: the look-up is the client's own compiled code.
pub struct ByReads {
    client: Client,
    service: Service,
    read: Function,
    /// Look-ups by the index of the ticket of their READ.
    waiting: Box<[Option<LookUp>]>,
    /// Look-ups whose READ has not been asked for yet.
    ready: Vec<LookUp>,
    view: View1k,
}

impl ByReads {
    /// By this client.
    pub fn new(client: Client, service: Service) -> Result<Self> {
        let read = client.function(onesided::NAMES[usize::from(onesided::READ)]).context("no one-sided READ")?;
        let waiting = (0..client.core().window()).map(|_| None).collect();
        Ok(Self { client, service, read, waiting, ready: Vec::new(), view: View1k::zero() })
    }

    /// Asks for the READs that look-ups want.
    fn ask(&mut self) -> Result<()> {
        while let Some(look_up) = self.ready.pop() {
            let message = &look_up.message;
            let args = onesided::read_args(message.op_region, message.op_offset, message.op_len);
            let call = Call::new(self.read, &args).shard(Shard::Number(0)).reply_room(message.op_len as u16);
            let ticket = self.client.submit(&call.timeout(Duration::from_secs(5)))?;
            self.waiting[ticket.index()] = Some(look_up);
        }
        Ok(())
    }
}

impl Gets for ByReads {
    fn submit(&mut self, number: u64, args: &[u8]) -> Result<()> {
        let mut message = native::request(args);
        let Step::Read = self.service.step()(&mut message, &View1k::zero()) else { bail!("a GET begins with a READ") };
        self.ready.push(LookUp { number, message });
        self.ask()
    }

    fn poll(&mut self, done: &mut dyn FnMut(u64, Option<&[u8]>)) -> Result<usize> {
        let Self { client, service, waiting, ready, view, .. } = self;
        let mut ended = 0;
        client.poll(|completion| {
            let Some(mut look_up) = waiting[completion.ticket.index()].take() else { return };
            let bytes = completion.outcome.map_or(&[][..], |reply| reply.bytes);
            for (word, bytes) in view.w.iter_mut().zip(bytes.as_chunks().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            look_up.message.step += 1;
            match service.step()(&mut look_up.message, view) {
                Step::Read if !bytes.is_empty() => ready.push(look_up),
                step => {
                    ended += 1;
                    let reply = native::reply(&look_up.message);
                    let value = service.found(look_up.message.code, &reply).filter(|_| step == Step::Done);
                    done(look_up.number, value);
                }
            }
        })?;
        self.ask()?;
        Ok(ended)
    }
}
