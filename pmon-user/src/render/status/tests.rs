//! What `pmon status` looks like, to the letter.

use std::collections::BTreeMap;

use super::*;
use crate::{
    core::entity::Severity,
    view::samples::{self, before, noon},
};

fn look(width: Option<usize>) -> Look {
    Look {
        colour: false,
        width,
        now: noon(),
    }
}

fn troubled() -> StatusView {
    let mut web = samples::entity("web", StateWord::Up);
    web.last_death = Some(samples::death());
    web.deaths_1h = 1;
    web.deaths_24h = 2;
    web.since = Some(before(179));
    let mut db = samples::entity("db", StateWord::Failed);
    db.alarm = Some(Severity::Critical);
    db.problem = Some("3 recoveries failed: exit 1".to_owned());
    db.next_action = Some("nothing until `pmon restart db`".to_owned());
    let mut mail = samples::entity("mail", StateWord::Recovering);
    mail.since = Some(noon());
    mail.problem = Some("died".to_owned());
    mail.next_action = Some("attempt 2 of 3".to_owned());
    mail.next_action_at = Some(noon() + jiff::SignedDuration::from_millis(3_200));
    let log = samples::entity("log", StateWord::Down);
    let mut view = samples::status(vec![web, log, mail, db]);
    view.sources[2].state = SourceState::Degraded;
    view.sources[2].reason = Some("EMFILE; raise LimitNOFILE".to_owned());
    view.sources[0].lost = 3;
    view.audit.discrepancies = BTreeMap::from([("pid_changed".to_owned(), 2)]);
    view.degraded = vec!["no SCHED_FIFO: grant CAP_SYS_NICE".to_owned()];
    view.config_findings = vec!["/etc/pmon.d/x.conf:3:1: error: unknown mode `pasive`".to_owned()];
    view
}

#[test]
fn all_is_well() {
    let view = samples::status(vec![samples::entity("web", StateWord::Up)]);
    assert_eq!(
        status(&view, &look(None)),
        "\
pmon 0.1.0 on host-1 · up 3h12m · pid 812 · configuration 4 · receiver fifo:50
sources: ebpf healthy (canary 12s ago) · proc-connector stands by · pidfd healthy (canary 12s ago)
audit: 384 sweeps, last 12s ago, nothing out of step

NAME  STATE  SINCE  PID   DEATHS 1h/24h  LAST CAUSE  NEXT
web   up     1h00m  4711  0/0            -           -

1 entity: 1 up
"
    );
}

#[test]
fn trouble_comes_first_and_is_loud() {
    assert_eq!(
        status(&troubled(), &look(None)),
        "\
pmon 0.1.0 on host-1 · up 3h12m · pid 812 · configuration 4 · receiver fifo:50
sources: ebpf healthy (canary 12s ago) (3 dropped) · proc-connector stands by · pidfd DEGRADED (canary 12s ago)
  pidfd: EMFILE; raise LimitNOFILE
audit: 384 sweeps, last 12s ago, 2 × pid_changed
DEGRADED: no SCHED_FIFO: grant CAP_SYS_NICE
CONFIG: /etc/pmon.d/x.conf:3:1: error: unknown mode `pasive`

NAME  STATE              SINCE  PID   DEATHS 1h/24h  LAST CAUSE                       NEXT
db    FAILED (critical)  1h00m  -     0/0            3 recoveries failed: exit 1      nothing until `pmon restart db`
mail  recovering         0s     -     0/0            died                             attempt 2 of 3 in 3.20 s
log   down               1h00m  -     0/0            -                                -
web   up                 2m59s  4711  1/2            SIGKILL by bash[812], 3m00s ago  -

4 entities: 1 FAILED, 1 recovering, 1 down, 1 up
"
    );
}

#[test]
fn eighty_columns_are_kept() {
    let text = status(&troubled(), &look(Some(80)));
    let table: Vec<_> = text
        .lines()
        .skip_while(|line| !line.starts_with("NAME"))
        .collect();
    assert_eq!(
        table[..5].join("\n"),
        "\
NAME  STATE              SINCE  PID   DEATHS 1h/24h  LAST CAUSE     NEXT
db    FAILED (critical)  1h00m  -     0/0            3 recoveries…  nothing unt…
mail  recovering         0s     -     0/0            died           attempt 2 o…
log   down               1h00m  -     0/0            -              -
web   up                 2m59s  4711  1/2            SIGKILL by b…  -"
    );
}

#[test]
fn colour_only_adds() {
    let plain = status(&troubled(), &look(None));
    let coloured = status(
        &troubled(),
        &Look {
            colour: true,
            ..look(None)
        },
    );
    assert!(coloured.contains("\u{1b}["));
    assert!(!plain.contains('\u{1b}'));
    let mut stripped = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        stripped.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    stripped.push_str(rest);
    assert_eq!(stripped, plain);
}

#[test]
fn nothing_from_outside_reaches_the_terminal_raw() {
    let mut view = troubled();
    let evil = "\u{1b}[2J\r\n\u{7}".to_owned();
    view.host.clone_from(&evil);
    view.degraded = vec![evil.clone()];
    view.config_findings = vec![evil.clone()];
    view.sources[2].reason = Some(evil.clone());
    view.audit.discrepancies.insert(evil.clone(), 1);
    for entity in &mut view.entities {
        entity.name.clone_from(&evil);
        entity.problem = Some(evil.clone());
        entity.next_action = Some(evil.clone());
    }
    let text = status(&view, &look(None));
    assert!(
        !text.chars().any(|c| c.is_control() && c != '\n'),
        "{text:?}"
    );
    assert!(text.contains("\\u{1b}[2J\\r\\n"));
}

#[test]
fn no_entities_is_said() {
    let text = status(&samples::status(Vec::new()), &look(None));
    assert!(text.ends_with("\nno entities are monitored\n"), "{text}");
}
