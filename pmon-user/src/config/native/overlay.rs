//! Lays the settings of one file over those of the files before it.

use std::{ops::Range, path::Path, time::Duration};

use toml::Spanned;

use super::{
    Source,
    table::{AlarmTable, ControlTable, DaemonTable, DefaultsTable, StarlingxTable},
    value::{Argument, PathOrNone},
};
use crate::{
    compat::starlingx::root::Root,
    config::{
        finding::{Finding, Level},
        host::{Host, ScriptState},
        settings::Settings,
        storm::StormKeys,
    },
};

/// A program cannot do anything in less.
const SHORTEST_HOOK: Duration = Duration::from_millis(100);
/// Alarms of others wait for it.
const LONGEST_HOOK: Duration = Duration::from_secs(60);

/// Lays `[daemon]` over what earlier files said. Returns what is out of range.
pub(super) fn daemon(settings: &mut Settings, table: DaemonTable, source: &Source) -> Vec<Finding> {
    let DaemonTable {
        run_dir,
        state_dir,
        pin_dir,
        socket_group,
        audit_interval,
        settle,
        auto_reload,
        reload_settle,
        source: choice,
        canary_interval,
        receiver_priority,
        max_pids,
        ring_bytes,
        pidfd_budget,
        active_reply_port,
        initialised_file,
        recovery_budget,
    } = table;
    let daemon = &mut settings.daemon;
    let mut problems = Vec::new();
    let mut problem = |span, message: &str| {
        problems.push(source.finding(Level::Error, span, message));
    };
    set(&mut daemon.run_dir, run_dir.map(|path| path.0));
    set(&mut daemon.state_dir, state_dir.map(|path| path.0));
    set(&mut daemon.pin_dir, pin_dir.map(PathOrNone::path));
    set(&mut daemon.socket_group, socket_group.map(|name| name.0));
    set(&mut daemon.settle, settle.map(|settle| settle.0));
    set(&mut daemon.auto_reload, auto_reload);
    set(
        &mut daemon.reload_settle,
        reload_settle.map(|settle| settle.0),
    );
    set(&mut daemon.source, choice);
    if let Some(interval) = audit_interval {
        if interval.get_ref().0 < Duration::from_secs(1) {
            problem(interval.span(), "`audit_interval` must be at least 1s");
        } else {
            daemon.audit_interval = interval.get_ref().0;
        }
    }
    if let Some(interval) = canary_interval {
        if interval.get_ref().0 < Duration::from_secs(1) {
            problem(interval.span(), "`canary_interval` must be at least 1s");
        } else {
            daemon.canary_interval = interval.get_ref().0;
        }
    }
    // sched(7): SCHED_FIFO priorities are 1 to 99.
    if let Some(given) = in_range(
        receiver_priority,
        |value| value <= 99,
        |span| {
            problem(span, "`receiver_priority` must be 0 to 99");
        },
    ) {
        daemon.receiver_priority = given;
    }
    if let Some(given) = in_range(
        max_pids,
        |value| value >= 1,
        |span| {
            problem(span, "`max_pids` must be at least 1");
        },
    ) {
        daemon.max_pids = given;
    }
    // BPF_MAP_TYPE_RINGBUF wants a power of two of whole pages.
    let ring = |value: u32| value >= 4096 && value.is_power_of_two();
    if let Some(given) = in_range(ring_bytes, ring, |span| {
        problem(span, "`ring_bytes` must be a power of two, at least 4096");
    }) {
        daemon.ring_bytes = given;
    }
    if pidfd_budget.is_some() {
        daemon.pidfd_budget = pidfd_budget;
    }
    if let Some(port) = active_reply_port {
        daemon.active_reply_port = port.get();
    }
    if let Some(given) = recovery_budget {
        match given.get_ref().limits(daemon.recovery_budget) {
            Ok(limits) => daemon.recovery_budget = limits,
            Err(why) => problem(given.span(), &why),
        }
    }
    if let Some(path) = initialised_file {
        daemon.initialised_file = Some(path.0);
    }
    problems
}

