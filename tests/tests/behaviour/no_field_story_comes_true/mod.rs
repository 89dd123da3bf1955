//! The field stories of spec/pmond.md §11.2: what went wrong on real hosts with the
//! original, each with the test that would fail if it could happen here.
//!
//! The table is checked by `index`: every story is in it, and every test in it
//! exists and says whose story it is, in its name or in its documentation. Tests
//! that tell of a story alone are in this directory; others are where their
//! behaviour is.
//!
//! | story | test | what is asserted |
//! |---|---|---|
//! | S1 | `tests/tests/behaviour/no_field_story_comes_true/killing.rs::s01_a_process_that_is_killed_for_a_restart_is_no_death` | 240 restarts in pmond's place: unregistered, pidfile, signal, in this order; no death told, no petting missed |
//! | S2 | `tests/tests/behaviour/no_field_story_comes_true/killing.rs::s02_no_real_time_signal_is_used_for_anything` | none is caught, blocked, ignored or passed on; deaths and timers work although whoever started pmon had blocked them |
//! | S3 | `tests/tests/behaviour/a_starlingx_host_is_served.rs::s3_the_petting_goes_on_while_every_recovery_hangs` | hostwd and hbsClient are told all the while |
//! | S4 | `tests/tests/behaviour/a_starlingx_host_is_served.rs::s4_a_part_that_is_not_configured_is_not_monitored` | sweeps do not promote what is deferred |
//! | S4 | `pmon-user/src/core/recovery/tests/gates.rs::s4_no_audit_promotes_what_is_deferred` | nor does anything else that is seen |
//! | S5 | `tests/tests/behaviour/no_field_story_comes_true/restarting.rs::s05_a_manual_restart_waits_for_a_late_pidfile_and_counts_nothing` | a late pidfile is in time; a crash afterwards is a first one; the alarm comes on pass `restarts` + 1 |
//! | S5 | `pmon-user/src/core/recovery/tests/manual.rs::s5_a_manual_restart_waits_and_counts_nothing` | the same at pmond's own times |
//! | S6 | `tests/tests/behaviour/no_field_story_comes_true/telling.rs::s06_an_old_alarm_is_cleared_once_its_receiver_is_back_and_delays_nobody_until_then` | cleared two daemons later, recovery and petting going on |
//! | S7 | `tests/tests/behaviour/a_status_script_is_asked.rs::and_v14_counts_its_failures` | cleared by the name under which it was raised, whatever the text file says by then |
//! | S7 | `pmon-user/src/core/recovery/tests/status.rs::s7_an_alarm_of_an_earlier_daemon_is_cleared_by_its_own_name_and_soon` | and by the next daemon |
//! | S8 | `tests/tests/behaviour/a_unit_has_one_master.rs::s8_nothing_is_started_while_the_host_goes_down` | with a real systemd |
//! | S9 | `tests/tests/behaviour/a_unit_has_one_master.rs::s9_s11_a_start_that_takes_longer_than_its_window_is_not_ended` | a job that is under way is waited for |
//! | S10 | `tests/tests/behaviour/no_field_story_comes_true/restarting.rs::s10_a_start_that_takes_longer_than_its_window_is_neither_ended_nor_a_failure` | a start command that is at work as well, after a death and for an operator |
//! | S11 | `tests/tests/behaviour/a_unit_has_one_master.rs::s9_s11_a_start_that_takes_longer_than_its_window_is_not_ended` | no alarm, one start |
//! | S12 | `tests/tests/behaviour/a_unit_has_one_master.rs::s12_a_restart_by_somebody_is_adopted_and_not_repeated` | one start for each restart |
//! | S12 | `tests/tests/behaviour/a_unit_has_one_master.rs::s12_s21_what_systemd_restarts_is_left_to_it_and_people_are_told` | `Restart=` is named, and not raced |
//! | S12 | `tests/tests/behaviour/a_unit_has_one_master.rs::s12_a_unit_that_is_taken_over_is_restarted_by_pmon_alone_and_given_back` | or pmon has it alone |
//! | S13 | `tests/tests/behaviour/a_unit_has_one_master.rs::s13_a_stop_is_not_fought_and_a_later_start_is_adopted` | stopped by an operator stays stopped |
//! | S13 | `tests/tests/behaviour/a_unit_has_one_master.rs::s13_a_stop_that_takes_long_is_not_cancelled_by_a_start` | and the job succeeds |
//! | S14 | `tests/tests/behaviour/no_field_story_comes_true/restarting.rs::s14_nothing_is_done_to_it_before_the_last_configuration` | kills, restarts, a reload and another daemon meanwhile: nothing started, signalled or told |
//! | S15 | `tests/tests/behaviour/no_field_story_comes_true/configuring.rs::s15_a_service_is_found_by_either_name_and_a_wrong_name_is_told` | `pmon-restart` by unit name restarts the process; a missing unit is a finding, a missing pidfile an alarm |
//! | S15 | `tests/tests/behaviour/a_held_entity_is_left_alone.rs::and_s15_the_originals_commands_say_what_has_become_of_them` | exit codes of the original's commands |
//! | S16 | `tests/tests/behaviour/changed_files_are_put_into_force.rs::and_s16_a_directory_that_is_gone_takes_nothing_with_it` | monitored all the while, and told |
//! | S17 | `tests/tests/behaviour/no_field_story_comes_true/configuring.rs::s17_a_file_is_in_force_by_itself_however_it_comes` | moved into place, replaced, written in pieces |
//! | S18 | `pmon-user/src/core/recovery/tests/status.rs::s18_the_first_question_waits_for_a_period_unless_a_failure_is_known` | nothing is started at boot before a period is over |
//! | S19 | `pmon-user/src/effect/tests/status_script.rs::a_question_runs_in_cgroups_of_its_own` | scripts are outside of pmon's own cgroup |
//! | S20 | `tests/tests/behaviour/no_field_story_comes_true/telling.rs::s20_a_stop_leaves_hostwd_the_whole_of_its_allowance` | the last word at a stop, and the first deed of the next daemon |
//! | S21 | `tests/tests/behaviour/a_unit_has_one_master.rs::s21_what_systemd_has_given_up_is_started` | handed from systemd to pmon, once |
//! | S22 | `tests/tests/behaviour/a_starlingx_host_is_served.rs::s22_without_a_hostwd_it_works_and_a_late_one_is_told` | comes up without one |

mod configuring;
mod index;
mod killing;
mod restarting;
mod telling;
