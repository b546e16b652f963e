//! The daemon in a process of its own; frames by BPF_PROG_TEST_RUN.

mod common;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{APP, COUNTER, ECHO, Instance, function, name, object, root};
use naam_abi::wire::Status;
use naam_control::FunctionName;
use naam_control::protocol::admin::{AdminReply, AdminRequest, Hook, Object};
use naam_control::protocol::inspect::Verdict;
use naam_control::protocol::session::{RegionRights, Rights, SessionGrant, SessionKey};
use naam_tests::objects;

/// A reply's flag: it comes out of a slot.
const DUPLICATE: u8 = 4;
const OK: u16 = Status::Ok as u16;

#[test]
fn serves_what_the_configuration_says() {
    let Some(instance) = Instance::served("serves_what_the_configuration_says") else { return };
    let grant = instance.client().open_session(name("kv"), vec![]).unwrap();
    let functions: Vec<_> = grant.functions.iter().map(|f| (f.name.as_str(), f.id, f.version, f.writes)).collect();
    assert_eq!(functions, [("echo", ECHO, 1, false), ("counter", COUNTER, 1, true)]);
    assert_eq!((grant.app_id, grant.regions[0].index, grant.regions[0].bytes), (APP, 0, 2 << 20));
    let door = instance.door();
    let reply = door.echo(grant.key.session, 1);
    assert_eq!((reply.answers[0].status, reply.answers[0].reply.as_slice(), reply.signed), (OK, &b"hello"[..], true));
    assert_eq!(door.add(grant.key.session, 0, 1, 7).answers[0].status, OK);
    assert_eq!(door.word(&instance), 7);

    let AdminReply::Stats(counters) = instance.done(AdminRequest::Stats) else { panic!("no counters") };
    let kv = counters.iter().find(|counters| counters.app == Some(name("kv"))).unwrap();
    assert_eq!((kv.datagrams, kv.replies, kv.messages, kv.statuses["ok"]), (2, 2, 2, 2));
    let status = instance.status();
    assert_eq!((status.adopted, status.pid, status.apps[0].sessions), (false, instance.pid(), 1));
    let AdminReply::Inspection(inspection) = instance.done(AdminRequest::Inspect) else { panic!("no inspection") };
    let roles: Vec<_> = inspection.programs.iter().map(|program| program.role.as_str()).collect();
    let hooks = ["xdp", "xdp, continues", "tc", "tc, continues"];
    let expected = ["echo", "counter"].map(|name| hooks.map(|hook| format!("kv/{name} v1 ({hook})")));
    assert_eq!(roles, expected.concat());
    assert!(inspection.maps.iter().any(|map| map.role == "region kv/store" && map.btf), "{inspection:?}");
    let AdminReply::Findings(findings) = instance.done(AdminRequest::Doctor) else { panic!("no findings") };
    assert!(findings.iter().any(|finding| finding.check == "functions" && finding.verdict == Verdict::Good));

    // A closed session is no longer served.
    instance.client().close_session(grant.key).unwrap();
    assert_eq!(door.echo(grant.key.session, 1).status, Status::Session as u16);
}

#[test]
fn capabilities_are_given_up() {
    // CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF.
    const KEPT: u64 = 1 << 12 | 1 << 38 | 1 << 39;
    let Some(instance) = Instance::served("capabilities_are_given_up") else { return };
    // Work that takes a thread of its own, so that such a thread is looked at as well.
    instance.done(AdminRequest::RegionDump { app: name("kv"), region: name("store"), offset: 0, len: 64 });
    let mut threads = 0;
    for task in fs::read_dir(format!("/proc/{}/task", instance.pid())).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        let set = |name: &str| u64::from_str_radix(&field(name), 16).unwrap();
        assert_eq!([set("CapPrm:"), set("CapEff:"), set("CapBnd:")], [KEPT; 3]);
        assert_eq!((set("CapInh:"), set("CapAmb:")), (0, 0));
        assert_eq!(field("NoNewPrivs:"), "1");
        threads += 1;
    }
    assert!(threads >= 2);
    assert_eq!(instance.status().capabilities, ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
    // With what is left, everything can still be done.
    assert_eq!(instance.replace("echo").function.version, 2);
    instance.done(AdminRequest::AppCreate { app: name("more"), id: None, integrity: true });
    instance.done(AdminRequest::RegionCreate { app: name("more"), region: name("r"), bytes: 2 << 20, verbs: None });
}

