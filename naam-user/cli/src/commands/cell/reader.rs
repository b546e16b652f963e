//! Where a tree is read: by its handlers, over the network or in this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use naam_abi::tables::Site;
use naam_abi::wire::Status;
use naam_admission::admit;
use naam_client::connect::Lease;
use naam_client::site::SiteClient;
use naam_client::{Call, CallError, ClientError, Options, Shard};
use naam_control::Name;
use naam_engine::{Engine, Program, Request, Run};
use naam_handlers::cell::Code;
use naam_region::Memory;

use crate::cell::{Place, to_format};
use crate::client::{Connect, Connected};
use crate::commands::site::{self, SiteChoice};
use crate::failure::Failure;
use crate::mica::require;
use crate::objects;
use crate::options::Global;

/// How the tree is reached.
#[derive(Debug, Args)]
pub struct Way {
    /// Read the region's pages themselves: on its host, as root, without the network
    #[arg(long, conflicts_with = "site")]
    local: bool,
    /// Where it shall run: at the host, here, or where the host says
    #[arg(long, default_value = "host")]
    site: SiteChoice,
    #[command(flatten)]
    connect: Connect,
}

/// The names of the functions.
pub const GET: &str = "cell_get";
pub const SCAN: &str = "cell_scan";

/// The shard that all calls go to: where it runs is asked once.
const SHARD: u16 = 0;

/// What a function answered.
#[derive(Debug)]
pub struct Answer {
    /// Anything but [`Code::Retry`].
    pub code: Code,
    /// The reply.
    pub bytes: Vec<u8>,
    /// Where it ran: `host`, `client`, or `local`.
    pub site: &'static str,
    /// Steps it took.
    pub steps: u32,
}

/// Asks until there is an answer.
pub struct Reader {
    app: Name,
    timeout: Duration,
    door: Door,
}

enum Door {
    Network { site: Box<SiteClient>, _lease: Lease },
    Local { memory: [Memory; 1], engine: Engine, programs: Vec<(&'static str, Arc<Program>)> },
}

impl Way {
    pub fn open(&self, global: &Global) -> anyhow::Result<Reader> {
        let timeout = self.connect.timeout();
        if self.local {
            let app = self.connect.app(global)?;
            let memory = [Place::find(global, &app)?.map()?];
            let door = Door::Local { memory, engine: Engine::default(), programs: Vec::new() };
            return Ok(Reader { app, timeout, door });
        }
        let options = Options::default();
        let connected = match self.site {
            SiteChoice::Host => self.connect.open(global, &options)?,
            choice => site::open(&self.connect, global, &options, vec![], choice == SiteChoice::Client)?,
        };
        let app = connected.app();
        let Connected { mut client, lease, .. } = connected;
        if self.site == SiteChoice::Auto {
            site::ask_for_hint(&mut client, Shard::Number(SHARD), timeout);
        }
        let site = site::over(client, &lease, (&self.connect, &self.connect.control(global)), &[GET, SCAN], self.site)?;
        Ok(Reader { app, timeout, door: Door::Network { site: Box::new(site), _lease: lease } })
    }
}

impl Reader {
    /// Calls `name`, and calls again while the tree changes faster than it can be read.
    pub fn ask(&mut self, name: &'static str, args: &[u8], room: usize) -> anyhow::Result<Answer> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let timeout = deadline.saturating_duration_since(Instant::now());
            if timeout.is_zero() {
                let failure = Failure::new("read", self.object(), "it changes all the time");
                return Err(failure.way_out("ask again, or take a longer --timeout-ms").into());
            }
            let answer = match &mut self.door {
                Door::Network { site, .. } => {
                    let function = require(site.client().function(name), name, &self.app)?;
                    let shard = Shard::Number(SHARD);
                    let call = Call { function, shard, args, reply_room: Some(room as u16), timeout };
                    let answer = site.call(&call)?;
                    let at = if answer.site == Site::Client { "client" } else { "host" };
                    match answer.outcome {
                        Ok(reply) => Ok((reply.code, reply.bytes, at, reply.steps.into())),
                        Err(CallError::Failed { code }) => Err(code),
                        Err(error) => return Err(ClientError::Call(error).into()),
                    }
                }
                Door::Local { memory, engine, programs } => {
                    let program = program(engine, programs, name)?;
                    let mut run = Run::start(&program, &Request { args, reply_room: room, shard: SHARD })?;
                    let end = run.finish(&memory[..])?;
                    match end.status {
                        Status::Ok => Ok((end.code, end.reply.to_vec(), "local", end.steps)),
                        Status::Failed => Err(end.code),
                        status => anyhow::bail!("{name} ended with {status:?}"),
                    }
                }
            };
            match answer {
                Ok((code, ..)) if code == Code::Retry as u32 => {}
                Ok((code, bytes, site, steps)) => {
                    let Some(code) = Code::from_code(code) else { anyhow::bail!("{name} answered code {code}") };
                    return Ok(Answer { code, bytes, site, steps });
                }
                Err(code) => {
                    let cause = Code::from_code(code).map_or(format!("code {code}"), |code| code.name().to_owned());
                    let failure = Failure::new("read", self.object(), cause);
                    return Err(failure.way_out(format!("make a tree: {}", to_format(&self.app))).into());
                }
            }
        }
    }

    fn object(&self) -> String {
        format!("the tree of app `{}`", self.app)
    }
}

/// The built-in handler of that name, loaded once.
fn program(
    engine: &Engine,
    programs: &mut Vec<(&'static str, Arc<Program>)>,
    name: &'static str,
) -> anyhow::Result<Arc<Program>> {
    if let Some((_, program)) = programs.iter().find(|(loaded, _)| *loaded == name) {
        return Ok(program.clone());
    }
    let handler = admit(objects::require_builtin(name)?).map_err(|refusal| anyhow::anyhow!("{name}: {refusal}"))?;
    let program = engine.load(&handler)?;
    programs.push((name, program.clone()));
    Ok(program)
}
