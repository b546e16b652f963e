//! Requests of the control plane, one by one.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use naam_control::limits::RDMA_CONNECT_TIME;
use naam_control::protocol::admin::{HandlerInfo, Status};
use naam_control::protocol::rdma::RdmaEndpoint;
use naam_control::protocol::session::{Rights, SessionKey, SessionReply, SessionRequest};
use naam_control::protocol::{AdminReply, AdminRequest, Reply, Request};
use naam_control::{ControlError, Name, Peer, ProgressSink, Service};
use naam_region::Regions;
use tokio::sync::{Mutex, Notify};

use crate::capabilities;
use crate::functions::{Candidate, Load};
use crate::host::Host;
use crate::rdma::{Rdma, UnderWay};
use crate::regions::{self, SETTLE_TIME, Work};

/// Time between two looks at what is due.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

/// Serves requests. Nothing that takes long holds the host: parsing and verification of handlers and
/// copying of regions run on threads of their own.
#[derive(Debug)]
pub struct Daemon {
    host: Rc<RefCell<Host>>,
    /// Held by a request that changes apps, functions or regions: one at a time.
    changes: Mutex<()>,
    /// Queue pairs that are being connected.
    connecting: Rc<UnderWay>,
    shutdown: Notify,
    detach_on_exit: bool,
}

impl Daemon {
    /// A daemon of this host.
    pub fn new(host: Rc<RefCell<Host>>, detach_on_exit: bool) -> Self {
        Self { host, changes: Mutex::new(()), connecting: Rc::default(), shutdown: Notify::new(), detach_on_exit }
    }

    /// Ready when an administrator has asked for the end.
    pub async fn shut_down(&self) {
        self.shutdown.notified().await;
    }