#[test]
fn killed_daemon_is_succeeded_without_a_gap() {
    let Some(mut instance) = Instance::served("killed_daemon_is_succeeded_without_a_gap") else { return };
    let grant = instance.client().open_session(name("kv"), vec![]).unwrap();
    let closed = instance.client().open_session(name("kv"), vec![]).unwrap();
    instance.client().close_session(closed.key).unwrap();
    let (session, door) = (grant.key.session, instance.door());
    let first = door.add(session, 3, 1, 5);
    assert_eq!((first.answers[0].status, first.answers[0].flags & DUPLICATE), (OK, 0));
    let before = instance.handlers();

    instance.kill();
    // Nobody is there, and everything goes on: new work, retries of old work.
    assert_eq!(door.echo(session, 1).answers[0].status, OK);
    assert_eq!(door.add(session, 3, 1, 5).answers[0].flags & DUPLICATE, DUPLICATE);
    assert_eq!(door.add(session, 4, 1, 10).answers[0].status, OK);
    assert_eq!(door.word(&instance), 15);

    instance.start();
    assert!(instance.status().adopted);
    assert_eq!(instance.handlers(), before, "neither versions nor programs change");
    let late = door.add(session, 3, 1, 5);
    assert_eq!((late.answers[0].flags & DUPLICATE, &late.answers[0].reply), (DUPLICATE, &first.answers[0].reply));
    assert_eq!(door.word(&instance), 15);
    assert_eq!(door.add(session, 3, 2, 1).answers[0].status, OK);
    instance.client().renew_session(grant.key).expect("the ticket is still good");
    let next = instance.client().open_session(name("kv"), vec![]).unwrap();
    assert_ne!(next.key.session, closed.key.session, "numbers of ended sessions are not used again");
    assert_eq!(next.functions, grant.functions);
}

#[test]
fn handler_objects_are_handed_out_to_sessions_by_their_hash() {
    let Some(mut instance) = Instance::served("handler_objects_are_handed_out_to_sessions_by_their_hash") else {
        return;
    };
    let grant = instance.client().open_session(name("kv"), vec![]).unwrap();
    let listed = |grant: &SessionGrant, function: &str| {
        let listed = grant.functions.iter().find(|listed| listed.name.as_str() == function).unwrap();
        listed.object.clone().expect("every function that is served has its object")
    };
    let (echo, counter) = (listed(&grant, "echo"), listed(&grant, "counter"));
    let bytes = instance.client().fetch_object(grant.key, &echo.sha256).unwrap();
    assert_eq!(bytes, objects::read("echo"));
    assert_eq!((echo.bytes, echo.sha256.len()), (bytes.len() as u64, 64));
    assert_ne!(echo.sha256, counter.sha256);

    let refused = |key, sha256: &str| instance.client().fetch_object(key, sha256).unwrap_err().to_string();
    let error = refused(grant.key, &"0".repeat(64));
    assert!(error.contains("no function of the app is served by it"), "{error}");
    assert!(refused(grant.key, "../state.json").contains("no function of the app"));
    let error = refused(SessionKey { ticket: grant.key.ticket ^ 1, ..grant.key }, &echo.sha256);
    assert!(error.contains("there is no session"), "{error}");

    // The next daemon has them, too.
    instance.kill();
    instance.start();
    assert_eq!(instance.client().fetch_object(grant.key, &counter.sha256).unwrap(), objects::read("counter"));
    assert_eq!(listed(&instance.client().open_session(name("kv"), vec![]).unwrap(), "echo"), echo);
}

