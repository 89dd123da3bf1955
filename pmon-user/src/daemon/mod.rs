//! `pmon daemon`: puts the parts together, and takes them apart in order.
//!
//! Threads: the engine (receiver, SCHED_FIFO where permitted), the lanes (likewise),
//! the audit, the state writers, and one tokio runtime for everything else. Start: lock the run
//! directory, load the kernel program, start the engine, open the control
//! socket, then monitor. End: the reverse; monitored processes are left alone.

mod alarms;
mod aliases;
mod auditing;
mod auto_reload;
mod backend;
pub mod canary;
mod commands;
pub mod engine;
pub mod entity;
mod executions;
mod following;
pub mod further_alarms;
mod gates;
mod handoff;
pub mod hands;
mod hearing;
mod holds;
mod incident_views;
mod inheritance;
mod instances;
mod kernel_side;
mod kernel_views;
mod lanes;
mod logging;
mod looks;
pub mod message;
pub mod options;
mod owed_alarms;
mod pid_one;
mod pulses;
mod receiver;
mod recording;
mod reload;
mod requests;
mod scripts;
pub mod selection;
mod sightings;
mod sockets;
mod starlingx;
mod starting;
mod status_views;
mod steps;
mod sweep;
mod telling;
mod turns;
mod unit_stops;
mod views;
mod work;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

use self::{
    backend::{Daemon, Helpers},
    hands::Hands,
    inheritance::{Memory, Past},
    lanes::Lanes,
    looks::Looks,
    message::{Inbox, Message},
    options::Options,
    selection::Starter,
    starlingx::StarlingX,
    telling::Telling,
    work::Workers,
};
use crate::{
    alarm::{self, AlarmSink, dispatch::Dispatch, event::AlarmEvent},
    audit::{self, AuditSettings},
    causes::in_full,
    config::{
        self, Loaded, Sources,
        settings::Settings,
        watch::ConfigWatch,
        watched::{Watched, load_watched},
    },
    control::{
        access::{AccessRules, group_id},
        backend::Backend as _,
        server::{ControlSocket, serve},
    },
    core::notice::Notice,
    effect::{self, Executor, Report},
    look,
    state::{Store, journal, lock::Lock, registrations},
    sys::spawn,
    systemd::{self, Units},
    view::incident::IncidentView,
};

