//! Built-in one-sided functions: served by configuration or on request, under raw rights that somebody must grant.

mod common;

use std::net::TcpListener;
use std::time::Instant;

use naam_abi::onesided::{self, NAMES, READ};
use naam_abi::wire::Status;
use naam_control::protocol::admin::{AdminReply, AdminRequest};
use naam_control::protocol::session::{RegionRights, Rights};
use naam_control::{ControlClient, FunctionName};
use naam_tests::frame::{Message, Request};

use common::{APP, Door, Instance, function, name, root};

const READS: Rights = Rights { read: true, ..Rights::NONE };

fn raw(region: &str, raw: Rights) -> Vec<RegionRights> {
    vec![RegionRights { region: name(region), handler: Rights::NONE, raw }]
}

/// Status of a READ of the first word of a region.
fn read(door: &Door, session: u32, region: u32) -> u16 {
    let messages = vec![Message::new(1, &onesided::read_args(region, 0, 8), 8)];
    let reply = door.send(&Request { app: APP, function: READ, handler: 0, shard: 0, session, messages });
    if reply.kind == 5 { reply.status } else { reply.answers[0].status }
}

#[test]
fn apps_get_them_by_configuration_with_the_raw_rights_it_allows() {
    if !root("apps_get_them_by_configuration_with_the_raw_rights_it_allows") {
        return;
    }
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let region = |name: &str, rest: &str| format!("[[app.region]]\nname = \"{name}\"\nsize = \"2 MiB\"\n{rest}");
    let app = format!(
        "tcp = \"{address}\"\n[[app]]\nname = \"kv\"\nid = 3\nonesided = true\n{}{}{}",
        region("store", "raw = [\"read\"]\n"),
        region("secret", ""),
        function("echo", common::ECHO)
    );
    let mut instance = Instance::new(&app);
    instance.start();
    let ids = |instance: &Instance| -> Vec<_> {
        instance.handlers().iter().map(|handler| (handler.function.id, handler.function.name.to_string())).collect()
    };
    let expected: Vec<_> = (0..).zip(NAMES.map(str::to_owned)).chain([(16, "echo".to_owned())]).collect();
    assert_eq!(ids(&instance), expected);

    let mut stranger = ControlClient::connect_tcp(address.to_string()).unwrap();
    let refused = |client: &mut ControlClient, rights| client.open_session(name("kv"), rights).unwrap_err().to_string();
    for (region, rights) in [("store", Rights::ALL), ("store", Rights { write: true, ..READS }), ("secret", READS)] {
        let text = refused(&mut stranger, raw(region, rights));
        assert!(text.contains("for administrators") && text.contains(region), "{text}");
    }
    let door = instance.door();
    let granted = stranger.open_session(name("kv"), raw("store", READS)).unwrap();
    assert_eq!(granted.regions.iter().map(|region| region.rights.raw).collect::<Vec<_>>(), [READS, Rights::NONE]);
    assert_eq!(granted.functions.len(), 6);
    let session = granted.key.session;
    assert_eq!((read(&door, session, 0), read(&door, session, 1)), (0, Status::Denied as u16));
    // Nobody gets raw rights without asking, administrators get what they ask for.
    let quiet = instance.client().open_session(name("kv"), vec![]).unwrap();
    assert_eq!(read(&door, quiet.key.session, 0), Status::Denied as u16);
    let all = instance.client().open_session(name("kv"), raw("secret", Rights::ALL)).unwrap();
    assert_eq!((read(&door, all.key.session, 0), read(&door, all.key.session, 1)), (Status::Denied as u16, 0));

    instance.kill();
    instance.start();
    assert_eq!(ids(&instance), expected);
    assert_eq!((read(&door, session, 0), read(&door, session, 1)), (0, Status::Denied as u16), "adopted");
    // Their numbers are theirs, and configuration alone ends what it began.
    instance.kill();
    instance.configure(&app.replace("onesided = true\n", ""));
    instance.start();
    assert_eq!(ids(&instance), [(16, "echo".to_owned())]);
    assert_eq!(read(&door, session, 0), Status::NoFunction as u16);
}

#[test]
fn apps_get_them_on_request_bound_to_the_regions_of_the_moment() {
    let Some(mut instance) = Instance::served("apps_get_them_on_request_bound_to_the_regions_of_the_moment") else {
        return;
    };
    let serve = AdminRequest::HandlerOnesided { app: name("kv") };
    let session = instance.client().open_session(name("kv"), raw("store", Rights::ALL)).unwrap().key.session;
    let door = instance.door();
    assert_eq!(read(&door, session, 0), Status::NoFunction as u16);
    let began = Instant::now();
    let AdminReply::Handlers(served) = instance.done(serve.clone()) else { panic!("no handlers") };
    println!("five functions at both hooks, with admission: {} ms", began.elapsed().as_millis());
    assert_eq!(served.iter().map(|handler| handler.function.id).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(served.iter().all(|handler| handler.function.version == 1 && handler.program_ids.len() == 2));
    assert_eq!((read(&door, session, 0), read(&door, session, 1)), (0, Status::Denied as u16));

    instance.done(AdminRequest::RegionCreate { app: name("kv"), region: name("more"), bytes: 2 << 20, verbs: None });
    let atomic = Some(Rights::ALL);
    let text = instance.refused(AdminRequest::RegionCreate {
        app: name("kv"),
        region: name("adds"),
        bytes: 2 << 20,
        verbs: atomic,
    });
    assert!(text.contains("atomics"), "{text}");
    let AdminReply::Handlers(served) = instance.done(serve.clone()) else { panic!("no handlers") };
    assert!(served.iter().all(|handler| handler.function.version == 2));
    let session = instance.client().open_session(name("kv"), raw("more", READS)).unwrap().key.session;
    assert_eq!((read(&door, session, 0), read(&door, session, 1)), (Status::Denied as u16, 0));

    // They are functions like others, but for their numbers.
    instance.kill();
    instance.start();
    assert_eq!(instance.handlers().len(), 7);
    let unload = |function: &str| {
        let function = FunctionName::new(function).unwrap();
        AdminRequest::HandlerUnload { app: name("kv"), function }
    };
    instance.done(unload("naam_read"));
    assert_eq!(read(&door, session, 1), Status::NoFunction as u16);
    let bound = AdminRequest::RegionRemove { app: name("kv"), region: name("more") };
    assert!(instance.refused(bound).contains("naam_write"));
    instance.done(AdminRequest::AppCreate { app: name("bare"), id: None, integrity: true });
    let text = instance.refused(AdminRequest::HandlerOnesided { app: name("bare") });
    assert!(text.contains("no region") && text.contains("naam region create"), "{text}");
    assert!(instance.refused(AdminRequest::HandlerOnesided { app: name("none") }).contains("no such app"));
}
