//! One `[[entity]]` table to one entity.
//!
//! What a single value can get wrong is refused while it is read; here is what
//! keys get wrong together. An error refuses the configuration.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use toml::Spanned;

use super::{
    Source, socket,
    table::{ActiveTable, EntityTable, ModeText, SeverityText, StartText, StatusTable},
    value::{Argument, DurationText, EntityName},
};
use crate::{
    config::{
        finding::{Finding, Level},
        host::{Host, ScriptState},
        pmond::{DEFAULT_RESTARTS, DEFAULT_SEVERITY, MAX_ACTIVE_PERIOD_S},
        resolve::{self, About, Offer},
        settings::Settings,
        storm::StormKeys,
    },
    core::{
        dependency::Dependencies,
        entity::{ActiveSpec, CommandSpec, EntitySpec, Mode, Origin, StartMethod, StatusSpec},
        storm::StormPolicy,
    },
    pulse::wire,
};

/// `interval` unless given.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// `debounce` unless given.
const DEFAULT_DEBOUNCE: Duration = Duration::from_secs(20);
/// `startuptime` unless given: the original's 1 s proved too short in the field.
const DEFAULT_STARTUPTIME: Duration = Duration::from_secs(5);

/// The entity, and remarks about it; or what is wrong with it.
pub(super) fn build(
    source: &Source,
    table: &EntityTable,
    settings: &Settings,
    host: &dyn Host,
) -> Result<(EntitySpec, Vec<Finding>), Finding> {
    let mode = table.mode.unwrap_or(ModeText::Passive).into();
    let active = active(source, table, mode)?;
    let status = status(source, table, mode)?;
    let command = command(source, table)?;
    let name = table.name.get_ref().0.clone();
    let mut findings = unknown_accounts(source, table, host);
    if mode != Mode::Status {
        identifiable(source, table, mode)?;
    }
    let start = if let Some(status) = &status {
        start_of_status(source, table, status, host, &mut findings)
    } else {
        let offer = Offer {
            name: &name,
            service: table.service.as_ref().map(|text| &*text.get_ref().0),
            script: table.script.as_ref().map(|path| path.get_ref().0.as_path()),
            command,
            by_name: false,
        };
        let (start, problems) = resolve::start_method(&offer, host);
        for problem in problems {
            let span = match problem.about {
                About::Service => table.service.as_ref().map(Spanned::span),
                About::Script => table.script.as_ref().map(Spanned::span),
                About::Command => table.command.as_ref().map(Spanned::span),
                About::Entity => None,
            };
            let span = span.unwrap_or(table.name.span());
            // Watching without restarting may be meant, in TOML.
            let level = if mode == Mode::Ignore {
                Level::Note
            } else if problem.about == About::Entity {
                problem.level.max(Level::Warning)
            } else {
                problem.level
            };
            findings.push(
                source
                    .finding(level, span, problem.message)
                    .maybe_hint(problem.hint),
            );
        }
        start
    };
    findings.extend(needs_own_start(source, table, &start));
    let follow = follow(source, table)?;
    let interval = duration(table.interval, DEFAULT_INTERVAL);
    let startuptime = duration(table.startuptime, DEFAULT_STARTUPTIME);
    let entity = EntitySpec {
        mode,
        severity: table.severity.map_or(DEFAULT_SEVERITY, SeverityText::into),
        restarts: table.restarts.unwrap_or(DEFAULT_RESTARTS),
        interval,
        debounce: duration(table.debounce, DEFAULT_DEBOUNCE),
        startuptime,
        start_timeout: duration(table.start_timeout, settings.defaults.start_timeout)
            .max(startuptime),
        adoption_window: duration(table.adoption_window, settings.defaults.adoption_window),
        pidfile: table.pidfile.as_ref().map(|path| path.0.clone()),
        start,
        stop: table.stop.map_or(settings.defaults.stop, |stop| {
            stop.policy(settings.defaults.stop)
        }),
        follow,
        quorum: table.quorum.unwrap_or(false),
        subfunction: table.subfunction.as_ref().map(|text| text.0.clone()),
        active,
        status,
        dependencies: Dependencies {
            after: names(table.after.as_ref()),
            requires: names(table.requires.as_ref()),
            group: None,
        },
        storm: storm(table)
            .over(settings.defaults.storm)
            .policy(StormPolicy::native(interval), interval),
        origin: source.origin(table.name.span()),
        name,
    };
    Ok((entity, findings))
}

/// Names as plain texts.
fn names(given: Option<&Vec<EntityName>>) -> Vec<String> {
    given
        .into_iter()
        .flatten()
        .map(|name| name.0.clone())
        .collect()
}

fn storm(table: &EntityTable) -> StormKeys {
    StormKeys {
        backoff: table.backoff.map(|given| given.0),
        intensity: table.intensity.map(|given| given.0),
        flapping: table.flapping.map(|given| given.0),
    }
}

fn duration(given: Option<DurationText>, default: Duration) -> Duration {
    given.map_or(default, |given| given.0)
}

