//! One module per behaviour, named as a sentence. All in one program, so that
//! it is linked once.
#![expect(clippy::unwrap_used, reason = "tests")]

mod a_bad_configuration_is_named;
mod a_bad_pidfile_is_never_followed;
mod a_bad_request_is_refused;
mod a_bad_start_ends_in_a_defined_state;
mod a_broken_pin_directory_is_repaired;
mod a_changed_pidfile_is_seen_at_once;
mod a_daemon_hands_over_without_a_gap;
mod a_daemon_that_forks_is_followed;
mod a_daemon_without_descriptors_goes_on;
mod a_daemons_restart_forgets_nothing;
mod a_death_has_a_certificate;
mod a_death_is_told_early_to_those_who_ask;
mod a_failed_source_is_replaced;

mod a_group_is_restarted_in_order;
mod a_held_entity_is_left_alone;
mod a_killed_daemon_misses_no_death;
mod a_killed_process_is_recovered;
mod a_leaders_exit_is_not_a_death;
mod a_manual_restart_is_not_repeated;
mod a_missing_privilege_degrades;
mod a_reused_pid_is_a_stranger;
mod a_second_instance_raises_an_alarm;
mod a_short_life_is_reported_once;
mod a_siblings_start_is_not_somebody_elses;
mod a_starlingx_host_is_served;
mod a_status_needs_no_privilege;
mod a_status_script_is_asked;
mod a_stop_has_an_order;
mod a_stopped_daemon_misses_no_death;
mod a_storm_is_restrained_and_told;
mod a_thousand_kills_are_each_recovered_once;
mod an_active_process_must_answer;
mod an_adoption_window_lets_others_go_first;
mod an_alarm_outlives_the_daemon;
mod an_altered_table_is_put_right;
mod an_idle_daemon_sleeps;
mod another_layouts_pins_are_taken_over;
mod commands_come_by_datagram;
mod each_discrepancy_is_explained;
mod every_kernel_does_what_it_can;
mod every_kill_has_its_order;
mod messages_that_are_cut_off_are_told;
mod records_of_another_version_are_passed_over;
mod runs_are_counted_while_somebody_looks;
mod the_kernel_side_can_be_inspected;
mod the_kernel_side_logs_when_asked;
mod the_proc_connector_alone_detects_and_recovers;
mod two_daemons_stay_apart;