    /// Does what is due, for ever.
    pub async fn keep_house(&self) {
        let mut interval = tokio::time::interval(HOUSEKEEPING);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.host.borrow_mut().keep_house();
        }
    }

    async fn administer(&self, request: AdminRequest, progress: ProgressSink) -> Result<AdminReply, ControlError> {
        let done = |()| AdminReply::Done;
        // What is being loaded relies on its app, its regions and its version.
        let changes = matches!(
            request,
            AdminRequest::AppCreate { .. }
                | AdminRequest::AppRemove { .. }
                | AdminRequest::HandlerLoad { .. }
                | AdminRequest::HandlerReplace { .. }
                | AdminRequest::HandlerOnesided { .. }
                | AdminRequest::HandlerUnload { .. }
                | AdminRequest::RegionCreate { .. }
                | AdminRequest::RegionRemove { .. }
        );
        let _alone = if changes { Some(self.changes.lock().await) } else { None };
        match request {
            AdminRequest::AppCreate { app, id, integrity } => {
                self.host.borrow_mut().create_app(app, id, integrity).map(done)
            }
            AdminRequest::AppRemove { app } => self.host.borrow_mut().remove_app(&app).map(done),
            AdminRequest::AppList => Ok(AdminReply::Apps(self.host.borrow().list_apps())),
            AdminRequest::HandlerLoad { app, id, object } => {
                let candidate = blocking(move || Candidate::read(object)).await?;
                let begin = |host: &Host| host.load_handler(&app, id, &candidate);
                self.load(begin).await.map(AdminReply::Handler)
            }
            AdminRequest::HandlerReplace { app, function, object } => {
                let candidate = blocking(move || Candidate::read(object)).await?;
                let begin = |host: &Host| host.replace_handler(&app, &function, &candidate);
                self.load(begin).await.map(AdminReply::Handler)
            }
            AdminRequest::HandlerOnesided { app } => self.serve_onesided(&app).await.map(AdminReply::Handlers),
            AdminRequest::HandlerUnload { app, function } => {
                self.host.borrow_mut().unload_handler(&app, &function).map(done)
            }
            AdminRequest::HandlerList { app } => {
                self.host.borrow().list_handlers(app.as_ref()).map(AdminReply::Handlers)
            }
            AdminRequest::RegionCreate { app, region, bytes, verbs } => {
                self.create_region(app, region, bytes, verbs).await
            }
            AdminRequest::RegionRemove { app, region } => self.host.borrow_mut().remove_region(&app, &region).map(done),
            AdminRequest::RegionLoad { app, region, path, offset } => {
                self.work(app, region, Work::Load(path, offset), progress).await
            }
            AdminRequest::RegionSave { app, region, path } => self.work(app, region, Work::Save(path), progress).await,
            AdminRequest::RegionRestore { app, region, path } => self.restore(app, region, &path, progress).await,
            AdminRequest::RegionAccept { app, region } => self.host.borrow().accept_region(&app, &region).map(done),
            AdminRequest::RegionDump { app, region, offset, len } => {
                let regions = self.regions();
                let (offset, bytes) =
                    blocking(move || regions::read_range(&regions, &app, &region, offset, len)).await?;
                Ok(AdminReply::Bytes { offset, bytes })
            }
            AdminRequest::RegionList { app } => self.host.borrow().list_regions(app.as_ref()).map(AdminReply::Regions),
            AdminRequest::SteerShow { app } => self.host.borrow().placements(&app).map(AdminReply::Steering),
            AdminRequest::SteerSet { app, shards, site, lease_ms } => {
                self.host.borrow().steer(&app, &shards, site, lease_ms).map(done)
            }
            AdminRequest::Attach { interface, hook } => {
                self.host.borrow_mut().attach(&interface, hook).map(AdminReply::Attached)
            }
            AdminRequest::Detach { interface } => self.host.borrow_mut().detach(&interface).map(done),
            AdminRequest::Status => Ok(AdminReply::Status(Box::new(self.status()))),
            AdminRequest::Stats => self.host.borrow().counters().map(AdminReply::Stats),
            AdminRequest::Inspect => {
                self.host.borrow_mut().inspect().map(|inspection| AdminReply::Inspection(Box::new(inspection)))
            }
            AdminRequest::Doctor => Ok(AdminReply::Findings(self.host.borrow_mut().examine())),
            AdminRequest::Shutdown => {
                tracing::info!("told to end");
                self.shutdown.notify_one();
                Ok(AdminReply::Done)
            }
        }
    }

    /// Has the kernel verify a handler on another thread, which takes up to seconds, then serves it.
    async fn load(&self, begin: impl FnOnce(&Host) -> Result<Load, ControlError>) -> Result<HandlerInfo, ControlError> {
        let load = begin(&self.host.borrow())?;
        let verified = blocking(move || load.run()).await?;
        self.host.borrow_mut().end_request(verified)
    }

    /// One function after another.
    async fn serve_onesided(&self, app: &Name) -> Result<Vec<HandlerInfo>, ControlError> {
        let builtins = self.host.borrow().builtins;
        let candidates = blocking(move || {
            let failed = |cause| ControlError::new("serve", "the built-in one-sided functions", cause);
            Candidate::onesided(builtins).map_err(failed)
        });
        let mut served = Vec::new();
        for (number, candidate) in (0..).zip(candidates.await?) {
            served.push(self.load(|host| host.serve_onesided(app, number, &candidate)).await?);
        }
        Ok(served)
    }

    async fn create_region(
        &self,
        app: Name,
        region: Name,
        bytes: u64,
        verbs: Option<Rights>,
    ) -> Result<AdminReply, ControlError> {
        self.host.borrow().may_create_region(&app, &region)?;
        regions::check_verbs(&app, &region, verbs)?;
        let regions = self.regions();
        let (of, name) = (app.clone(), region);
        let made = blocking(move || {
            regions
                .create(of.as_str(), name.as_str(), bytes)
                .map_err(|error| regions::failed("create", &of, &name, error))
        });
        let made = made.await?;
        self.host.borrow_mut().add_region(&app, made, verbs).map(AdminReply::Region)
    }

    async fn work(&self, app: Name, region: Name, work: Work, sink: ProgressSink) -> Result<AdminReply, ControlError> {
        let regions = self.regions();
        let work = blocking(move || {
            let copied = work.run(&regions, &app, &region, &sink);
            copied.map_err(|error| regions::failed(work.operation(), &app, &region, error))
        });
        work.await.map(|bytes| AdminReply::Copied { bytes })
    }

    /// Sessions end before the first byte changes, and no new one opens until the last has.
    async fn restore(
        &self,
        app: Name,
        region: Name,
        path: &Path,
        sink: ProgressSink,
    ) -> Result<AdminReply, ControlError> {
        let regions = self.regions();
        let (of, name, file) = (app.clone(), region.clone(), path.to_owned());
        let fits = blocking(move || {
            regions::check_snapshot(&regions, &of, &name, &file)
                .map_err(|error| regions::failed("restore", &of, &name, error))
        });
        fits.await?;
        self.host.borrow_mut().begin_restore(&app, &region)?;
        tokio::time::sleep(SETTLE_TIME).await;
        let restored = self.work(app.clone(), region, Work::Restore(path.to_owned()), sink).await;
        self.host.borrow_mut().end_restore(&app);
        restored
    }

    async fn serve_session(&self, peer: &Peer, request: SessionRequest) -> Result<SessionReply, ControlError> {
        match request {
            SessionRequest::Open { app, rights } => self.host.borrow_mut().open_session(peer, &app, &rights),
            SessionRequest::Renew(key) => self.host.borrow_mut().renew_session(key),
            SessionRequest::Close(key) => self.host.borrow_mut().close_session(key),
            SessionRequest::Object { key, sha256 } => self.host.borrow().hand_out(key, &sha256),
            SessionRequest::Rdma { key, endpoint } => {
                let connected = self.connect_rdma(peer, key, endpoint).await;
                if let (Err(_), Some(rdma)) = (&connected, &mut self.host.borrow_mut().rdma) {
                    rdma.refuse();
                }
                connected
            }
        }
    }

    /// Registers what the session may reach, unless another session's registration serves, and connects its queue pair. What
    /// takes too long to be waited for goes on: the session has it when it asks again.
    async fn connect_rdma(
        &self,
        peer: &Peer,
        key: SessionKey,
        endpoint: RdmaEndpoint,
    ) -> Result<SessionReply, ControlError> {
        let plan = self.host.borrow_mut().plan_rdma(peer, key, endpoint)?;
        let place = self.connecting.begin(key.session, plan.app())?;
        let host = Rc::clone(&self.host);
        let connecting = tokio::task::spawn_local(async move {
            let _place = place;
            let (connection, grant) = blocking(move || plan.run()).await?;
            host.borrow_mut().add_rdma(key, connection)?;
            Ok(SessionReply::Rdma(Box::new(grant)))
        });
        match tokio::time::timeout(RDMA_CONNECT_TIME, connecting).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(ended)) => Err(ended_early(ended)),
            Err(_) => {
                let (object, time) = (format!("a queue pair of session {}", key.session), RDMA_CONNECT_TIME.as_secs());
                let cause = format!("busy: what it reaches has not been registered within {time} s");
                Err(ControlError::new("connect", object, cause)
                    .way_out("go on without RDMA, and try again: that goes on meanwhile"))
            }
        }
    }

    fn regions(&self) -> Regions {
        self.host.borrow().regions.clone()
    }

    fn status(&self) -> Status {
        let mut host = self.host.borrow_mut();
        host.notice_losses();
        Status {
            instance: host.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: host.now_ms(),
            adopted: host.adopted,
            detach_on_exit: self.detach_on_exit,
            port_base: host.datapath.port_base(),
            attachments: host.interfaces.clone(),
            unserved: host.unserved.clone(),
            apps: host.list_apps(),
            capabilities: capabilities::effective().unwrap_or_default(),
            rdma: host.rdma.as_ref().map(Rdma::status),
        }
    }
}

impl Service for Daemon {
    async fn handle(&self, peer: &Peer, request: Request, progress: ProgressSink) -> Result<Reply, ControlError> {
        match request {
            Request::Admin(request) => {
                let answer = self.administer(request, progress).await;
                self.host.borrow().pins.present(answer).map(Reply::Admin)
            }
            Request::Session(request) => self.serve_session(peer, request).await.map(Reply::Session),
        }
    }
}

/// Runs what blocks on another thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ControlError> + Send + 'static,
) -> Result<T, ControlError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(ended) => Err(ended_early(ended)),
    }
}

fn ended_early(error: tokio::task::JoinError) -> ControlError {
    ControlError::new("finish", "the request", error).way_out("this is a bug of the daemon")
}