/// Configuration could not be used (the outside contract's exit code for usage).
const EXIT_USAGE: u8 = 2;
/// How long jobs under way may take at the end.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// How long receivers may take to be told the last alarms at the end.
const LAST_ALARMS: Duration = Duration::from_secs(2);

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
///
/// Only at the start: when the run directory or the control socket cannot be
/// had. Once running it degrades and says so.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    // A signal that whoever started us has blocked would never arrive.
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .context("cannot unblock signals")?;
    if !options.check && pid_one::is_it() {
        return pid_one::run();
    }
    // While there is one thread.
    let aside = spawn::set_descriptors_aside();
    let log = logging::start();
    if let Err(error) = aside {
        tracing::warn!(%error, "sockets cannot be passed to programs");
    }
    let sources = options.sources.resolve();
    let host = config::LocalHost::detect();
    let (mut starlingx, findings) = if options.check {
        (StarlingX::default(), Vec::new())
    } else {
        StarlingX::start(config::starlingx(&sources, &host))
    };
    if let Some(syslog) = starlingx.syslog() {
        log.also_to(syslog);
    }
    let (mut loaded, watch) = first_load(options, &sources, &host);
    loaded.findings.extend(findings);
    options.apply_to(&mut loaded.settings);
    starlingx.overlay().apply_to(&mut loaded.settings);
    starlingx.subfunctions.learn(&loaded.entities);
    for finding in &loaded.findings {
        tracing::warn!("{finding}");
    }
    if loaded.refused() {
        for finding in loaded.errors() {
            eprintln!("pmon: {finding}");
        }
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    if options.check {
        return Ok(ExitCode::SUCCESS);
    }
    let settings = loaded.settings.clone();
    std::fs::create_dir_all(&settings.daemon.run_dir)
        .with_context(|| format!("cannot create `{}`", settings.daemon.run_dir.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("pmon-blocking")
        .max_blocking_threads(64)
        .build()
        .context("cannot start the runtime")?;
    let run_dir = &settings.daemon.run_dir;
    let lock = if options.handoff {
        runtime.block_on(handoff::take_over(run_dir))?
    } else {
        Lock::acquire(run_dir)?
    };
    if let Some(pid) = starlingx.original() {
        tracing::error!(pid, "pmond is running; two monitors would fight each other");
        return Ok(ExitCode::SUCCESS);
    }
    let result = runtime.block_on(serve_until_stopped(
        &settings,
        options,
        sources,
        loaded,
        watch,
        &mut starlingx,
    ));
    drop(starlingx);
    runtime.shutdown_timeout(SHUTDOWN);
    drop(lock);
    drop(log);
    result
}

/// The configuration; who goes on running has what it was read from watched.
fn first_load(
    options: &Options,
    sources: &Sources,
    host: &config::LocalHost,
) -> (Loaded, Result<ConfigWatch, String>) {
    if options.check {
        return (config::load(sources, host), Err("nobody asks".to_owned()));
    }
    let Watched { loaded, watch } = load_watched(sources, host);
    (loaded, watch)
}

/// What comes after this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing, as far as we know: nothing is left in the kernel.
    ForGood,
    /// Another daemon, which goes on where this one ends.
    HandedOver,
}

async fn serve_until_stopped(
    settings: &Settings,
    options: &Options,
    sources: Sources,
    loaded: Loaded,
    config_watch: Result<ConfigWatch, String>,
    starlingx: &mut StarlingX,
) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut write_info = signal(SignalKind::user_defined1())?;
    let mut dump = signal(SignalKind::user_defined2())?;

    let state_dir = &settings.daemon.state_dir;
    let mut degraded = Vec::new();
    let run_dir = &settings.daemon.run_dir;
    let remembered = registrations::load_newest(run_dir, state_dir);
    degraded.extend(remembered.problem.clone());
    let journalled = journal::load_recent(state_dir, usize::MAX, |incident: &IncidentView| {
        incident.incident
    });
    degraded.extend(journalled.problem);
    let newest = journalled.incidents.last().map_or(0, |last| last.incident);
    let (past, history) = Past::of(journalled.incidents, backend::HISTORY);
    let mut registrations = remembered.registrations;
    registrations.next_incident = registrations.next_incident.max(newest + 1);
    let told_earlier = owed_alarms::told_earlier(&receiver::host_name(), &registrations);
    let store = Store::start(state_dir, registrations.clone())?;
    // Detection comes first, then recovery.
    let priority = settings.daemon.receiver_priority.saturating_sub(1);
    let volatile = Store::start_volatile(run_dir, registrations.clone(), priority)?;

    let socket_path = run_dir.join("pmon.sock");
    let access = access_rules(settings);
    let socket = ControlSocket::bind(&socket_path, &access)?;

    let (hands, handed_out) = Hands::new();
    // The workers end with the engine, whoever else could give them work.
    let starter = Starter::new(settings.daemon.clone());
    let (watch, host) = starlingx.first_look().unzip();
    let engine = receiver::start(
        settings,
        &starter,
        &socket_path,
        loaded,
        Memory {
            registrations,
            past,
            host,
        },
        degraded,
        hands,
    )?;
    let inbox = engine.inbox.clone();
    starlingx.engine_is_up(&inbox, engine.health.clone());
    let units = units(&inbox);
    let lanes = Lanes::start(priority)?;
    let questions = run_dir.join("questions");
    end_questions(&questions).await;
    let executor = Arc::new(executor(
        &lanes,
        state_dir,
        questions,
        &inbox,
        units.clone(),
    ));
    let telling = Arc::new(Telling::default());
    let history = Arc::new(Mutex::new(history));
    let audit = start_audit(settings, &inbox);
    let mut sinks = alarm::sinks(&settings.alarm);
    sinks.extend(starlingx.sink());
    let alarms = start_alarms(sinks, &told_earlier, &inbox)?;
    let helpers = Helpers {
        alarms: alarms.clone(),
        health: engine.health.clone(),
        audit: audit.as_ref().map(audit::AuditHandle::status),
        store: store.status(),
        starlingx: starlingx.troubles.clone(),
        subfunctions: starlingx.subfunctions.clone(),
        overlay: starlingx.overlay(),
    };
    let workers = Arc::new(Workers {
        executor: Arc::clone(&executor),
        pulses: pulses::start(&settings.daemon, &inbox),
        audit,
        starter,
        store,
        volatile,
        telling: Arc::clone(&telling),
        history: Arc::clone(&history),
        gates: watch.and_then(|watch| starlingx.watch_gates(watch, units.as_ref(), &inbox)),
        alarms: alarms.clone(),
        looks: Looks::new(inbox.clone(), lanes.runtime().clone()),
        sweeps: Looks::new(inbox.clone(), tokio::runtime::Handle::current()),
        units: units.clone(),
        inbox: inbox.clone(),
    });
    let prompt = (lanes.runtime()).spawn(Arc::clone(&workers).run(handed_out.prompt));
    let patient = tokio::spawn(Arc::clone(&workers).run(handed_out.patient));
    let handed_over = Arc::new(Notify::new());
    let daemon = Arc::new(Daemon {
        inbox: inbox.clone(),
        telling,
        history,
        running: settings.clone(),
        options: options.clone(),
        pmon_d: Mutex::new(sources.pmon_d(settings).map(Path::to_path_buf)),
        reloading: tokio::sync::Mutex::new(()),
        sources,
        helpers,
        handed_over: Arc::clone(&handed_over),
        kernel_log: kernel_side::KernelLog::default(),
    });
    let restart = Arc::new(Notify::new());
    if let Some(why) = commands::start(&settings.starlingx, &inbox, &restart).await {
        tracing::error!("{why}");
        inbox.send(Message::Degraded(why));
    }
    let (stop_serving, stopped) = tokio::sync::oneshot::channel::<()>();
    let service = tokio::spawn(serve(socket, access, Arc::clone(&daemon), async {
        // Also when the sender is dropped: then the daemon ends as well.
        let _ended = stopped.await;
    }));
    if settings.daemon.auto_reload {
        let (daemon, inbox) = (Arc::clone(&daemon), inbox.clone());
        tokio::spawn(async move {
            let why = match config_watch {
                Ok(watch) => auto_reload::run(daemon, watch).await,
                Err(why) => why,
            };
            let why = format!("changed configuration files are not noticed: {why}");
            tracing::error!("{why}");
            inbox.send(Message::Degraded(why));
        });
    }
    tell_init(&[
        sd_notify::NotifyState::MainPid(std::process::id()),
        sd_notify::NotifyState::Ready,
    ]);
    tracing::info!(socket = %socket_path.display(), "pmon is up");
    starlingx.write_info(&daemon).await;

    let end = loop {
        tokio::select! {
            _ = terminate.recv() => break End::ForGood,
            _ = interrupt.recv() => break End::ForGood,
            () = handed_over.notified() => break End::HandedOver,
            _ = write_info.recv() => starlingx.write_info(&daemon).await,
            _ = dump.recv() => {
                for line in starlingx::in_words(&daemon).await.lines() {
                    tracing::info!("{line}");
                }
            }
            () = restart.notified() => break End::HandedOver,
            _ = hangup.recv() => {
                if let Err(refusal) = daemon.reload(false, "SIGHUP".to_owned()).await {
                    tracing::warn!(%refusal, "reload");
                }
            }
        }
    };

    if end == End::ForGood {
        tell_init(&[sd_notify::NotifyState::Stopping]);
    }
    tracing::info!("pmon ends; monitored processes are left alone");
    starlingx.stop();
    drop(stop_serving);
    service.await.context("the control service failed")?;
    inbox.send(Message::Stop);
    receiver::end(engine, end).await;
    executor.shutdown(SHUTDOWN).await;
    if let (End::ForGood, Some(units)) = (end, &units) {
        units.give_back().await;
    }
    prompt.await.context("the workers failed")?;
    patient.await.context("the workers failed")?;
    lanes.end().await;
    // What is not told now is on record.
    let told = tokio::task::spawn_blocking(move || alarms.close(LAST_ALARMS)).await;
    told.context("telling the last alarms failed")?;
    save_all(&workers.store, &workers.volatile, run_dir).await;
    Ok(ExitCode::SUCCESS)
}

