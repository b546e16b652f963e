//! `naam handler`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use naam_control::config::ObjectSource;
use naam_control::limits::OBJECT_BYTES_MAX;
use naam_control::protocol::admin::{HandlerInfo, Object};
use naam_control::protocol::{AdminReply, AdminRequest};
use naam_control::{FunctionName, Name};

use super::check::Check;
use super::step::Step;
use crate::control::{Daemon, expect_reply};
use crate::failure::Failure;
use crate::objects;
use crate::options::Global;
use crate::output::{Output, Table};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Admit a handler object and serve it as a new function
    Load {
        /// The app
        #[arg(long)]
        app: Name,
        /// The function's number in datagrams, 16 to 63 [default: the lowest free one]
        #[arg(long)]
        id: Option<u16>,
        #[command(flatten)]
        source: Source,
    },
    /// Serve another version of a function under load; the old one is drained
    Replace {
        /// The app
        #[arg(long)]
        app: Name,
        /// The function [default: the name that the object gives]
        #[arg(long)]
        function: Option<FunctionName>,
        #[command(flatten)]
        source: Source,
    },
    /// Serve the built-in one-sided functions of an app, bound to the regions that it has now
    Onesided {
        /// The app
        #[arg(long)]
        app: Name,
    },
    /// No longer serve a function
    Unload {
        /// The app
        #[arg(long)]
        app: Name,
        /// The function
        function: FunctionName,
    },
    /// List functions and the programs behind them
    Ls {
        /// Of this app only
        #[arg(long)]
        app: Option<Name>,
    },
    /// Say whether a handler object may run, and if not, why
    Check(Check),
    /// Run one message of a handler offline, step by step, on saved regions
    Step(Step),
    /// List the handlers that this program carries
    Builtins,
}

/// Where a handler object comes from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Source {
    /// The object file
    #[arg(value_name = "OBJECT")]
    pub path: Option<PathBuf>,
    /// A handler that this program carries
    #[arg(long, value_name = "NAME")]
    pub builtin: Option<String>,
}

impl Source {
    /// The object's bytes.
    pub fn read(&self) -> Result<Vec<u8>, Failure> {
        match (&self.path, &self.builtin) {
            (Some(path), _) => std::fs::read(path)
                .map_err(|error| Failure::new("read", format!("handler object {}", path.display()), error)),
            (None, name) => objects::require_builtin(name.as_deref().unwrap_or_default()).map(<[u8]>::to_vec),
        }
    }

    /// For people.
    pub fn name(&self) -> String {
        match (&self.path, &self.builtin) {
            (Some(path), _) => path.display().to_string(),
            (None, name) => ObjectSource::Builtin(name.clone().unwrap_or_default()).to_string(),
        }
    }

    fn object(&self) -> Result<Object, Failure> {
        let bytes = self.read()?;
        if bytes.len() > OBJECT_BYTES_MAX {
            let cause = format!("it has {} bytes, {OBJECT_BYTES_MAX} are the most", bytes.len());
            return Err(Failure::new("send", format!("handler object {}", self.name()), cause));
        }
        Ok(Object::Bytes(bytes))
    }
}

impl Command {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Load { app, id, source } => {
                let request = AdminRequest::HandlerLoad { app, id, object: source.object()? };
                served(global, output, request)
            }
            Self::Replace { app, function, source } => {
                let object = source.object()?;
                let function = match function {
                    Some(function) => function,
                    None => named_by(&object, &source)?,
                };
                served(global, output, AdminRequest::HandlerReplace { app, function, object })
            }
            Self::Onesided { app } => {
                let reply = Daemon::connect(global)?.ask(AdminRequest::HandlerOnesided { app })?;
                let handlers = expect_reply!(reply, AdminReply::Handlers(handlers) => handlers);
                output.show(&handlers, |handlers| table(handlers).or(""))
            }
            Self::Unload { app, function } => {
                let done = format!("function `{app}/{function}` is gone");
                Daemon::connect(global)?.ask(AdminRequest::HandlerUnload { app, function })?;
                output.done(&done)
            }
            Self::Ls { app } => {
                let reply = Daemon::connect(global)?.ask(AdminRequest::HandlerList { app })?;
                let handlers = expect_reply!(reply, AdminReply::Handlers(handlers) => handlers);
                output.show(&handlers, |handlers| table(handlers).or("no functions"))
            }
            Self::Check(check) => check.run(output),
            Self::Step(step) => step.run(output),
            Self::Builtins => {
                let names: Vec<_> = objects::builtins().collect();
                output.show(&names, |names| names.join("\n"))
            }
        }
    }
}

fn served(global: &Global, output: Output, request: AdminRequest) -> anyhow::Result<()> {
    let reply = Daemon::connect(global)?.ask(request)?;
    let handler = expect_reply!(reply, AdminReply::Handler(handler) => handler);
    output.show(&handler, |handler| table(std::slice::from_ref(handler)).or(""))
}

/// The function that an object names in its description.
fn named_by(object: &Object, source: &Source) -> anyhow::Result<FunctionName> {
    let Object::Bytes(bytes) = object else { unreachable!("objects are sent as bytes") };
    let admitted = naam_admission::admit(bytes)
        .map_err(|refusal| Failure::new("replace by", format!("handler object {}", source.name()), refusal))?;
    Ok(FunctionName::new(admitted.name())?)
}

fn table(handlers: &[HandlerInfo]) -> Table {
    let mut table = Table::new([
        "app", "function", "id", "version", "draining", "writes", "reply", "view", "programs", "insns", "jited",
    ]);
    for handler in handlers {
        let function = &handler.function;
        let programs: Vec<_> = handler.program_ids.iter().map(u32::to_string).collect();
        table.row([
            handler.app.to_string(),
            function.name.to_string(),
            function.id.to_string(),
            function.version.to_string(),
            handler.draining.map_or("-".to_owned(), |version| version.to_string()),
            if function.writes { "yes" } else { "no" }.to_owned(),
            function.reply_max.to_string(),
            function.view.to_string(),
            programs.join(","),
            handler.verified_insns.to_string(),
            handler.jited_bytes.to_string(),
        ]);
    }
    table
}