#[test]
fn without_its_state_file_a_daemon_loads_again() {
    let Some(mut instance) = Instance::served("without_its_state_file_a_daemon_loads_again") else { return };
    let grant = instance.client().open_session(name("kv"), vec![]).unwrap();
    let session = grant.key.session;
    instance.door().add(session, 0, 1, 5);
    instance.kill();
    fs::remove_file(instance.state()).unwrap();
    instance.start();
    let versions: Vec<_> = instance.handlers().iter().map(|handler| handler.function.version).collect();
    assert_eq!(versions, [2, 2]);
    // The session lives for a lease, its slots and the region are as they were; its ticket is void.
    let door = instance.door();
    assert_eq!(door.add(session, 0, 1, 5).answers[0].flags & DUPLICATE, DUPLICATE);
    assert_eq!(door.word(&instance), 5);
    assert!(instance.client().renew_session(grant.key).is_err());
}

#[test]
fn another_build_replaces_programs_and_keeps_memory() {
    let Some(mut instance) = Instance::served("another_build_replaces_programs_and_keeps_memory") else { return };
    let grant = instance.client().open_session(name("kv"), vec![]).unwrap();
    let session = grant.key.session;
    instance.door().add(session, 0, 1, 5);
    instance.kill();
    let bpf = instance.dir.path().join("bpf");
    fs::create_dir(&bpf).unwrap();
    fs::copy(object("entry"), bpf.join("entry.o")).unwrap();
    // Bytes behind the ELF's last section change nothing but the build.
    let mut shell = fs::read(object("shell")).unwrap();
    shell.extend([0; 8]);
    fs::write(bpf.join("shell.o"), shell).unwrap();
    instance.bpf = bpf;
    instance.start();
    assert!(instance.log().contains("of another build"), "{}", instance.log());
    let handlers = instance.handlers();
    let versions: Vec<_> = handlers.iter().map(|handler| (handler.function.version, handler.draining)).collect();
    assert_eq!(versions, [(2, None), (2, None)]);
    let door = instance.door();
    assert_eq!(door.add(session, 0, 1, 5).answers[0].flags & DUPLICATE, DUPLICATE);
    assert_eq!((door.word(&instance), door.echo(session, 1).status), (5, Status::Version as u16));
    instance.client().renew_session(grant.key).expect("sessions go on");
}

/// Tables are taken over all together or not at all.
#[test]
fn a_datapath_that_lacks_a_table_is_made_anew() {
    let Some(mut instance) = Instance::served("a_datapath_that_lacks_a_table_is_made_anew") else { return };
    let maps = instance.pins().join("maps");
    let epoch = |instance: &Instance| match instance.done(AdminRequest::SteerShow { app: name("kv") }) {
        AdminReply::Steering(placements) => placements.iter().map(|placement| placement.epoch).min().unwrap(),
        other => panic!("{other:?}"),
    };
    instance.done(AdminRequest::AppCreate { app: name("more"), id: Some(9), integrity: true });
    let (mut ended, mut sum, mut before) = (Vec::new(), 0, epoch(&instance));
    for table in ["APPS", "STEER", "SESSIONS", "SLOTS", "PROGRAMS", "VISIT", "a table of other geometry"] {
        let session = instance.client().open_session(name("kv"), vec![]).unwrap().key.session;
        assert_eq!(instance.door().add(session, 3, 1, 5).answers[0].status, OK);
        sum += 5;
        ended.push(session);
        instance.kill();
        if maps.join(table).exists() {
            fs::remove_file(maps.join(table)).unwrap();
        } else {
            let (name, map_type, flags) = ("SLOTS", naam_sys::MapType::Array, naam_sys::map::MMAPABLE);
            let spec =
                naam_sys::MapSpec { name, map_type, key_size: 4, value_size: 8, max_entries: 7, flags, btf: None };
            naam_sys::Map::create(&spec).unwrap().pin_replacing(&maps.join(name)).unwrap();
        }
        instance.start();
        let log = instance.log();
        assert!(log.contains(&format!("its table {table} is missing")) || log.contains("has 7 entries"), "{log}");
        assert!(!instance.status().adopted);
        assert!(epoch(&instance) > before, "{table}: {before}, then {}", epoch(&instance));
        before = epoch(&instance);
        let door = instance.door();
        for session in &ended {
            assert_eq!(door.echo(*session, 0).status, Status::Session as u16, "{table}");
        }
        // What serves is whole, and the memory is the same.
        let session = instance.client().open_session(name("kv"), vec![]).unwrap().key.session;
        assert!(!ended.contains(&session) || table == "SESSIONS", "{table}");
        assert_eq!(door.echo(session, 0).answers[0].status, OK, "{table}");
        assert_eq!(door.word(&instance), sum, "{table}");
        let apps: Vec<_> = instance.status().apps.into_iter().map(|app| (app.id, app.functions.len())).collect();
        assert_eq!(apps, [(APP, 2), (9, 0)], "{table}");
    }
}