/// Once everything is in the state directory, the copy in the run directory is
/// of no use; otherwise it is what the next daemon finds.
async fn save_all(store: &Store, volatile: &Store, run_dir: &Path) {
    let saved = tokio::time::timeout(SHUTDOWN, store.flush()).await;
    let settled = tokio::time::timeout(SHUTDOWN, volatile.flush()).await;
    match saved {
        Ok(Ok(())) if settled.is_ok() => registrations::remove(run_dir),
        Ok(Ok(())) => {}
        Ok(Err(problem)) => tracing::warn!(problem, "not everything was saved"),
        Err(_) => tracing::warn!("not everything was saved within {SHUTDOWN:?}"),
    }
}

fn tell_init(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "sd_notify");
    }
}

/// The way to systemd, where it runs the host.
fn units(inbox: &Inbox) -> Option<Units> {
    use crate::{audit::Due, config::host::Host as _};
    if !config::LocalHost::detect().systemd() {
        return None;
    }
    let inbox = inbox.clone();
    let teller = move |told| {
        inbox.send(match told {
            systemd::Told::Changed(entity) => Message::Audit(Due::Changed(entity)),
            systemd::Told::Facts(facts) => Message::Units(facts),
        });
    };
    let runtime = tokio::runtime::Handle::current();
    let settings = systemd::Settings {
        bus: "/run/dbus/system_bus_socket".into(),
        systemctl: effect::tool("systemctl"),
    };
    Some(Units::start(&runtime, settings, Box::new(teller)))
}

