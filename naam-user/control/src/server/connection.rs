//! One connection, from hello to end.

use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::{Limits, Peer, ProgressSink, Service};
use crate::line::{LineError, LineLimits, read_line, write_line};
use crate::protocol::{Answer, Call, Greeting, Hello, VERSION};
use crate::{ControlError, Name};

pub(super) struct Settings {
    pub(super) instance: Name,
    pub(super) limits: Limits,
    pub(super) line_bytes: usize,
    /// There are as many connections already as there may be.
    pub(super) full: bool,
}

struct Connection<T> {
    reader: BufReader<ReadHalf<T>>,
    writer: WriteHalf<T>,
    settings: Settings,
}

/// Serves a connection until it ends, misbehaves, or the server stops between two requests.
pub(super) async fn serve<T: AsyncRead + AsyncWrite, S: Service>(
    stream: T,
    peer: Peer,
    service: Rc<S>,
    settings: Settings,
    mut stopped: watch::Receiver<bool>,
) {
    let (reader, writer) = tokio::io::split(stream);
    let mut connection = Connection { reader: BufReader::new(reader), writer, settings };
    match connection.talk(&peer, &*service, &mut stopped).await {
        Ok(()) => tracing::debug!(%peer, "control connection ended"),
        Err(error) => tracing::info!(%peer, %error, "control connection dropped"),
    }
}

impl<T: AsyncRead + AsyncWrite> Connection<T> {
    async fn talk<S: Service>(
        &mut self,
        peer: &Peer,
        service: &S,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), LineError> {
        if !self.greet(stopped).await? {
            return Ok(());
        }
        loop {
            let line = match self.next_line(stopped, self.settings.limits.idle_time).await {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(()),
                Err(error @ LineError::TooLong(_)) => {
                    // Where the line ends is not known, so nothing after it can be understood.
                    self.answer(&failed(0, &error)).await?;
                    return Err(error);
                }
                Err(error) => return Err(error),
            };
            match serde_json::from_slice::<Call>(&line) {
                Ok(call) => self.serve_call(peer, service, call).await?,
                Err(error) => self.answer(&failed(id_of(&line), &error)).await?,
            }
        }
    }

    /// Exchanges the first lines. False: the peer was refused.
    async fn greet(&mut self, stopped: &mut watch::Receiver<bool>) -> Result<bool, LineError> {
        if self.settings.full {
            let error = ControlError::new("accept", "the connection", "there are too many").way_out("try again later");
            self.answer(&Greeting::Refused(error)).await?;
            return Ok(false);
        }
        // Whoever connects has something to say at once.
        let hello = self.settings.limits.line_time;
        let Some(line) = self.next_line(stopped, hello).await? else { return Ok(false) };
        let cause = match serde_json::from_slice::<Hello>(&line) {
            Ok(Hello { naam: VERSION }) => {
                let greeting = Greeting::Welcome { version: VERSION, instance: self.settings.instance.clone() };
                self.answer(&greeting).await?;
                return Ok(true);
            }
            Ok(Hello { naam }) => format!("it speaks version {naam}, this daemon version {VERSION}"),
            Err(error) => format!("its first line is no hello: {error}"),
        };
        let error = ControlError::new("greet", "the peer", cause).way_out(format!("begin with {{\"naam\":{VERSION}}}"));
        self.answer(&Greeting::Refused(error)).await?;
        Ok(false)
    }

    async fn serve_call<S: Service>(&mut self, peer: &Peer, service: &S, call: Call) -> Result<(), LineError> {
        let id = call.id;
        if let Err(error) = peer.require_right(&call.request) {
            return self.answer(&Answer::Failed { id, error }).await;
        }
        let (sender, mut reports) = watch::channel((0, 0));
        let serving = service.handle(peer, call.request, ProgressSink(sender));
        tokio::pin!(serving);
        let result = loop {
            tokio::select! {
                biased;
                result = &mut serving => break result,
                Ok(()) = reports.changed() => {
                    let (done, total) = *reports.borrow_and_update();
                    // A peer that is gone is noticed at the answer; its request goes on until then.
                    let _ = self.answer(&Answer::Progress { id, done, total }).await;
                }
            }
        };
        let answer = match result {
            Ok(reply) => Answer::Done { id, reply },
            Err(error) => Answer::Failed { id, error },
        };
        self.answer(&answer).await
    }

    /// The next line, which begins within `idle`; `None` at the connection's end or when the server
    /// stops.
    async fn next_line(
        &mut self,
        stopped: &mut watch::Receiver<bool>,
        idle: Duration,
    ) -> Result<Option<Vec<u8>>, LineError> {
        let time = self.settings.limits.line_time;
        let limits = LineLimits { bytes: self.settings.line_bytes, idle, time };
        tokio::select! {
            line = read_line(&mut self.reader, limits) => line,
            _ = stopped.wait_for(|stopped| *stopped) => Ok(None),
        }
    }

    async fn answer<V: serde::Serialize>(&mut self, value: &V) -> Result<(), LineError> {
        write_line(&mut self.writer, value, self.settings.limits.write_time).await.map_err(LineError::Io)
    }
}

fn failed(id: u64, cause: &dyn ToString) -> Answer {
    let error = ControlError::new("read", "the request", cause.to_string())
        .way_out(format!("see the protocol, version {VERSION}, in naam-control"));
    Answer::Failed { id, error }
}

/// The number of a request that could not be read otherwise.
fn id_of(line: &[u8]) -> u64 {
    #[derive(Deserialize)]
    struct Numbered {
        id: u64,
    }
    serde_json::from_slice::<Numbered>(line).map_or(0, |numbered| numbered.id)
}
