//! A status script that is asked when the daemon ends does not go on without a
//! deadline: a daemon that ends in order ends it, and what a killed one leaves the
//! next one ends, with the script's whole process group.

use std::fs;

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    process::Process,
    script, wait,
};

#[test]
fn in_order_or_killed() {
    for killed in [false, true] {
        let place = Place::new();
        let name = place.name("asked");
        let path = place.path("asked.script");
        // It hangs once, with a child of its own; asked again, it is content.
        let text = "#!/bin/sh\n[ -e DIR/pids ] && exit 0\n\
                    sleep 1000 &\n\
                    echo $$ $! >DIR/pids.new\nmv DIR/pids.new DIR/pids\nwait\n";
        let directory = place.path("");
        let directory = directory.to_str().unwrap().trim_end_matches('/');
        script::executable(&path, &text.replace("DIR", directory));
        let table = format!(
            "{{ script = {}, period = \"100ms\", timeout = \"1h\" }}",
            script::quoted(&path)
        );
        place.configure(&script::entity(
            &name,
            &[("mode", "\"status\""), ("status", &table)],
        ));
        let daemon = Daemon::start(&place);
        let pids = wait::until("it hangs", LONG, || {
            fs::read_to_string(place.path("pids")).ok()
        });
        let at_work: Vec<Process> = pids
            .split_whitespace()
            .map(|pid| Process::open(pid.parse().unwrap()).unwrap())
            .collect();
        let on_record = || {
            let records = fs::read_dir(place.path("run").join("questions"));
            records.map_or(0, Iterator::count)
        };
        wait::until("it is on record", LONG, || (on_record() == 1).then_some(()));
        let next = if killed {
            daemon.kill();
            assert!(
                at_work
                    .iter()
                    .all(|one| !one.ends_within(std::time::Duration::ZERO))
            );
            Some(Daemon::start(&place))
        } else {
            assert!(daemon.terminate().success());
            None
        };
        for one in &at_work {
            assert!(one.ends_within(LONG), "killed: {killed}");
        }
        if let Some(daemon) = next {
            daemon.entity_when(&name, "it is up", LONG, |entity| entity["state"] == "up");
        }
    }
}
