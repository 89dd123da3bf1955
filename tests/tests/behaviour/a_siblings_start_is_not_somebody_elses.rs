//! Two entities may have one init script. pmon's own run of it for one of them
//! is not taken for an operator's at the other, which would then wait for it.

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    script::{entity, executable, quoted},
    wait,
};

#[test]
fn while_the_sibling_is_being_started() {
    let place = Place::new();
    let script = place.path("shared-script");
    executable(&script, "#!/bin/sh\nwhile :; do sleep 0.1; done\n");
    let names = [place.name("one"), place.name("two")];
    let toml: String = names
        .iter()
        .map(|name| {
            let pidfile = place.path(&format!("{name}.pid"));
            entity(
                name,
                &[
                    ("script", quoted(&script).as_str()),
                    ("pidfile", quoted(&pidfile).as_str()),
                    ("start_timeout", "\"1h\""),
                ],
            )
        })
        .collect();
    place.configure(&toml);
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    for name in &names {
        let _starting = daemon.in_stage(name, "monitor_wait");
    }
    let [one, two] = &names;
    // Its look comes while the other's script is at work.
    daemon.ask(&["restart", two]);
    let spawned = || events.count(two, "spawned");
    wait::until("the second start", LONG, || (spawned() == 2).then_some(()));
    assert_eq!(events.count(two, "waiting"), 0);
    assert_eq!(events.count(one, "spawned"), 1);
}
