//! Sessions: opened for clients, renewed, ended, taken over.

use naam_abi::limits::{REGIONS_MAX, SHARDS_MAX, SLOTS_MAX};
use naam_abi::siphash::PUBLIC_KEY;
use naam_abi::tables::SessionEntry;
use naam_control::protocol::session::{
    GrantedRegion, RegionRights, Rights, SessionGrant, SessionKey, SessionReply, Tag,
};
use naam_control::sessions::{GENERATION_MAX, SessionError, generation};
use naam_control::{ControlError, Name, Peer};

use crate::host::{App, Host};

/// Number of the public key in datagrams.
const PUBLIC_KEY_ID: u8 = 0;

impl Host {
    /// Lets a session live on.
    pub fn renew_session(&mut self, key: SessionKey) -> Result<SessionReply, ControlError> {
        let (now, lease_ms) = (self.now_ms(), self.lease_ms());
        let renewed = self.sessions.renew(key.session, key.ticket, now, lease_ms);
        renewed.map_err(|error| ControlError::new("renew", object(key), error).way_out("open a new one"))?;
        Ok(SessionReply::Renewed { lease_ms })
    }

    /// Ends a session that its client wants no more.
    pub fn close_session(&mut self, key: SessionKey) -> Result<SessionReply, ControlError> {
        let closed = self.sessions.close(key.session, key.ticket, self.now_ms());
        closed.map_err(|error| ControlError::new("close", object(key), error))?;
        self.clear_session(key.session);
        Ok(SessionReply::Closed)
    }

    /// Hands out a handler's object.
    pub fn hand_out(&self, key: SessionKey, sha256: &str) -> Result<SessionReply, ControlError> {
        let known = self.sessions.get(key.session, self.now_ms()).filter(|session| session.ticket == key.ticket);
        let app = known.map(|session| session.app).ok_or_else(|| {
            let error = SessionError::Unknown { number: key.session };
            ControlError::new("hand out a handler to", object(key), error).way_out("open a new one")
        })?;
        Ok(SessionReply::Object { bytes: self.listed_object(app, sha256)? })
    }

    /// Takes from a session that has ended all that it had.
    fn clear_session(&mut self, session: u32) {
        if let Some(rdma) = &mut self.rdma {
            rdma.disconnect(session);
        }
        self.tables().close_session(session);
    }

    /// Opens a session.
    pub fn open_session(
        &mut self,
        peer: &Peer,
        name: &Name,
        rights: &[RegionRights],
    ) -> Result<SessionReply, ControlError> {
        let app = self.app("open a session of", name)?;
        let refused =
            |cause: &dyn ToString| ControlError::new("open a session of", format!("app `{name}`"), cause.to_string());
        if app.restoring {
            return Err(refused(&"one of its regions is being restored").way_out("try again when that is done"));
        }
        if let Some(torn) = app.torn() {
            let cause = format!("restoring region `{torn}` was interrupted: it holds parts of two states");
            let way_out = format!("restore it again, or take it as it is by `naam region accept {name} {torn}`");
            return Err(refused(&cause).way_out(way_out));
        }
        let granted = grant(app, peer, rights).map_err(|cause| refused(&cause))?;
        let (id, limit, now, lease) = (app.id, app.sessions_max, self.now_ms(), self.lease_ms());
        let key = self.ticket_key;
        let opened = self.sessions.open(id, limit, |number| Self::ticket(key, number), now, lease);
        let session = opened.map_err(|error| refused(&error).way_out("close sessions, or wait until some expire"))?;
        let key = SessionKey { session: session.number, ticket: session.ticket };
        let mut entry = SessionEntry {
            session: key.session,
            app: id.into(),
            key: PUBLIC_KEY,
            last: key.session.into(),
            ..SessionEntry::default()
        };
        for (place, rights) in granted.iter().enumerate() {
            entry.handler_rights[place] = rights.handler.bits();
            entry.raw_rights[place] = rights.raw.bits();
        }
        self.tables().open_session(&entry);
        let app = &self.apps[&id];
        let regions = granted.into_iter().zip(&app.regions).zip(0..).map(|((rights, region), index)| GrantedRegion {
            rights,
            index,
            bytes: region.bytes(),
            value_len: region.geometry().value_len(),
        });
        let epochs = (0..SHARDS_MAX as u16).map(|shard| self.tables().placement(id, shard).epoch).collect();
        tracing::debug!(app = %app.name, session = key.session, %peer, "session opened");
        Ok(SessionReply::Opened(Box::new(SessionGrant {
            key,
            lease_ms: lease,
            app: app.name.clone(),
            app_id: id,
            port_base: self.datapath.port_base(),
            shards: SHARDS_MAX as u16,
            slots: SLOTS_MAX as u16,
            tag: if app.integrity { Tag::Keyed { key_id: PUBLIC_KEY_ID, key: PUBLIC_KEY } } else { Tag::Off },
            epochs,
            functions: app.functions.values().map(|served| served.function.clone()).collect(),
            regions: regions.collect(),
        })))
    }