/// Something must tell which process is meant.
fn identifiable(source: &Source, table: &EntityTable, mode: Mode) -> Result<(), Finding> {
    if table.pidfile.is_some() || mode == Mode::Ignore {
        return Ok(());
    }
    let why = if table.daemonizes == Some(true) {
        "a command that daemonizes"
    } else if table.service.is_some() {
        "an entity with `service`"
    } else if table.script.is_some() {
        "an entity with `script`"
    } else if table.command.is_none() {
        "an entity without `command`"
    } else {
        return Ok(());
    };
    let message =
        format!("`pidfile` is missing: nothing else tells which process is meant by {why}");
    let hint = if table.daemonizes == Some(true) {
        "add `pidfile = \"/run/NAME.pid\"`; if it writes none, `follow = true` instead of `daemonizes`"
    } else {
        "add `pidfile = \"/run/NAME.pid\"`"
    };
    Err(source
        .finding(Level::Error, table.name.span(), message)
        .hint(hint))
}

/// A pidfile tells already which process is meant; two answers could disagree.
fn follow(source: &Source, table: &EntityTable) -> Result<bool, Finding> {
    let Some(given) = &table.follow else {
        return Ok(false);
    };
    if *given.get_ref() && table.pidfile.is_some() {
        let message = "`follow` and `pidfile` exclude each other";
        return Err(source
            .finding(Level::Error, given.span(), message)
            .hint("with a pidfile, a changed pid is followed anyway"));
    }
    Ok(*given.get_ref())
}

fn command(source: &Source, table: &EntityTable) -> Result<Option<CommandSpec>, Finding> {
    let EntityTable {
        environment,
        directory,
        user,
        group,
        daemonizes,
        log,
        start,
        socket,
        ..
    } = table;
    let early = early(source, table)?;
    let Some(command) = &table.command else {
        let stray = [
            ("environment", environment.is_some()),
            ("directory", directory.is_some()),
            ("user", user.is_some()),
            ("group", group.is_some()),
            ("daemonizes", daemonizes.is_some()),
            ("log", log.is_some()),
            ("start", start.is_some()),
            ("socket", socket.is_some()),
        ];
        return match stray.into_iter().find(|(_, given)| *given) {
            None => Ok(None),
            Some((key, _)) => Err(source
                .finding(
                    Level::Error,
                    table.name.span(),
                    format!("`{key}` has no effect without `command`"),
                )
                .hint("units and init scripts bring their own")),
        };
    };
    let argv: Vec<String> = command
        .get_ref()
        .iter()
        .map(|text| text.0.clone())
        .collect();
    if !argv.first().is_some_and(|program| program.starts_with('/')) {
        return Err(source
            .finding(
                Level::Error,
                command.span(),
                "`command` must begin with the absolute path of a program",
            )
            .hint("expected for instance [\"/usr/bin/program\", \"argument\"]"));
    }
    let account = |given: &Option<Spanned<Argument>>| {
        given.as_ref().map(|account| account.get_ref().0.clone())
    };
    Ok(Some(CommandSpec {
        argv,
        environment: environment
            .iter()
            .flatten()
            .map(|(name, value)| (name.0.clone(), value.0.clone()))
            .collect(),
        directory: directory
            .as_ref()
            .map_or_else(|| PathBuf::from("/"), |path| path.0.clone()),
        user: account(user),
        group: account(group),
        daemonizes: daemonizes.unwrap_or(false),
        log: log.as_ref().map(|path| path.0.clone()),
        early,
        sockets: socket::sockets(source, table)?,
    }))
}

/// Beside the old process, a successor can only be started where pmon itself
/// executes it and knows it from the first moment.
fn early(source: &Source, table: &EntityTable) -> Result<bool, Finding> {
    let Some(start) = &table.start else {
        return Ok(false);
    };
    match start.get_ref() {
        StartText::Released => return Ok(false),
        StartText::Early => {}
    }
    let refused = |with: &str| {
        let message = format!("`start = \"early\"` is not possible with {with}");
        source
            .finding(Level::Error, start.span(), message)
            .hint("it needs a `command` that stays in the foreground")
    };
    if table.daemonizes == Some(true) {
        return Err(refused("`daemonizes`"));
    }
    if table
        .follow
        .as_ref()
        .is_some_and(|follow| *follow.get_ref())
    {
        return Err(refused("`follow`"));
    }
    Ok(true)
}

/// What only `command` can do, while something else comes before it on this host.
fn needs_own_start(source: &Source, table: &EntityTable, start: &StartMethod) -> Vec<Finding> {
    match start {
        StartMethod::Command(_) | StartMethod::None { .. } => return Vec::new(),
        StartMethod::Unit { .. } | StartMethod::Script { .. } => {}
    }
    let early = table.start.as_ref().map(|start| ("start", start.span()));
    let socket = table.socket.iter().flatten().next();
    let socket = socket.map(|socket| ("socket", socket.listen.span()));
    let warn = |(key, span)| {
        let message = format!("`{key}` has no effect on this host, where `command` is not used");
        source
            .finding(Level::Warning, span, message)
            .hint(format!("the start method here: {}", start.describe()))
    };
    [early, socket].into_iter().flatten().map(warn).collect()
}