/// Ends what a killed daemon has asked and would not hear any more.
async fn end_questions(directory: &Path) {
    /// A script in state D is not waited for.
    const PATIENCE: Duration = Duration::from_secs(5);
    let directory = directory.to_owned();
    let ending = tokio::task::spawn_blocking(move || effect::end_orphans(&directory));
    match tokio::time::timeout(PATIENCE, ending).await {
        Ok(Ok(ended)) => {
            for process in ended {
                tracing::info!(%process, "a status script of an earlier daemon was ended");
            }
        }
        Ok(Err(_)) | Err(_) => {
            tracing::warn!("status scripts of an earlier daemon may be at work still");
        }
    }
}

fn executor(
    lanes: &Lanes,
    state_dir: &Path,
    questions: PathBuf,
    inbox: &Inbox,
    units: Option<Units>,
) -> Executor {
    let (inbox, launches) = (inbox.clone(), inbox.clone());
    Executor::recording(
        lanes.runtime().clone(),
        effect::Settings {
            units,
            question_directory: Some(questions),
            ..effect::Settings::detect(state_dir)
        },
        Arc::new(move |entity, report| {
            inbox.send(match report {
                Report::StartEnded { run, end, process } => Message::StartEnded {
                    entity,
                    run,
                    end,
                    last_seen: process
                        .as_ref()
                        .map(|process| look::last_seen::of(process.identity()))
                        .unwrap_or_default(),
                    process,
                },
                Report::ScriptEnded {
                    run,
                    end,
                    failure_text,
                } => Message::ScriptEnded {
                    entity,
                    run,
                    end,
                    failure_text,
                },
                Report::Reaped { process, status } => Message::Reaped {
                    entity,
                    process,
                    status,
                },
                Report::Leftovers { dead, left, gone } => {
                    let notice = Notice::Leftovers { dead, left, gone };
                    Message::Executed { entity, notice }
                }
                Report::Failed { what } => Message::Trouble { entity, what },
            });
        }),
        Box::new(move |entity, process, role, passage| {
            // Nobody records any more when the daemon ends.
            launches.send(Message::Launching {
                entity,
                process,
                role,
                passage,
            });
        }),
    )
}

fn start_audit(settings: &Settings, inbox: &Inbox) -> Option<audit::AuditHandle> {
    let inbox = inbox.clone();
    let settings = AuditSettings {
        settle: settings.daemon.settle,
        sweep: settings.daemon.audit_interval,
    };
    match audit::start(settings, move |due| inbox.send(Message::Audit(due))) {
        Ok(audit) => Some(audit),
        Err(error) => {
            tracing::error!(error = in_full(&error), "there is no audit");
            None
        }
    }
}

/// Receivers of alarms, each on its thread.
fn start_alarms(
    sinks: Vec<Box<dyn AlarmSink>>,
    told: &[AlarmEvent],
    inbox: &Inbox,
) -> anyhow::Result<Dispatch> {
    let inbox = inbox.clone();
    Dispatch::start(sinks, told, move |closed| {
        inbox.send(Message::AlarmSettled(closed));
    })
    .context("cannot start the receivers of alarms")
}

fn access_rules(settings: &Settings) -> AccessRules {
    let daemon = &settings.daemon;
    let control = &settings.control;
    let group = &daemon.socket_group;
    AccessRules {
        own_uid: rustix::process::geteuid().as_raw(),
        socket_gid: group
            .parse()
            .ok()
            .or_else(|| group_id(Path::new("/etc/group"), group)),
        read_uids: BTreeSet::new(),
        read_gids: control.read_gids.iter().copied().collect(),
        write_uids: control.write_uids.iter().copied().collect(),
        write_gids: control.write_gids.iter().copied().collect(),
    }
}
