//! Which settings outside of entities differ: they are read when the daemon
//! starts, and a reload can only tell that they wait for that.

use super::{
    AlarmSettings, ControlSettings, DaemonSettings, Settings, starlingx::StarlingxSettings,
};

/// Names of the settings that are not in force before the daemon restarts.
#[must_use]
pub fn waiting_for_restart(running: &Settings, read: &Settings) -> Vec<&'static str> {
    let mut names = Vec::new();
    let mut compare = |name, same: bool| {
        if !same {
            names.push(name);
        }
    };
    // What entities are made from is in force with them.
    let Settings {
        daemon,
        control,
        defaults: _,
        alarm,
        pmon_d: _,
        starlingx,
        overrides: _,
        groups: _,
    } = running;
    let DaemonSettings {
        run_dir,
        state_dir,
        pin_dir,
        socket_group,
        audit_interval,
        settle,
        auto_reload,
        reload_settle,
        source,
        canary_interval,
        receiver_priority,
        max_pids,
        ring_bytes,
        pidfd_budget,
        active_reply_port,
        initialised_file,
        // In force at once.
        recovery_budget: _,
    } = daemon;
    let new = &read.daemon;
    compare("daemon.run_dir", *run_dir == new.run_dir);
    compare("daemon.state_dir", *state_dir == new.state_dir);
    compare("daemon.pin_dir", *pin_dir == new.pin_dir);
    compare("daemon.socket_group", *socket_group == new.socket_group);
    compare(
        "daemon.audit_interval",
        *audit_interval == new.audit_interval,
    );
    compare("daemon.settle", *settle == new.settle);
    compare("daemon.auto_reload", *auto_reload == new.auto_reload);
    compare("daemon.reload_settle", *reload_settle == new.reload_settle);
    compare("daemon.source", *source == new.source);
    compare(
        "daemon.canary_interval",
        *canary_interval == new.canary_interval,
    );
    compare(
        "daemon.receiver_priority",
        *receiver_priority == new.receiver_priority,
    );
    compare("daemon.max_pids", *max_pids == new.max_pids);
    compare("daemon.ring_bytes", *ring_bytes == new.ring_bytes);
    compare("daemon.pidfd_budget", *pidfd_budget == new.pidfd_budget);
    compare(
        "daemon.active_reply_port",
        *active_reply_port == new.active_reply_port,
    );
    compare(
        "daemon.initialised_file",
        *initialised_file == new.initialised_file,
    );
    let ControlSettings {
        read_gids,
        write_uids,
        write_gids,
    } = control;
    let new = &read.control;
    compare("control.read_gids", *read_gids == new.read_gids);
    compare("control.write_uids", *write_uids == new.write_uids);
    compare("control.write_gids", *write_gids == new.write_gids);
    let AlarmSettings {
        hook,
        hook_timeout,
        file,
    } = alarm;
    let new = &read.alarm;
    compare("alarm.hook", *hook == new.hook);
    compare("alarm.hook_timeout", *hook_timeout == new.hook_timeout);
    compare("alarm.file", *file == new.file);
    let StarlingxSettings {
        enabled,
        root,
        controller,
        command_inbox,
        command_port,
        stop_recovers_after,
    } = starlingx;
    let new = &read.starlingx;
    compare("compat.starlingx.enabled", *enabled == new.enabled);
    compare("compat.starlingx.root", *root == new.root);
    compare("compat.starlingx.controller", *controller == new.controller);
    compare(
        "compat.starlingx.command_inbox",
        *command_inbox == new.command_inbox,
    );
    compare(
        "compat.starlingx.command_port",
        *command_port == new.command_port,
    );
    compare(
        "compat.starlingx.stop_recovers_after",
        *stop_recovers_after == new.stop_recovers_after,
    );
    names
}