/// Accounts may come from a name service that is not up yet: said, not refused.
fn unknown_accounts(source: &Source, table: &EntityTable, host: &dyn Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut check = |kind: &str,
                     account: &Option<Spanned<Argument>>,
                     exists: &dyn Fn(&str) -> bool| {
        if let Some(account) = account
            && !exists(&account.get_ref().0)
        {
            let name = &account.get_ref().0;
            let message =
                format!("{kind} `{name}` does not exist on this host; `command` cannot be started");
            findings.push(source.finding(Level::Error, account.span(), message));
        }
    };
    check("user", &table.user, &|name| host.user_exists(name));
    check("group", &table.group, &|name| host.group_exists(name));
    findings
}

/// The table of a mode is there exactly with that mode.
fn belongs<'a, T>(
    source: &Source,
    table: &EntityTable,
    key: &str,
    given: Option<&'a Spanned<T>>,
    wanted: bool,
) -> Result<Option<&'a T>, Finding> {
    match (given, wanted) {
        (Some(given), true) => Ok(Some(given.get_ref())),
        (None, false) => Ok(None),
        (Some(given), false) => Err(source
            .finding(
                Level::Error,
                given.span(),
                format!("`{key}` has no effect in another mode"),
            )
            .hint(format!("add `mode = \"{key}\"`"))),
        (None, true) => Err(source.finding(
            Level::Error,
            table.name.span(),
            format!("`mode = \"{key}\"` needs a table `{key}`"),
        )),
    }
}

fn active(source: &Source, table: &EntityTable, mode: Mode) -> Result<Option<ActiveSpec>, Finding> {
    let wanted = mode == Mode::Active;
    let Some(given) = belongs(source, table, "active", table.active.as_ref(), wanted)? else {
        return Ok(None);
    };
    let ActiveTable {
        port,
        period,
        timeout,
        threshold,
        full_init_required,
    } = given;
    if let Some(why) = wire::unusable_name(&table.name.get_ref().0) {
        let message = format!("`mode = \"active\"` is not possible: {why}");
        return Err(source.finding(Level::Error, table.name.span(), message));
    }
    let longest = Duration::from_secs(MAX_ACTIVE_PERIOD_S.into());
    let second = Duration::from_secs(1);
    if !(second..=longest).contains(&period.get_ref().0) {
        return Err(source.finding(Level::Error, period.span(), "`period` must be 1s to 120s"));
    }
    if timeout.get_ref().0.is_zero() || timeout.get_ref().0 > period.get_ref().0 {
        let message = "`timeout` must be more than 0s and at most `period`";
        return Err(source.finding(Level::Error, timeout.span(), message));
    }
    Ok(Some(ActiveSpec {
        port: port.get(),
        period: period.get_ref().0,
        timeout: timeout.get_ref().0,
        threshold: threshold.get(),
        full_init_required: *full_init_required,
    }))
}

fn status(source: &Source, table: &EntityTable, mode: Mode) -> Result<Option<StatusSpec>, Finding> {
    let wanted = mode == Mode::Status;
    let Some(given) = belongs(source, table, "status", table.status.as_ref(), wanted)? else {
        return Ok(None);
    };
    let StatusTable {
        script,
        start_arg,
        status_arg,
        period,
        timeout,
        failure_text,
    } = given;
    for (key, value) in [("period", period), ("timeout", timeout)] {
        if value.get_ref().0.is_zero() {
            let message = format!("`{key}` must be more than 0s");
            return Err(source.finding(Level::Error, value.span(), message));
        }
    }
    let argument = |given: &Option<Argument>, default: &str| {
        given
            .as_ref()
            .map_or_else(|| default.to_owned(), |text| text.0.clone())
    };
    Ok(Some(StatusSpec {
        script: script.0.clone(),
        start_arg: argument(start_arg, "start"),
        status_arg: argument(status_arg, "status"),
        period: period.get_ref().0,
        timeout: timeout.get_ref().0,
        failure_text: failure_text.as_ref().map(|path| path.0.clone()),
    }))
}

fn start_of_status(
    source: &Source,
    table: &EntityTable,
    status: &StatusSpec,
    host: &dyn Host,
    findings: &mut Vec<Finding>,
) -> StartMethod {
    let path: &Path = &status.script;
    let trouble = match host.script(path) {
        ScriptState::Executable => {
            return StartMethod::Script {
                path: path.to_path_buf(),
            };
        }
        ScriptState::NotExecutable => "is not executable",
        ScriptState::Absent => "does not exist",
    };
    let reason = format!("script `{}` {trouble}", path.display());
    findings.push(source.finding(Level::Error, table.name.span(), reason.clone()));
    StartMethod::None { reason }
}

/// Where an entity that was refused stands.
pub(super) fn origin(source: &Source, table: &EntityTable) -> Origin {
    source.origin(table.name.span())
}