/// Lays `[alarm]` over what earlier files said. Returns what is wrong with it.
pub(super) fn alarm(
    settings: &mut Settings,
    table: AlarmTable,
    source: &Source,
    host: &dyn Host,
) -> Vec<Finding> {
    let AlarmTable {
        hook,
        hook_timeout,
        file,
    } = table;
    let alarm = &mut settings.alarm;
    let mut problems = Vec::new();
    if let Some(hook) = hook {
        let span = hook.span();
        let argument = |argument: Argument| argument.0;
        alarm.hook = hook.into_inner().into_iter().map(argument).collect();
        if let Some(program) = alarm.hook.first() {
            let path = Path::new(program);
            let (level, what) = if !path.is_absolute() {
                (Level::Error, "is not an absolute path")
            } else {
                match host.script(path) {
                    ScriptState::Executable => (Level::Note, ""),
                    ScriptState::NotExecutable => (Level::Warning, "is not executable"),
                    ScriptState::Absent => (Level::Warning, "does not exist"),
                }
            };
            if level != Level::Note {
                problems.push(source.finding(level, span, format!("hook `{program}` {what}")));
            }
        }
    }
    if let Some(timeout) = hook_timeout {
        if (SHORTEST_HOOK..=LONGEST_HOOK).contains(&timeout.get_ref().0) {
            alarm.hook_timeout = timeout.get_ref().0;
        } else {
            let message = "`hook_timeout` must be 100ms to 60s";
            problems.push(source.finding(Level::Error, timeout.span(), message));
        }
    }
    if let Some(file) = file {
        alarm.file = file.path();
    }
    problems
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

/// The value, unless it fails `test`, which is reported.
fn in_range<T: Copy>(
    given: Option<Spanned<T>>,
    test: impl Fn(T) -> bool,
    report: impl FnOnce(Range<usize>),
) -> Option<T> {
    let given = given?;
    let value = *given.get_ref();
    if test(value) {
        return Some(value);
    }
    report(given.span());
    None
}

pub(super) fn control(settings: &mut Settings, table: ControlTable) {
    let ControlTable {
        read_gids,
        write_uids,
        write_gids,
    } = table;
    set(&mut settings.control.read_gids, read_gids);
    set(&mut settings.control.write_uids, write_uids);
    set(&mut settings.control.write_gids, write_gids);
}

pub(super) fn starlingx(settings: &mut Settings, table: &StarlingxTable) {
    let StarlingxTable {
        enabled,
        root,
        controller,
        command_inbox,
        command_port,
        stop_recovers_after,
    } = table;
    let starlingx = &mut settings.starlingx;
    set(&mut starlingx.enabled, *enabled);
    let root = root.as_ref().map(|path| Root::new(path.0.clone()));
    set(&mut starlingx.root, root);
    let controller = controller.as_ref().map(|name| name.0.clone());
    set(&mut starlingx.controller, controller);
    set(&mut starlingx.command_inbox, *command_inbox);
    set(&mut starlingx.command_port, *command_port);
    set(
        &mut starlingx.stop_recovers_after,
        stop_recovers_after.map(|given| given.0),
    );
}

pub(super) fn defaults(settings: &mut Settings, table: &DefaultsTable) {
    let DefaultsTable {
        stop,
        start_timeout,
        systemd,
        backoff,
        intensity,
        flapping,
        adoption_window,
    } = table;
    let defaults = &mut settings.defaults;
    let storm = StormKeys {
        backoff: backoff.map(|given| given.0),
        intensity: intensity.map(|given| given.0),
        flapping: flapping.map(|given| given.0),
    };
    defaults.storm = storm.over(defaults.storm);
    set(
        &mut defaults.stop,
        stop.map(|stop| stop.policy(Settings::default().defaults.stop)),
    );
    set(
        &mut defaults.start_timeout,
        start_timeout.map(|given| given.0),
    );
    set(&mut defaults.systemd, systemd.map(Into::into));
    set(
        &mut defaults.adoption_window,
        adoption_window.map(|given| given.0),
    );
}