#[test]
fn replaced_version_serves_until_it_is_drained() {
    let Some(mut instance) = Instance::served("replaced_version_serves_until_it_is_drained") else { return };
    let session = instance.client().open_session(name("kv"), vec![]).unwrap().key.session;
    let door = instance.door();
    let replaced = instance.replace("echo");
    assert_eq!((replaced.function.version, replaced.draining), (2, Some(1)));
    for version in [0, 1, 2] {
        assert_eq!(door.echo(session, version).answers[0].status, OK, "version {version}");
    }
    let started = Instant::now();
    while door.echo(session, 1).status == OK {
        assert!(started.elapsed() < Duration::from_secs(20), "version 1 is never drained");
        std::thread::sleep(Duration::from_millis(20));
    }
    let refused = door.echo(session, 1);
    assert_eq!((refused.status, refused.handler), (Status::Version as u16, 2));
    assert_eq!(instance.handlers()[0].draining, None);

    // A replacement at run time outlives the daemon, and so does the drained version's end.
    instance.kill();
    instance.start();
    assert_eq!(instance.handlers()[0].function.version, 2);
    assert_eq!(door.echo(session, 0).handler, 2);
}

/// The kernel takes its time to verify a handler; nobody else waits for it.
#[test]
fn others_are_served_while_a_handler_is_verified() {
    let Some(instance) = Instance::served("others_are_served_while_a_handler_is_verified") else { return };
    let grant = instance.client().open_session(name("kv"), vec![]).unwrap();
    let load = |id| AdminRequest::HandlerLoad {
        app: name("kv"),
        id: Some(id),
        object: Object::Bytes(fs::read(object("mica_set")).unwrap()),
    };
    let loaded = std::sync::atomic::AtomicBool::new(false);
    let (took, renewals, longest) = std::thread::scope(|scope| {
        let loader = scope.spawn(|| {
            let started = Instant::now();
            instance.done(load(20));
            loaded.store(true, std::sync::atomic::Ordering::Release);
            started.elapsed()
        });
        let (mut client, mut renewals, mut longest) = (instance.client(), 0, Duration::ZERO);
        while !loaded.load(std::sync::atomic::Ordering::Acquire) {
            let started = Instant::now();
            client.renew_session(grant.key).unwrap();
            longest = longest.max(started.elapsed());
            renewals += 1;
        }
        (loader.join().unwrap(), renewals, longest)
    });
    println!("a load of {took:?}, {renewals} renewals meanwhile, the longest {longest:?}");
    assert!(longest < took / 2, "{longest:?} of {took:?}");

    // Changes wait for each other: of two loads of one function, one finds the other.
    let answers = std::thread::scope(|scope| {
        let loads = [(); 2].map(|()| {
            scope.spawn(|| {
                instance.admin(AdminRequest::HandlerReplace {
                    app: name("kv"),
                    function: FunctionName::new("echo").unwrap(),
                    object: Object::Bytes(fs::read(object("echo")).unwrap()),
                })
            })
        });
        loads.map(|load| load.join().unwrap())
    });
    let mut versions = answers.map(|answer| match answer.unwrap() {
        AdminReply::Handler(handler) => handler.function.version,
        other => panic!("{other:?}"),
    });
    versions.sort_unstable();
    assert_eq!(versions, [2, 3]);
}