    /// Ends all sessions of an app.
    pub fn end_sessions(&mut self, app: u16) {
        for session in self.sessions.remove_app(app) {
            self.clear_session(session.number);
        }
        // Those of an earlier daemon that nobody has taken over.
        for (session, of) in self.tables().sessions() {
            if of == app {
                self.clear_session(session);
            }
        }
    }

    /// Ends the sessions whose lease is over.
    pub fn expire_sessions(&mut self) {
        let now = self.now_ms();
        if self.sessions.next_expiry_ms().is_none_or(|next| now < next) {
            return;
        }
        for session in self.sessions.expire(now) {
            self.clear_session(session.number);
            tracing::info!(session = session.number, app = session.app, "session expired");
        }
    }

    /// Takes over the sessions that the tables hold; each lives for a lease from now. `first` is a
    /// random generation for entries that were never used, so that sessions from before a reboot
    /// meet no new one.
    pub fn adopt_sessions(&mut self, first: u32) -> usize {
        let (now, lease, key) = (self.now_ms(), self.lease_ms(), self.ticket_key);
        for (index, last) in self.tables().last_sessions().into_iter().enumerate() {
            let used = if last == 0 { first % (GENERATION_MAX / 2) } else { generation(last) };
            self.sessions.skip_generation(index, used);
        }
        let mut adopted = 0;
        for (session, app) in self.tables().sessions() {
            let ticket = Self::ticket(key, session);
            if self.apps.contains_key(&app) && self.sessions.adopt(session, app, ticket, now, lease).is_ok() {
                adopted += 1;
            } else {
                self.tables().close_session(session);
            }
        }
        adopted
    }

    /// Takes the rights to the region at `place` from every session of an app, and moves those to
    /// later regions down.
    pub fn remove_rights(&self, app: u16, place: usize) {
        for session in self.sessions.of_app(app) {
            if let Some(entry) = self.tables().session(session.number) {
                let (handler, raw) = (without(entry.handler_rights, place), without(entry.raw_rights, place));
                self.tables().set_rights(session.number, handler, raw);
            }
        }
    }
}

fn object(key: SessionKey) -> String {
    format!("session {}", key.session)
}

/// Rights without those at `place`; later ones move down.
fn without(mut rights: [u8; REGIONS_MAX], place: usize) -> [u8; REGIONS_MAX] {
    rights.copy_within(place + 1.., place);
    rights[REGIONS_MAX - 1] = 0;
    rights
}

/// Rights by region, in binding order.
fn grant(app: &App, peer: &Peer, wanted: &[RegionRights]) -> Result<Vec<RegionRights>, String> {
    let handler = if wanted.is_empty() { Rights::ALL } else { Rights::NONE };
    let mut granted: Vec<_> =
        app.region_names().into_iter().map(|region| RegionRights { region, handler, raw: Rights::NONE }).collect();
    for (number, rights) in wanted.iter().enumerate() {
        if wanted[..number].iter().any(|earlier| earlier.region == rights.region) {
            return Err(format!("rights to region `{}` are asked for twice", rights.region));
        }
        let place = app.region_index(&rights.region).ok_or_else(|| format!("it has no region `{}`", rights.region))?;
        let open = app.raw.get(&rights.region).copied().unwrap_or(Rights::NONE);
        if !peer.admin && !open.include(rights.raw) {
            return Err(format!("such raw rights to region `{}` are for administrators", rights.region));
        }
        granted[place] = rights.clone();
    }
    Ok(granted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_move_down_with_their_regions() {
        assert_eq!(without([1, 2, 3, 4, 5, 6, 7, 0], 1), [1, 3, 4, 5, 6, 7, 0, 0]);
        assert_eq!(without([1, 2, 3, 4, 5, 6, 7, 7], 7), [1, 2, 3, 4, 5, 6, 7, 0]);
    }
}
