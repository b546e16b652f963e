//! Steering: shards are moved by hand, and every shard's epoch moves with the functions.

mod common;

use naam_abi::wire::Status;
use naam_control::FunctionName;
use naam_control::protocol::admin::{AdminReply, AdminRequest, Placement, Site};

use common::{Instance, name, root};

const OK: u16 = Status::Ok as u16;

#[test]
fn shards_are_moved_and_brought_home() {
    let Some(instance) = Instance::served("shards_are_moved_and_brought_home") else { return };
    let session = instance.client().open_session(name("kv"), vec![]).unwrap().key.session;
    let door = instance.door();
    let show = || match instance.done(AdminRequest::SteerShow { app: name("kv") }) {
        AdminReply::Steering(placements) => placements[5],
        other => panic!("{other:?}"),
    };
    let before = show();
    instance.done(AdminRequest::SteerSet { app: name("kv"), shards: vec![5], site: Site::Client, lease_ms: Some(250) });
    assert_eq!((show().site, show().epoch, show().lease_ms), (Site::Client, before.epoch + 1, 250));
    assert_eq!(door.echo(session, 0).status, OK, "home serves what it gets: the placement is a hint");
    instance.done(AdminRequest::SteerSet { app: name("kv"), shards: vec![], site: Site::Host, lease_ms: None });
    assert_eq!((show().epoch, door.echo(session, 0).status), (before.epoch + 2, OK));
    let far = AdminRequest::SteerSet { app: name("kv"), shards: vec![64], site: Site::Host, lease_ms: None };
    assert!(instance.refused(far).contains("no shard 64"));
    let nowhere = AdminRequest::SteerSet { app: name("kv"), shards: vec![], site: Site::Dpu, lease_ms: None };
    assert!(instance.refused(nowhere).contains("no SmartNIC serves shards"));
}

/// The configuration places the shards of a new app; a restart leaves them where they were moved to.
#[test]
fn shards_begin_where_the_configuration_says() {
    if !root("shards_begin_where_the_configuration_says") {
        return;
    }
    let mut instance = Instance::kv();
    let steer = "[[app.steer]]\nshards = [2, 5]\nsite = \"client\"\nlease_ms = 250\n";
    instance.configure(&format!("{}{steer}", instance.kv_app()));
    instance.start();
    let at_client = |instance: &Instance| match instance.done(AdminRequest::SteerShow { app: name("kv") }) {
        AdminReply::Steering(placements) => {
            let placed = placements.into_iter().filter(|placement| placement.site == Site::Client);
            placed.map(|placement| (placement.shard, placement.lease_ms)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(at_client(&instance), [(2, 250), (5, 250)]);
    instance.done(AdminRequest::SteerSet { app: name("kv"), shards: vec![5], site: Site::Host, lease_ms: None });
    instance.kill();
    instance.start();
    assert_eq!(at_client(&instance), [(2, 250)], "a restart moves nothing");
}

/// Clients that run handlers themselves hear of another version, or of none, by the epoch.
#[test]
fn replaced_and_unloaded_handlers_move_all_epochs() {
    let Some(instance) = Instance::served("replaced_and_unloaded_handlers_move_all_epochs") else { return };
    instance.done(AdminRequest::SteerSet { app: name("kv"), shards: vec![5], site: Site::Client, lease_ms: Some(250) });
    let show = || match instance.done(AdminRequest::SteerShow { app: name("kv") }) {
        AdminReply::Steering(placements) => placements,
        other => panic!("{other:?}"),
    };
    let moved = |before: &[Placement]| {
        let next = |placement: &Placement| Placement { epoch: placement.epoch + 1, ..*placement };
        before.iter().map(next).collect::<Vec<_>>()
    };
    let before = show();
    instance.replace("echo");
    let replaced = show();
    assert_eq!(replaced, moved(&before), "a replace moves every epoch, and no shard");
    instance.done(AdminRequest::HandlerUnload { app: name("kv"), function: FunctionName::new("echo").unwrap() });
    assert_eq!(show(), moved(&replaced), "so does the end of a function");
}

/// The daemon before may have been killed between a replace and the word of it.
#[test]
fn a_daemon_that_takes_over_moves_all_epochs() {
    let Some(mut instance) = Instance::served("a_daemon_that_takes_over_moves_all_epochs") else { return };
    instance.done(AdminRequest::AppCreate { app: name("more"), id: None, integrity: true });
    let epochs = |instance: &Instance| -> Vec<u32> {
        let shown = ["kv", "more"].map(|app| match instance.done(AdminRequest::SteerShow { app: name(app) }) {
            AdminReply::Steering(placements) => placements,
            other => panic!("{other:?}"),
        });
        shown.concat().iter().map(|placement| placement.epoch).collect()
    };
    let before = epochs(&instance);
    instance.kill();
    instance.start();
    assert!(epochs(&instance).iter().zip(&before).all(|(now, before)| *now == before + 1), "of both apps");
}