#[test]
fn apps_made_at_run_time_are_like_configured_ones() {
    if !root("apps_made_at_run_time_are_like_configured_ones") {
        return;
    }
    let mut instance = Instance::new("");
    instance.start();
    let (app, region) = (name("kv"), name("store"));
    instance.done(AdminRequest::AppCreate { app: app.clone(), id: Some(APP), integrity: true });
    instance.done(AdminRequest::RegionCreate { app: app.clone(), region: region.clone(), bytes: 2 << 20, verbs: None });
    let load = |file: &str| AdminRequest::HandlerLoad {
        app: app.clone(),
        id: None,
        object: Object::Bytes(fs::read(object(file)).unwrap()),
    };
    for (file, id) in [("echo", ECHO), ("counter", COUNTER)] {
        let AdminReply::Handler(handler) = instance.done(load(file)) else { panic!("no handler") };
        assert_eq!((handler.function.id, handler.function.version, handler.program_ids.len()), (id, 1, 2));
    }
    assert!(instance.refused(load("echo")).contains("a function of this name"));
    let bytes = AdminRequest::HandlerLoad { app: app.clone(), id: None, object: Object::Bytes(b"nonsense".to_vec()) };
    assert!(instance.refused(bytes).contains("not-elf"));
    let session = instance.client().open_session(app.clone(), vec![]).unwrap().key.session;
    let door = instance.door();
    assert_eq!(door.add(session, 0, 1, 3).answers[0].status, OK);
    let before = (instance.handlers(), instance.status().apps);

    instance.kill();
    instance.start();
    assert_eq!((instance.handlers(), instance.status().apps), before);
    assert_eq!(door.add(session, 0, 1, 3).answers[0].flags & DUPLICATE, DUPLICATE);

    let remove = AdminRequest::RegionRemove { app: app.clone(), region: region.clone() };
    assert!(instance.refused(remove.clone()).contains("is bound to it"));
    for function in ["echo", "counter"] {
        let function = FunctionName::new(function).unwrap();
        instance.done(AdminRequest::HandlerUnload { app: app.clone(), function });
    }
    assert_eq!(door.echo(session, 0).status, Status::NoFunction as u16);
    instance.done(remove);
    // A number of a function is used again, a version of it is not.
    let AdminReply::Handler(again) = instance.done(load("echo")) else { panic!("no handler") };
    assert_eq!((again.function.id, again.function.version), (ECHO, 2));
    instance.done(AdminRequest::AppRemove { app });
    assert_eq!(door.echo(session, 0).status, Status::NoApp as u16);
    assert!(instance.handlers().is_empty());
    assert_eq!(fs::read_dir(instance.pins().join("functions")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(instance.pins().join("scratch")).unwrap().count(), 0);
}

#[test]
fn rights_are_granted_by_region_and_kept_apart() {
    let Some(instance) = Instance::served("rights_are_granted_by_region_and_kept_apart") else { return };
    let read = Rights { read: true, ..Rights::NONE };
    let wanted = RegionRights { region: name("store"), handler: read, raw: Rights::NONE };
    let grant = instance.client().open_session(name("kv"), vec![wanted.clone()]).unwrap();
    assert_eq!(grant.regions[0].rights, wanted);
    let door = instance.door();
    let refused = door.add(grant.key.session, 0, 1, 7);
    assert_eq!((refused.answers[0].status, door.word(&instance)), (Status::Denied as u16, 0));
    let elsewhere = RegionRights { region: name("other"), handler: read, raw: Rights::NONE };
    let error = instance.client().open_session(name("kv"), vec![elsewhere]).unwrap_err();
    assert!(error.to_string().contains("no region `other`"), "{error}");
    let error = instance.client().open_session(name("kv"), vec![wanted.clone(), wanted]).unwrap_err();
    assert!(error.to_string().contains("asked for twice"), "{error}");
}

#[test]
fn regions_are_saved_restored_and_shown() {
    let Some(instance) = Instance::served("regions_are_saved_restored_and_shown") else { return };
    let session = instance.client().open_session(name("kv"), vec![]).unwrap().key.session;
    let door = instance.door();
    door.add(session, 0, 1, 0x41);
    let (app, region, path) = (name("kv"), name("store"), instance.dir.path().join("snapshot"));
    let save = AdminRequest::RegionSave { app: app.clone(), region: region.clone(), path: path.clone() };
    assert_eq!(instance.done(save), AdminReply::Copied { bytes: 1 << 20 });
    door.add(session, 0, 2, 1);
    let restore = AdminRequest::RegionRestore { app: app.clone(), region: region.clone(), path: path.clone() };
    instance.done(restore);
    assert_eq!(door.word(&instance), 0x41);
    assert_eq!(door.echo(session, 0).status, Status::Session as u16, "what the session had begun is gone");
    let dump = AdminRequest::RegionDump { app: app.clone(), region: region.clone(), offset: 64, len: 8 };
    let AdminReply::Bytes { offset, bytes } = instance.done(dump) else { panic!("no bytes") };
    assert_eq!((offset, bytes[0]), (64, 0x41));

    fs::write(&path, [7; 24]).unwrap();
    let load = AdminRequest::RegionLoad { app: app.clone(), region: region.clone(), path: path.clone(), offset: 4096 };
    assert_eq!(instance.done(load), AdminReply::Copied { bytes: 24 });
    let restore = AdminRequest::RegionRestore { app: app.clone(), region, path };
    assert!(instance.refused(restore).contains("not a usable snapshot"));
    assert!(instance.client().open_session(app, vec![]).is_ok(), "a refused restore keeps nobody away");
}

/// As a daemon leaves it that was killed while it restored.
#[test]
fn interrupted_restore_keeps_clients_away_until_it_is_mended_or_accepted() {
    let Some(mut instance) = Instance::served("interrupted_restore_keeps_clients_away_until_it_is_mended_or_accepted")
    else {
        return;
    };
    let session = instance.client().open_session(name("kv"), vec![]).unwrap().key.session;
    let (app, region, path) = (name("kv"), name("store"), instance.dir.path().join("snapshot"));
    instance.done(AdminRequest::RegionSave { app: app.clone(), region: region.clone(), path: path.clone() });
    let restore = AdminRequest::RegionRestore { app: app.clone(), region: region.clone(), path };
    let accept = AdminRequest::RegionAccept { app: app.clone(), region };
    assert!(instance.refused(accept.clone()).contains("no restore of it was interrupted"));
    for way_out in [restore, accept] {
        instance.kill();
        fs::create_dir_all(instance.pins().join("restoring/kv:store")).unwrap();
        instance.start();
        assert_eq!(instance.door().echo(session, 0).status, Status::Session as u16);
        let error = instance.client().open_session(app.clone(), vec![]).unwrap_err().to_string();
        assert!(error.contains("region `store` was interrupted") && error.contains("naam region accept"), "{error}");
        instance.done(way_out);
        instance.client().open_session(app.clone(), vec![]).unwrap();
    }
}

/// Rights are by a region's place. A daemon killed between the region's end and the sessions' new rights
/// leaves sessions whose rights would be to other regions.
#[test]
fn interrupted_removal_of_a_region_moves_no_rights() {
    if !root("interrupted_removal_of_a_region_moves_no_rights") {
        return;
    }
    let mut instance = Instance::new("");
    instance.start();
    let app = name("kv");
    instance.done(AdminRequest::AppCreate { app: app.clone(), id: Some(APP), integrity: true });
    for region in ["first", "second"] {
        instance.done(AdminRequest::RegionCreate {
            app: app.clone(),
            region: name(region),
            bytes: 2 << 20,
            verbs: None,
        });
    }
    let handler = Rights { read: true, write: true, atomic: true };
    let rights = vec![RegionRights { region: name("first"), handler, raw: Rights::NONE }];
    let session = instance.client().open_session(app, rights).unwrap().key.session;
    instance.kill();
    instance.start();
    assert!(instance.door().datapath.tables().session(session).is_some());
    instance.kill();
    fs::remove_file(instance.pins().join("regions/kv/first")).unwrap();
    instance.start();
    assert_eq!(instance.door().datapath.tables().session(session), None);
}

#[test]
fn configuration_that_cannot_be_served_names_its_key() {
    let Some(mut instance) = Instance::served("configuration_that_cannot_be_served_names_its_key") else { return };
    let session = instance.client().open_session(name("kv"), vec![]).unwrap().key.session;
    instance.kill();
    let garbage = instance.dir.path().join("garbage.o");
    fs::write(&garbage, "no handler").unwrap();
    let app = |size: &str, function: &str| {
        format!("[[app]]\nname = \"kv\"\nid = 3\n[[app.region]]\nname = \"store\"\nsize = \"{size}\"\n{function}")
    };
    let echo = function("echo", ECHO);
    let cases = [
        (
            app("2 MiB", &echo.replace(object("echo").to_str().unwrap(), garbage.to_str().unwrap())),
            ["app.function.object", "not-elf"],
        ),
        (app("2 MiB", &echo.replace("name = \"echo\"", "name = \"other\"")), ["app.function.name", "`echo`"]),
        (app("4 MiB", &echo), ["app.region.size", "it exists with"]),
    ];
    let door = instance.door();
    for (text, words) in cases {
        instance.configure(&text);
        instance.try_start(&[]).unwrap_err();
        let log = instance.log();
        let last = log.lines().last().unwrap();
        assert!(words.iter().all(|word| last.contains(word)), "{words:?}: {last}");
        assert_eq!(door.echo(session, 1).answers[0].status, OK, "what served before goes on");
    }
}

#[test]
fn half_done_work_of_a_killed_daemon_is_cleaned_up() {
    let Some(mut instance) = Instance::served("half_done_work_of_a_killed_daemon_is_cleaned_up") else { return };
    instance.kill();
    let pins = instance.pins();
    let program = naam_sys::Program::open_pinned(&pins.join("functions/app3_fn16_v1_xdp")).unwrap();
    program.pin(&pins.join("functions/app3_fn16_v9_xdp")).unwrap();
    naam_sys::Map::open_pinned(&pins.join("maps/PROGRAMS"))
        .unwrap()
        .update_fd(77, std::os::fd::AsFd::as_fd(&program))
        .unwrap();
    naam_sys::Map::open_pinned(&pins.join("scratch/app3")).unwrap().pin(&pins.join("scratch/app9")).unwrap();
    instance.start();
    assert!(!pins.join("functions/app3_fn16_v9_xdp").exists() && !pins.join("scratch/app9").exists());
    assert!(instance.log().contains("Swept { programs: 1, places: 1, scratch: 1 }"), "{}", instance.log());
    assert_eq!(instance.handlers().len(), 2);
}

#[test]
fn a_second_daemon_is_kept_away() {
    let Some(instance) = Instance::served("a_second_daemon_is_kept_away") else { return };
    let first = instance.pid();
    let mut second = Instance::kv();
    let text = fs::read_to_string(second.dir.path().join("naam.toml")).unwrap();
    // Another socket, the same pins.
    let same =
        text.replacen(&format!("instance = \"{}\"", second.name), &format!("instance = \"{}\"", instance.name), 1);
    fs::write(second.dir.path().join("naam.toml"), same).unwrap();
    second.try_start(&[]).unwrap_err();
    assert!(second.log().contains("another daemon serves"), "{}", second.log());
    assert_eq!(instance.status().pid, first);
}

#[test]
fn the_end_leaves_the_datapath_unless_told_otherwise() {
    let Some(mut instance) = Instance::served("the_end_leaves_the_datapath_unless_told_otherwise") else { return };
    let session = instance.client().open_session(name("kv"), vec![]).unwrap().key.session;
    let door = instance.door();
    assert!(instance.terminate().success());
    assert_eq!(door.echo(session, 1).answers[0].status, OK);
    assert!(!instance.socket().exists());
    drop(door);

    // Too few descriptors are no reason to begin.
    let limited = Command::new("prlimit").args(["--nofile=20", "--"]).args(instance.command_line()).output().unwrap();
    let words = String::from_utf8(limited.stderr).unwrap();
    assert!(!limited.status.success() && words.contains("LimitNOFILE="), "{words}");

    instance.try_start(&["--detach-on-exit"]).unwrap();
    assert!(instance.status().detach_on_exit);
    instance.done(AdminRequest::Shutdown);
    let started = Instant::now();
    while instance.pins().exists() {
        assert!(started.elapsed() < Duration::from_secs(20), "the pins stay:\n{}", instance.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where bpffs is root's alone, as systemd mounts it, and where it is not.
#[test]
fn another_user_is_become_and_root_again() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    if !root("another_user_is_become_and_root_again") {
        return;
    }
    let mut instance = Instance::kv();
    let as_nobody = format!("[daemon]\nuser = \"nobody\"\n{}", instance.kv_app());
    // A directory that nobody can reach: nothing is given away, nothing is left.
    instance.configure(&as_nobody);
    fs::set_permissions(instance.dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    instance.try_start(&[]).unwrap_err();
    assert!(instance.log().contains("user nobody cannot reach"), "{}", instance.log());
    assert!(!instance.pins().exists() && !instance.dir.path().join(&instance.name).exists());

    fs::set_permissions(instance.dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    instance.start();
    let status = fs::read_to_string(format!("/proc/{}/status", instance.pid())).unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    assert!(!uid.split_whitespace().any(|uid| uid == "0"), "{uid}");
    assert_eq!(instance.replace("echo").function.version, 2);
    instance.done(AdminRequest::AppCreate { app: name("other"), id: None, integrity: true });
    instance.done(AdminRequest::RegionCreate { app: name("other"), region: name("more"), bytes: 2 << 20, verbs: None });
    instance.done(AdminRequest::Attach { interface: "lo".into(), hook: Hook::Tc });
    instance.done(AdminRequest::Detach { interface: "lo".into() });
    // Pins are told where they are for everybody.
    let AdminReply::Inspection(inspection) = instance.done(AdminRequest::Inspect) else { panic!("no inspection") };
    let pins = inspection.programs.iter().filter_map(|program| program.pin.as_ref());
    assert!(pins.chain(inspection.maps.iter().filter_map(|map| map.pin.as_ref())).all(|pin| pin.exists()));
    assert!(inspection.maps.iter().all(|map| map.bpftool.contains(instance.pins().to_str().unwrap())));
    let again = AdminRequest::RegionCreate { app: name("other"), region: name("more"), bytes: 2 << 20, verbs: None };
    assert!(!instance.refused(again).contains("/proc/self"));

    // Its successor starts as root and takes over what now belongs to the user; so does one that stays root.
    for (user, configuration) in [("nobody", as_nobody), ("root", instance.kv_app())] {
        instance.kill();
        instance.configure(&configuration);
        instance.start();
        assert_eq!(instance.handlers()[0].function.version, 2, "{user}");
        assert!(instance.status().adopted, "{user}");
        let is_roots = |path: &std::path::Path| fs::metadata(path).unwrap().uid() == 0;
        assert_eq!(
            (is_roots(&instance.pins().join("maps")), is_roots(&instance.state())),
            (user == "root", user == "root")
        );
    }
    assert!(instance.terminate().success());
    instance.try_start(&["--detach-on-exit"]).unwrap();
    assert!(instance.terminate().success(), "{}", instance.log());
    assert!(!instance.pins().exists());
}
